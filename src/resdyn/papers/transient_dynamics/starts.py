"""Section 7 at other initial weights, which the paper does not give: when can the rule of adaptive depth act at all?"""

from __future__ import annotations

import numpy as np

from resdyn.nets import LOGISTIC_STARTS
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.transient_dynamics.networks import case, logistic, test_errors
from resdyn.training import AdaptiveDepth


def run(lab: Lab) -> None:
    """Free weights from three starts: gap of the last two residuals before training, layers and error after it."""
    rows = []
    for start in LOGISTIC_STARTS:
        shrunk = lab.trained(case(lab.scale, "free", start=start), [AdaptiveDepth(blocks=["blocks"])])
        course = shrunk.found[0]
        gaps = [row["gaps"]["blocks"] for row in course if "blocks" in row["gaps"]]
        width = logistic(shrunk).classifier.in_features
        note = f"{width} neurons, {len(shrunk.data)} images"
        lab.record(f"{start}.least_gap", min(gaps[1:], default=np.nan), note=f"after any epoch; {note}")
        lab.record(f"{start}.depth", logistic(shrunk).depth, note=note)
        lab.record(f"{start}.error", test_errors(lab, shrunk), "test images", note)
        depths = [row["depths"]["blocks"] for row in course]
        rows.append(pictures.series(f"start {start}", range(len(depths)), depths))
    title = "Layers left by adaptive depth, by the start of free weights"
    lab.picture("starts", pictures.lines(title, "section 7", rows, "epoch", "layers"))
