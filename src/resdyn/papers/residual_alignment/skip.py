"""Figure 6: without skip connections there is no alignment; also for convolutional networks (types 5a, 5b)."""

from __future__ import annotations

import dataclasses

from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.networks import SEEDS, case, small_data
from resdyn.papers.residual_alignment.twins import compare_twins

EPOCHS = 15  # of all images of CIFAR-10, at scale small, where there is one seed; the paper trains 500


def run(lab: Lab) -> None:
    """Types 4a (with skips) and 4b (without), the same data, recipe and seeds."""
    _compare(lab, "skip", "type4", small_data(lab.scale))


def run_cifar10(lab: Lab) -> None:
    """The same on all images of CIFAR-10, the data of the figure."""
    _compare(lab, "cifar10", "type4", "digits" if lab.scale == "tiny" else "cifar10", all_images=True)


def run_convolutional(lab: Lab) -> None:
    """Types 5a and 5b."""
    _compare(lab, "convolutional", "type5", small_data(lab.scale))


def _compare(lab: Lab, label: str, kind: str, data: str, all_images: bool = False) -> None:
    twins = {}
    for name, letter in (("with", "a"), ("without", "b")):
        cases = [case(lab.scale, f"{kind}{letter}", data, seed) for seed in SEEDS[lab.scale]]
        twins[name] = [_whole(cases[0])] if all_images and lab.scale == "small" else cases
    compare_twins(lab, label, twins)


def _whole(chosen: Case) -> Case:
    """Of all images, and so of fewer epochs."""
    return dataclasses.replace(chosen, images=None, recipe=dataclasses.replace(chosen.recipe, epochs=EPOCHS))
