"""Measurements that need the model.

A probe is a frozen dataclass of settings with a `name`, `layout(stream, num_classes)`, the arrays that it writes, and
`measure(sample, num_classes)`, which returns them (see `Probe`). Any object of this form can be passed to
`resdyn.capture`; one that is registered (`register_probe`, `resdyn.register`) is known by name, too.
"""

from __future__ import annotations

from typing import Any

from resdyn.probes.coupling import Coupling
from resdyn.probes.cushion import Cushion
from resdyn.probes.features import Features
from resdyn.probes.lyapunov import Lyapunov
from resdyn.probes.parse import fit_probes, parse_probes, resolve_probes
from resdyn.probes.protocol import Batches, Probe, Traits, traits
from resdyn.probes.registry import register_probe, registered_probes
from resdyn.probes.robustness import Robustness
from resdyn.probes.sample import Layout, Sample, float_dtype
from resdyn.probes.singular import Singular
from resdyn.probes.spectrum import Spectrum
from resdyn.probes.trajectory import Trajectory

__all__ = [
    "Batches",
    "Coupling",
    "Cushion",
    "Features",
    "Layout",
    "Lyapunov",
    "Probe",
    "Robustness",
    "Sample",
    "Singular",
    "Spectrum",
    "Traits",
    "Trajectory",
    "fit_probes",
    "float_dtype",
    "parse_probes",
    "register_probe",
    "registered_probes",
    "resolve_probes",
    "traits",
]


def __getattr__(name: str) -> Any:
    if name == "PROBES":
        import warnings

        warnings.warn(
            "resdyn.probes.PROBES will be removed in the next version; call resdyn.probes.registered_probes()",
            DeprecationWarning,
            stacklevel=2,
        )
        return registered_probes()
    raise AttributeError(f"module 'resdyn.probes' has no attribute {name!r}")
