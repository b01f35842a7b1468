"""Section 7: adaptive depth while training; beside it the same network at full depth."""

from __future__ import annotations

from typing import Any

import numpy as np

from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.transient_dynamics.networks import SEEDS as USUAL_SEEDS
from resdyn.papers.transient_dynamics.networks import by_seed, case, logistic, test_errors
from resdyn.training import AdaptiveDepth

KINDS = ("free", "shared")
SEEDS: dict[Scale, tuple[int, ...]] = USUAL_SEEDS | {"paper": (0, 1, 2)}


def run(lab: Lab) -> None:
    """Layers left, test error, and the difference to the network that kept all layers: over seeds, or image by image
    where there is one seed. The pictures are of the first seed."""
    courses: dict[str, list[dict[str, Any]]] = {}
    for kind in KINDS:
        rule = AdaptiveDepth(blocks=["blocks"])
        depths, errors, losses = [], [], []
        for seed in SEEDS[lab.scale]:
            shrunk = lab.trained(case(lab.scale, kind, seed), [rule])
            courses.setdefault(kind, shrunk.found[0])
            depths.append(logistic(shrunk).depth)
            errors.append(test_errors(lab, shrunk))
            losses.append(errors[-1] - test_errors(lab, lab.trained(case(lab.scale, kind, seed))))
        over, found = by_seed("test images", errors)
        note = (
            f"{courses[kind][0]['depths']['blocks']} layers before; threshold {rule.threshold:g}; seed by seed {depths}"
        )
        lab.record(f"{kind}.depth", depths, "seeds", note)
        lab.record(f"{kind}.error", found, over, "adaptive depth")
        differences = by_seed("test images", losses)[1]
        lab.record(f"{kind}.error_whole", found - differences, over, "all layers kept")
        note = "error with adaptive depth less error with all layers, image by image"
        lab.record(f"{kind}.loss", differences, over, note)
    lab.picture("depth", _picture(courses, "layers", lambda row: row["depths"]["blocks"]))
    lab.picture("gap", _picture(courses, "gap of the last two residuals", lambda row: row["gaps"].get("blocks"), True))


def _picture(courses: dict[str, list[dict[str, Any]]], what: str, value: Any, log: bool = False) -> dict[str, Any]:
    rows = []
    for kind, course in courses.items():
        y = np.array([value(row) for row in course], dtype=float)
        rows.append(pictures.series(f"{kind} weights", [r["epoch"] for r in course], np.where(y > 0, y, np.nan)))
    return pictures.lines(f"Adaptive depth: {what}, after each epoch", "section 7", rows, "epoch", what, log=log)
