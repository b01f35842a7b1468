"""Table 1: test accuracy of the networks that are measured."""

from __future__ import annotations

from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.networks import main_cases


def run(lab: Lab) -> None:
    """Per cent of the test images; beside each its training images and epochs."""
    for label, case in main_cases(lab.scale):
        lab.trained(case)
        row = lab.result.networks[case.name]
        note = f"{row['images']} training images, {case.recipe.epochs} epochs, seed {case.recipe.seed}"
        lab.record(f"{label}.accuracy", 100 * row["test_accuracy"], note=note)
