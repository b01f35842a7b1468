"""resdyn: find the residual stream inside any PyTorch model and measure it as a dynamical system."""

from resdyn import accessor, integrations, metrics, nets
from resdyn._version import __version__
from resdyn.boundary import boundary_points
from resdyn.capture import capture
from resdyn.data import load_data, load_text
from resdyn.linalg._eigen_result import EigenResult
from resdyn.linalg.eig import eigenvalues
from resdyn.linalg.svd import SVDResult, svd
from resdyn.models import load_model
from resdyn.noise import NoiseResponse, noise_response
from resdyn.report import write_comparison, write_report
from resdyn.store import open
from resdyn.stream import ResidualBlock, ResidualStream, States, TokenStream, find_stream, stream_from_blocks
from resdyn.training import Monitor
from resdyn.transfer import to_plain, to_residual

__all__ = [
    "EigenResult",
    "Monitor",
    "NoiseResponse",
    "ResidualBlock",
    "ResidualStream",
    "SVDResult",
    "States",
    "TokenStream",
    "__version__",
    "accessor",
    "boundary_points",
    "capture",
    "eigenvalues",
    "find_stream",
    "integrations",
    "load_data",
    "load_model",
    "load_text",
    "metrics",
    "nets",
    "noise_response",
    "open",
    "stream_from_blocks",
    "svd",
    "to_plain",
    "to_residual",
    "write_comparison",
    "write_report",
]
