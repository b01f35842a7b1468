"""Effects of changing the network or its input: changed branches, noise on weights, paths to the boundary, pruning,
plain twins."""

from resdyn.interventions.boundary import boundary_points
from resdyn.interventions.branches import Contributions, ablate, add, contributions, project_out, replace, scale
from resdyn.interventions.noise import NoiseResponse, noise_response
from resdyn.interventions.transfer import to_plain, to_residual

__all__ = [
    "Contributions",
    "NoiseResponse",
    "ablate",
    "add",
    "boundary_points",
    "contributions",
    "noise_response",
    "project_out",
    "replace",
    "scale",
    "to_plain",
    "to_residual",
]
