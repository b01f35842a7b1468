"""Figure 5: stochastic depth amplifies alignment. Type 3 as in the figure, and type 4a, whose seeds are cheap."""

from __future__ import annotations

import dataclasses

from resdyn.papers.case import Case
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.residual_alignment.networks import SEEDS, case, small_data
from resdyn.papers.residual_alignment.twins import compare_twins

DROP = 0.3  # probability of leaving a block out
EPOCHS = 50  # of the paper's figure
TYPE3_SEEDS: dict[Scale, tuple[int, ...]] = {"tiny": (0,), "small": (0, 1, 2), "paper": (0, 1, 2)}


def run(lab: Lab) -> None:
    """Type 4a trained with blocks left out at random, and without."""
    _compare(lab, "depth", "type4a", SEEDS[lab.scale])


def run_type3(lab: Lab) -> None:
    """Type 3 on CIFAR10 likewise."""
    _compare(lab, "type3", "type3", TYPE3_SEEDS[lab.scale])


def twin(scale: Scale, kind: str, seed: int, **options: float) -> Case:
    """One of the two, on CIFAR10 if it is of type 3."""
    data = "cifar10" if kind == "type3" and scale != "tiny" else small_data(scale)
    made = case(scale, kind, data, seed, None, **options)
    epochs = EPOCHS if scale == "paper" else made.recipe.epochs
    return dataclasses.replace(made, recipe=dataclasses.replace(made.recipe, epochs=epochs))


def _compare(lab: Lab, label: str, kind: str, seeds: tuple[int, ...]) -> None:
    compare_twins(
        lab,
        label,
        {
            "stochastic": [twin(lab.scale, kind, seed, drop=DROP) for seed in seeds],
            "plain": [twin(lab.scale, kind, seed) for seed in seeds],
        },
    )
