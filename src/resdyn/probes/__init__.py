"""Dear questions to a model: the only room that touches one.

A probe is a frozen dataclass of settings with a `name`, `layout(stream, n_classes)`: the variables that
it writes, as name -> (dims, shape, dtype) without the sample axis, and `measure(...)`, which returns their
arrays: of one `Sample`, or, where `per_sample` is False, of all batches of the data.
"""

from __future__ import annotations

from resdyn.probes.coupling import Coupling
from resdyn.probes.cushion import Cushion
from resdyn.probes.features import Features
from resdyn.probes.parse import PROBES, Probe, fit_probes, parse_probes, resolve_probes
from resdyn.probes.robustness import Robustness
from resdyn.probes.sample import Sample
from resdyn.probes.singular import Singular
from resdyn.probes.spectrum import Spectrum
from resdyn.probes.trajectory import Trajectory

__all__ = [
    "PROBES",
    "Coupling",
    "Cushion",
    "Features",
    "Probe",
    "Robustness",
    "Sample",
    "Singular",
    "Spectrum",
    "Trajectory",
    "fit_probes",
    "parse_probes",
    "resolve_probes",
]
