"""Figure 5: stochastic depth amplifies alignment."""

from __future__ import annotations

import dataclasses
from typing import Any

from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.networks import SEEDS, case, small_data
from resdyn.papers.residual_alignment.twins import compare_twins

DROP = 0.3  # probability of leaving a block out
EPOCHS = 50  # of the paper's figure


def run(lab: Lab) -> None:
    """The same networks trained with blocks left out at random, and without. The paper's are of type 3."""
    compare_twins(lab, "depth", {
        "stochastic": [_case(lab, seed, drop=DROP) for seed in SEEDS[lab.scale]],
        "plain": [_case(lab, seed) for seed in SEEDS[lab.scale]],
    })  # fmt: skip


def _case(lab: Lab, seed: int, **options: Any) -> Case:
    kind = "type3" if lab.scale == "paper" else "type4a"
    made = case(lab.scale, kind, small_data(lab.scale), seed, **options)
    if lab.scale != "paper":
        return made
    return dataclasses.replace(made, recipe=dataclasses.replace(made.recipe, epochs=EPOCHS))
