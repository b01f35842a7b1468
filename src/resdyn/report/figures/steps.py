"""RA1 over depth: do successive steps point the same way, and are they equally long?"""

from __future__ import annotations

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn.metrics.line import line_geometry
from resdyn.report.figures.profile import Profile, draw, draw_paper
from resdyn.report.view import has, sample_ids


def collinearity(ds: xr.Dataset) -> go.Figure | None:
    """Cosine of the steps into and out of each state; 1 on a straight line.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the trajectory probe, or where no stage has three states.
    """
    profile = collinearity_profile(ds)
    return None if profile is None else draw(profile, range=_range(profile))


def step_lengths(ds: xr.Dataset) -> go.Figure | None:
    """Length of each step over the mean length in its sample and stage; 1 when equispaced.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the trajectory probe, or where no step has a length.
    """
    profile = step_length_profile(ds)
    return None if profile is None else draw(profile, rangemode="tozero")


def collinearity_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `collinearity` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the trajectory probe, or where no stage has three states.
    """
    profile = collinearity_profile(ds)
    return None if profile is None else draw_paper(profile, ylim=_range(profile))


def step_lengths_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `step_lengths` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the trajectory probe, or where no step has a length.
    """
    profile = step_length_profile(ds)
    return None if profile is None else draw_paper(profile)


def collinearity_profile(ds: xr.Dataset) -> Profile | None:
    if not has(ds, "states"):
        return None
    values = line_geometry(ds)["collinearity"].values
    if not np.isfinite(values).any():
        return None
    titles = "depth i of the state", "cosine of the steps at i"
    return Profile(ds["depth"].values, values, sample_ids(ds), *titles)


def step_length_profile(ds: xr.Dataset) -> Profile | None:
    if not has(ds, "states"):
        return None
    lengths = line_geometry(ds)["step_length"].values
    if not (lengths > 0).any():
        return None
    stage = ds["stage_of_depth"].values
    relative = np.full(lengths.shape, np.nan)
    for s in np.unique(stage):
        own = lengths[:, stage == s]
        known = np.isfinite(own)
        total = np.where(known, own, 0.0).sum(axis=1, keepdims=True)
        count = known.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            relative[:, stage == s] = own * count / total
    title = "step length / mean of its stage"
    return Profile(ds["depth"].values, relative, sample_ids(ds), "depth i the step starts from", title)


def _range(profile: Profile) -> tuple[float, float]:
    """From just below the smallest cosine, but never a narrower view than 0 to 1."""
    return min(0.0, float(np.nanmin(profile.values)) - 0.05), 1.05
