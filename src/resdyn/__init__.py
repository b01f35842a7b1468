"""resdyn: find the residual stream inside any PyTorch model and measure it as a dynamical system.

Importing the package costs nothing: a name loads the module that holds it when it is first used (PEP 562), so that
`resdyn --help` never waits for PyTorch.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from resdyn._moved import forward_moved_modules
from resdyn._version import __version__

if TYPE_CHECKING:
    from resdyn import accessor, integrations, linalg, metrics, nets
    from resdyn.capturing.run import capture
    from resdyn.data import load_data, load_text
    from resdyn.interventions import NoiseResponse, boundary_points, noise_response, to_plain, to_residual
    from resdyn.interventions.pruning import prune
    from resdyn.linalg import EigenResult, SVDResult, eigenvalues, svd
    from resdyn.models import load_model, untrained_twin
    from resdyn.monitor import Monitor
    from resdyn.phenomena import Phenomenon, register
    from resdyn.report import write_comparison, write_report
    from resdyn.store import open_store
    from resdyn.stream import ResidualBlock, ResidualStream, States, TokenStream, find_stream, stream_from_blocks
    from resdyn.transporting import (
        CompressedTransport,
        Transport,
        compressed_transport,
        load_transport,
        merge_transports,
        transport,
    )

__all__ = [
    "CompressedTransport",
    "EigenResult",
    "Monitor",
    "NoiseResponse",
    "Phenomenon",
    "ResidualBlock",
    "ResidualStream",
    "SVDResult",
    "States",
    "TokenStream",
    "Transport",
    "__version__",
    "accessor",
    "boundary_points",
    "capture",
    "compressed_transport",
    "eigenvalues",
    "find_stream",
    "integrations",
    "linalg",
    "load_data",
    "load_model",
    "load_text",
    "load_transport",
    "merge_transports",
    "metrics",
    "nets",
    "noise_response",
    "open_store",
    "prune",
    "register",
    "stream_from_blocks",
    "svd",
    "to_plain",
    "to_residual",
    "transport",
    "untrained_twin",
    "write_comparison",
    "write_report",
]

_NAMES = {
    "resdyn.capturing.run": ("capture",),
    "resdyn.data": ("load_data", "load_text"),
    "resdyn.interventions": ("NoiseResponse", "boundary_points", "noise_response", "to_plain", "to_residual"),
    "resdyn.interventions.pruning": ("prune",),
    "resdyn.linalg": ("EigenResult", "SVDResult", "eigenvalues", "svd"),
    "resdyn.models": ("load_model", "untrained_twin"),
    "resdyn.monitor": ("Monitor",),
    "resdyn.phenomena": ("Phenomenon", "register"),
    "resdyn.report": ("write_comparison", "write_report"),
    "resdyn.store": ("open_store",),
    "resdyn.stream": (
        "ResidualBlock",
        "ResidualStream",
        "States",
        "TokenStream",
        "find_stream",
        "stream_from_blocks",
    ),
    "resdyn.transporting": (
        "CompressedTransport",
        "Transport",
        "compressed_transport",
        "load_transport",
        "merge_transports",
        "transport",
    ),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = (
    "accessor",
    "data",
    "errors",
    "integrations",
    "interventions",
    "linalg",
    "metrics",
    "models",
    "monitor",
    "nets",
    "papers",
    "phenomena",
    "probes",
    "report",
    "store",
    "stream",
    "training",
    "transporting",
)

forward_moved_modules()
if "xarray" in sys.modules:
    importlib.import_module("resdyn.accessor")  # `Dataset.resdyn`; otherwise with the first name that needs xarray


def __getattr__(name: str) -> Any:
    if name == "open":  # not in __all__: a star import must not hide the builtin
        return __getattr__("open_store")
    if name in _MODULES:
        return importlib.import_module(f"resdyn.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'resdyn' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    if "xarray" in sys.modules:
        importlib.import_module("resdyn.accessor")
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "open"})
