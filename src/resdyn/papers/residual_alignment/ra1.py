"""RA1 (figures 1 and 8 to 16): are the states of a training image equispaced on a line?"""

from __future__ import annotations

import numpy as np

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.residual_alignment.late import late_states

OVER = "training images"
IMAGES: dict[Scale, int] = {"tiny": 10, "small": 100, "paper": 100}


def measure(lab: Lab, label: str, case: Case) -> None:
    """Line-shape score over all depths of the last stage; cosine and evenness of the steps in the last half."""
    ds = lab.measured(lab.trained(case), "trajectory", IMAGES[lab.scale])
    states = late_states(ds)
    whole = metrics.line_geometry(ds).isel(stage=-1)
    lab.record(f"{label}.collinearity", metrics.collinearity(states).mean(-1), OVER, "last half of the blocks")
    lab.record(f"{label}.equispacing", metrics.equispacing(states), OVER, "last half of the blocks")
    lab.record(f"{label}.line_shape_score", whole["line_shape_score"].values, OVER, "whole last stage")
    lab.record(f"{label}.equispacing_all", whole["equispacing"].values, OVER, "whole last stage")
    directions = np.random.default_rng(0).standard_normal((states.shape[-1], 2)) / states.shape[-1] ** 0.5
    title = f"{label}: states of the last stage on two random directions"
    points = late_states(ds, whole=True) @ directions
    lab.picture(f"{label}.states", pictures.paths(title, "figures 1, 8-16", points, ds["label"].values))
