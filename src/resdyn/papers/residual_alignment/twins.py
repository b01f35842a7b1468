"""Two kinds of networks that differ in one thing, over seeds: does it change alignment?"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn import metrics
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.late import diagonal_energy
from resdyn.papers.residual_alignment.networks import measured
from resdyn.papers.residual_alignment.ra2 import draw_couplings


def compare_twins(lab: Lab, label: str, twins: dict[str, list[Case]]) -> None:
    """Record the diagonal energy of both kinds (names in `twins`, one case a seed) and their difference, by seed."""
    energies = {name: _energies(lab, f"{label}.{name}", cases) for name, cases in twins.items()}
    (first, a), (second, b) = energies.items()
    lab.record(f"{label}.difference", a - b, "seeds", f"diagonal energy of {first} minus {second}, seed by seed")


def _energies(lab: Lab, key: str, cases: list[Case]) -> NDArray[np.float64]:
    """Mean diagonal energy over images, one number a seed; the first seed is drawn."""
    energies: list[float] = []
    for case in cases:
        ds = measured(lab, lab.trained(case))
        energies.append(float(np.nanmean(diagonal_energy(ds))))
        accuracy = lab.result.networks[case.name]["test_accuracy"]
        lab.record(f"{key}.s{case.recipe.seed}.accuracy", 100 * accuracy)
        if case is cases[0]:
            draw_couplings(lab, key, ds)
    lab.record(f"{key}.energy", energies, "seeds", _note(ds))
    return np.array(energies)


def _note(ds: xr.Dataset) -> str:
    return f"K = {ds.sizes['rank']}, {metrics.expected_diagonal_energy(ds.sizes['rank']):.2g} by chance"
