"""Section 6: test error of the networks."""

from __future__ import annotations

import math

from resdyn.papers.lab import Lab
from resdyn.papers.transient_dynamics.networks import NETWORKS, SEEDS, case


def run(lab: Lab) -> None:
    """Per cent of the test images that are misclassified, over seeds."""
    for kind in NETWORKS:
        errors = []
        for seed in SEEDS[lab.scale]:
            chosen = case(lab.scale, kind, seed)
            lab.trained(chosen)
            row = lab.result.networks[chosen.name]
            errors.append(100 * (1 - row["test_accuracy"]))
        images = row["test_images"]
        p = errors[0] / 100
        sampling = 100 * math.sqrt(p * (1 - p) / images)
        note = f"binomial standard error of one network on {images} test images: {sampling:.2g}"
        lab.record(f"{kind}.error", errors, "seeds", note)
