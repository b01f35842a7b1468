"""Effects of changing the network or its input: noise on weights, paths to the boundary, pruning, plain twins."""

from resdyn.interventions.boundary import boundary_points
from resdyn.interventions.noise import NoiseResponse, noise_response
from resdyn.interventions.transfer import to_plain, to_residual

__all__ = ["NoiseResponse", "boundary_points", "noise_response", "to_plain", "to_residual"]
