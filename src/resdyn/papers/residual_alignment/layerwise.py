"""Caption of figure 1: with alignment comes layer-wise neural collapse, classes that tighten from block to block."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.networks import SEEDS, case, small_data

MEASURES = {"within_class_variability": "NC1", "nearest_mean_disagreement": "NC4"}


def run(lab: Lab) -> None:
    """NC1 and NC4 at every depth of type 4a, over the training images, seed by seed."""
    rows = []
    data = small_data(lab.scale)
    for seed in SEEDS[lab.scale]:
        ds = lab.measured(lab.trained(case(lab.scale, "type4a", data, seed)), "features", 1)
        found = metrics.neural_collapse(ds)
        rows.append(np.array([found[name].values for name in MEASURES]))
    courses = np.array(rows)  # (seed, measure, depth)
    depth = np.arange(courses.shape[-1])
    for k, (name, short) in enumerate(MEASURES.items()):
        values = courses[:, k]
        falls = [spearmanr(depth, row).statistic for row in values]
        lab.record(f"{name}.rank_correlation", falls, "seeds", f"{short} against depth, Spearman's")
        with np.errstate(divide="ignore", invalid="ignore"):
            lab.record(f"{name}.ratio", values[:, -1] / values[:, 0], "seeds", f"{short} of the last state over x_0")
        lab.record(f"{name}.last", values[:, -1], "seeds", f"{short} of the last state")
    series = [pictures.series(short, depth, courses.mean(0)[k]) for k, short in enumerate(MEASURES.values())]
    title = "Neural collapse from state to state, type 4a, training images"
    lab.picture("course", pictures.lines(title, "caption of figure 1", series, "depth", "NC1, NC4", log=True))
