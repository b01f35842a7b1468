"""Table 1: test accuracy of the networks that are measured."""

from __future__ import annotations

from resdyn.papers.case import Case
from resdyn.papers.lab import Lab


def measure(lab: Lab, label: str, case: Case) -> None:
    """Per cent of the test images; beside each its training images and epochs."""
    lab.trained(case)
    row = lab.result.networks[case.name]
    reduced = "".join(f", {name} {value}" for name, value in case.options)
    note = f"{row['images']} training images, {case.recipe.epochs} epochs, seed {case.recipe.seed}{reduced}"
    lab.record(f"{label}.accuracy", 100 * row["test_accuracy"], note=note)
