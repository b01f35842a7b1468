"""RA1 in the metrics table: line shape and spacing of the states, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn.metrics.line import batches, line_geometry
from resdyn.metrics.summary.metric import Chance, Metric, over_samples, row_means
from resdyn.metrics.summary.registry import Summary

GAI = "Gai and Zhang (2021)"
VEIT = "Veit, Wilber and Belongie (2016)"
LI = "Li and Papyan (2023)"
TEXTS = {
    "line_shape_score": ("RA1 line-shape score", "1 when straight, larger when the path bends", GAI),
    "tortuosity": ("RA1 path length over distance of ends", "1 when the path is straight", "arc-chord ratio"),
    "collinearity": ("RA1 mean cosine of successive steps", "1 on a line, 0 at right angles", LI),
    "equispacing": ("RA1 coefficient of variation of step lengths", "0 when equispaced", LI),
    "least_relative_step": ("Least step of a block |h'-h|/|h|", "near 0: the block can perhaps be removed", VEIT),
}


def rows(ds: xr.Dataset) -> Iterator[Metric]:
    """Four numbers per stage of two steps or more; with none such, of the longest, which say so."""
    geometry = line_geometry(ds)
    stage_of_depth = ds["stage_of_depth"].values
    stages = [(stage, np.flatnonzero(stage_of_depth == stage)) for stage in geometry["stage"].values]
    longest = max((depths.size for _, depths in stages), default=0)
    for stage, depths in stages:
        if depths.size < min(3, longest):
            continue
        where = f"stage {stage} (depths {depths[0]}-{depths[-1]})"
        steps = depths.size - 1
        short = "" if steps > 1 else "fewer than two steps in this stage"
        lengths = geometry["step_length"].values[:, depths[:-1]]
        chance = _by_chance(lengths, int(ds["state_size"].values[depths[0]])) if steps > 1 else {}
        cosines = geometry["collinearity"].values[:, depths[1:-1]]
        for name in ("line_shape_score", "tortuosity", "collinearity", "equispacing"):
            values = row_means(cosines) if name == "collinearity" else geometry[name].sel(stage=stage).values
            yield over_samples(name, values, where, short, chance=chance.get(name))
    yield from _least_step(ds, geometry)


def _least_step(ds: xr.Dataset, geometry: xr.Dataset) -> Iterator[Metric]:
    """The block that changes its state least, relative to it, on average over samples."""
    states = ds["states"]
    if not ds.sizes["sample"]:
        return
    norms = np.concatenate([np.linalg.norm(np.nan_to_num(part), axis=-1) for part in batches(states)])
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = geometry["step_length"].values / norms
    relative[~np.isfinite(relative)] = np.nan
    known = np.isfinite(relative).all(0)
    if known.any():
        least = int(np.argmin(np.where(known, relative.mean(0), np.inf)))
        none = Chance("none: set by the size of the branches")
        yield over_samples("least_relative_step", relative[:, least], f"block {least}", chance=none)


def _by_chance(lengths: NDArray[np.float64], size: int) -> dict[str, Chance]:
    """Of unrelated steps, of the lengths (samples, steps) that were measured."""
    steps = lengths.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        walks = lengths.sum(1) / np.sqrt((lengths**2).sum(1))
    walk = float(np.mean(walks[np.isfinite(walks)])) if np.isfinite(walks).any() else None
    return {
        "line_shape_score": Chance(f"sqrt(T) for T = {steps} unrelated steps", steps**0.5),
        "tortuosity": Chance("sum |d| / sqrt(sum |d|^2), a random walk of the same step lengths", walk),
        "collinearity": Chance("unrelated steps; a single cosine scatters by 1/sqrt(d)", 0.0),
        "equispacing": Chance("1/sqrt(2 d), steps of d independent normal entries", (2 * size) ** -0.5),
    }


SUMMARY = Summary(rows, TEXTS)
