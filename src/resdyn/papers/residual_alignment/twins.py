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
from resdyn.papers.residual_alignment.ra2 import draw_couplings, record_vectors

PARTS = {"": "all blocks", "_late": "last half of the blocks"}


def compare_twins(lab: Lab, label: str, twins: dict[str, list[Case]]) -> None:
    """Record the diagonal energy of both kinds (names in `twins`, one case a seed) and their difference.

    The difference is taken seed by seed, and image by image for the first seed, whose images are the same for both.
    """
    energies = {name: _energies(lab, f"{label}.{name}", cases) for name, cases in twins.items()}
    (first, a), (second, b) = energies.items()
    for (suffix, blocks), gap in zip(PARTS.items(), a - b, strict=True):
        note = f"diagonal energy of {first} minus {second}, {blocks}"
        lab.record(f"{label}.difference{suffix}", np.nanmean(gap, axis=1), "seeds", note)
        lab.record(f"{label}.difference{suffix}_by_image", gap[0], "training images", f"{note}, first seed")


def _energies(lab: Lab, key: str, cases: list[Case]) -> NDArray[np.float64]:
    """Diagonal energy (part, seed, image); the first seed is drawn."""
    energies: list[list[NDArray[np.float64]]] = []
    for case in cases:
        ds = measured(lab, lab.trained(case))
        energies.append([diagonal_energy(ds, late=bool(part)) for part in PARTS])
        accuracy = lab.result.networks[case.name]["test_accuracy"]
        lab.record(f"{key}.s{case.recipe.seed}.accuracy", 100 * accuracy)
        if case is cases[0]:
            draw_couplings(lab, key, ds)
            record_vectors(lab, key, ds)
    found = np.array(energies).swapaxes(0, 1)
    for (suffix, blocks), part in zip(PARTS.items(), found, strict=True):
        lab.record(f"{key}.energy{suffix}", np.nanmean(part, axis=1), "seeds", f"{blocks}, {_note(ds)}")
    return found


def _note(ds: xr.Dataset) -> str:
    return f"K = {ds.sizes['rank']}, {metrics.expected_diagonal_energy(ds.sizes['rank']):.2g} by chance"
