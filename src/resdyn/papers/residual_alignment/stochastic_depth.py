"""Figure 5: stochastic depth amplifies alignment."""

from __future__ import annotations

import dataclasses
from typing import Any

from resdyn.papers.case import Case
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.residual_alignment.networks import SEEDS, case, small_data
from resdyn.papers.residual_alignment.twins import compare_twins

DROP = 0.3  # probability of leaving a block out
EPOCHS = 50  # of the paper's figure
NARROW: dict[str, Any] = {"width": 32, "image_size": 16}  # at scale small
IMAGES = 2_500


def run(lab: Lab) -> None:
    """The same networks trained with blocks left out at random, and without: type 3 as in the figure, and type 4a."""
    for kind in ("type3", "type4a"):
        compare_twins(lab, kind, {
            "stochastic": [twin(lab.scale, kind, seed, DROP) for seed in SEEDS[lab.scale]],
            "plain": [twin(lab.scale, kind, seed) for seed in SEEDS[lab.scale]],
        })  # fmt: skip


def twin(scale: Scale, kind: str, seed: int, drop: float = 0.0) -> Case:
    """One of the two; at scale `small` type 3 has half its channels and sees some images of 16x16."""
    options: dict[str, Any] = {"drop": drop} if drop else {}
    if kind != "type3" or scale == "tiny":
        return case(scale, kind, small_data(scale), seed, **options)
    images, own = (IMAGES, NARROW) if scale == "small" else (None, {})
    made = case(scale, kind, "cifar10", seed, **own, **options)
    return dataclasses.replace(made, images=images, recipe=dataclasses.replace(made.recipe, epochs=EPOCHS))
