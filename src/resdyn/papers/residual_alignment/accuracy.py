"""Table 1: test accuracy of the networks that are measured."""

from __future__ import annotations

from resdyn.papers.case import Case
from resdyn.papers.lab import Lab


def measure(lab: Lab, label: str, case: Case) -> None:
    """Per cent of the test images; beside each its training images, epochs, seed and machine."""
    lab.trained(case)
    row = lab.result.networks[case.name]
    machine = lab.result.provenance["machine"]
    reduced = "".join(f", {name} {value}" for name, value in case.options)
    note = f"{row['images']} training images, {case.recipe.epochs} epochs, seed {case.recipe.seed}{reduced}"
    note += f"; {machine['device']}, {machine['cores']} cores"
    lab.record(f"{label}.accuracy", 100 * row["test_accuracy"], note=note)
