"""RA1 in the metrics table: line shape and spacing of the states, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from resdyn.metrics.line import line_geometry
from resdyn.metrics.summary.metric import Metric, over_samples, row_means
from resdyn.metrics.summary.registry import Summary

GAI = "Gai and Zhang (2021)"
LI = "Li and Papyan (2023)"
TEXTS = {
    "line_shape_score": ("RA1 line-shape score", "1 when straight, larger when the path bends", GAI),
    "tortuosity": ("RA1 path length over distance of ends", "1 when the path is straight", "arc-chord ratio"),
    "collinearity": ("RA1 mean cosine of successive steps", "1 on a line, 0 at right angles", LI),
    "equispacing": ("RA1 coefficient of variation of step lengths", "0 when equispaced", LI),
}


def rows(ds: xr.Dataset) -> Iterator[Metric]:
    """Four numbers per stage."""
    geometry = line_geometry(ds)
    stage_of_depth = ds["stage_of_depth"].values
    for stage in geometry["stage"].values:
        depths = np.flatnonzero(stage_of_depth == stage)
        where = f"stage {stage} (depths {depths[0]}-{depths[-1]})"
        steps = depths.size - 1
        short = "" if steps > 1 else "fewer than two steps in this stage"
        chance = f"about {steps**0.5:.2f} by chance ({steps} unrelated steps)" if steps > 1 else short
        cosines = geometry["collinearity"].values[:, depths[1:-1]]
        for name in ("line_shape_score", "tortuosity", "collinearity", "equispacing"):
            values = row_means(cosines) if name == "collinearity" else geometry[name].sel(stage=stage).values
            yield over_samples(name, values, where, chance if name == "line_shape_score" else short)


SUMMARY = Summary(rows, TEXTS)
