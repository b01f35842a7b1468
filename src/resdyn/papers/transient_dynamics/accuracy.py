"""Section 6: test error of the networks."""

from __future__ import annotations

from resdyn.papers.lab import Lab
from resdyn.papers.transient_dynamics.networks import NETWORKS, SEEDS, case, test_errors


def run(lab: Lab) -> None:
    """Per cent of the test images that are misclassified: over seeds, or over images where there is one seed."""
    for kind in NETWORKS:
        errors = [test_errors(lab, lab.trained(case(lab.scale, kind, seed))) for seed in SEEDS[lab.scale]]
        over = ("test images", errors[0]) if len(errors) == 1 else ("seeds", [e.mean() for e in errors])
        lab.record(f"{kind}.error", over[1], over[0], f"{len(errors)} seed(s)")
