"""Section 6: test error of the networks."""

from __future__ import annotations

from resdyn.papers.lab import Lab
from resdyn.papers.transient_dynamics.networks import NETWORKS, SEEDS, by_seed, case, test_errors


def run(lab: Lab) -> None:
    """Per cent of the test images that are misclassified: over seeds, or over images where there is one seed.

    The paper takes it that several fixed points (shared weights) generalise better than one (free weights).
    """
    means = {}
    for kind in NETWORKS:
        errors = [test_errors(lab, lab.trained(case(lab.scale, kind, seed))) for seed in SEEDS[lab.scale]]
        over, values = by_seed("test images", errors)
        lab.record(f"{kind}.error", values, over, f"{len(errors)} seed(s)")
        means[kind] = values
    note = "error of free weights less that of shared ones"
    lab.record("several_fixed_points.gain", means["free"] - means["shared"], over, note)
