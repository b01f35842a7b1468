"""Figure 5: stochastic depth amplifies alignment."""

from __future__ import annotations

import dataclasses

from resdyn.papers.case import Case
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.residual_alignment.networks import SEEDS, case, small_data
from resdyn.papers.residual_alignment.twins import compare_twins

DROP = 0.3  # probability of leaving a block out
EPOCHS = 50  # of the paper's figure


def run(lab: Lab) -> None:
    """The same networks trained with blocks left out at random, and without: type 3 as in the figure, and type 4a."""
    for kind in ("type3", "type4a"):
        compare_twins(lab, kind, {
            "stochastic": [twin(lab.scale, kind, seed, drop=DROP) for seed in SEEDS[lab.scale]],
            "plain": [twin(lab.scale, kind, seed) for seed in SEEDS[lab.scale]],
        })  # fmt: skip


def twin(scale: Scale, kind: str, seed: int, **options: float) -> Case:
    """One of the two, on CIFAR10 if it is of type 3."""
    data = "cifar10" if kind == "type3" and scale != "tiny" else small_data(scale)
    made = case(scale, kind, data, seed, None, **options)
    epochs = EPOCHS if scale == "paper" and kind == "type3" else made.recipe.epochs
    return dataclasses.replace(made, recipe=dataclasses.replace(made.recipe, epochs=epochs))
