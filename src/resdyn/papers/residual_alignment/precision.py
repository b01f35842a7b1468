"""Beyond the paper: does training in bfloat16 change what is claimed of the network, by more than another seed does?

Networks of the same seed, trained with and without `autocast`, are measured alike, in float32. `shift` is the
difference in units of the standard deviation over the seeds in float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from resdyn import metrics
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.late import diagonal_energy, late_states
from resdyn.papers.residual_alignment.networks import SEEDS, case, measured, small_data

MEASURES = {
    "uv": "diagonal energy of U_j' J_i V_j",
    "collinearity": "mean cosine of successive steps, last half of the blocks",
    "equispacing": "std over mean of step lengths, last half of the blocks",
    "slope": "slope of 1/s_1",
    "accuracy": "test accuracy, per cent",
    "loss": "training loss of the last epoch",
}


def comparison(kind: str) -> Callable[[Lab], None]:
    """The experiment that compares both precisions for networks of a type."""

    def run(lab: Lab) -> None:
        seeds, data = SEEDS[lab.scale], small_data(lab.scale)
        full = np.array([_of_case(lab, case(lab.scale, kind, data, seed)) for seed in seeds])
        half = np.array([_of_case(lab, in_bfloat16(case(lab.scale, kind, data, seed))) for seed in seeds])
        for k, (name, what) in enumerate(MEASURES.items()):
            _record(lab, f"{kind}.{name}", what, full[:, k], half[:, k])

    return run


def in_bfloat16(chosen: Case) -> Case:
    """The same case with products in bfloat16 while training."""
    return dataclasses.replace(chosen, recipe=dataclasses.replace(chosen.recipe, autocast="bfloat16"))


def _record(lab: Lab, key: str, what: str, full: NDArray[np.float64], half: NDArray[np.float64]) -> None:
    spread = full.std(ddof=1)
    lab.record(f"{key}.float32", full, "seeds", what)
    lab.record(f"{key}.bfloat16", half, "seeds", what)
    lab.record(f"{key}.difference", half - full, "seeds", f"{what}, bfloat16 less float32, seed by seed")
    shift = (half - full) / (spread if spread > 0 else np.nan)
    lab.record(f"{key}.shift", shift, "seeds", f"{what}, the difference over the standard deviation of the seeds")


def _of_case(lab: Lab, chosen: Case) -> list[float]:
    ds = measured(lab, lab.trained(chosen))
    states, row = late_states(ds), lab.result.networks[chosen.name]
    return [
        float(np.nanmean(diagonal_energy(ds))),
        float(np.mean(metrics.collinearity(states))),
        float(np.mean(metrics.equispacing(states))),
        metrics.inverse_scaling(ds)[0].slope,
        100 * row["test_accuracy"],
        row["train_loss"],
    ]
