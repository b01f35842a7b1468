"""Figures of a stored array against depth, ready to be put into a section."""

from __future__ import annotations

from functools import partial

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn.errors import InputError
from resdyn.report.comparison.overlay import Overlay, Values
from resdyn.report.figures.profile import Profile, draw, draw_paper
from resdyn.report.sections.section import ReportFigure
from resdyn.report.sentences import Wording
from resdyn.report.view import has, sample_ids

AXES = {"block": "block", "depth": "depth"}


def profile_figure(variable: str, title: str, how: str, y_title: str, wording: Wording = ()) -> ReportFigure:
    """A figure of an array (sample, block) or (sample, depth): samples as faint lines, their mean with its error.

    Args:
        variable: The stored array; also the figure's name.
        title: Its caption.
        how: How to read it.
        y_title: The vertical axis, with the unit.
        wording: (metric, words) pairs: the numbers below the figure.

    Returns:
        The figure, for a `Section`. Drawing it raises InputError for an array of other dimensions.

    Example:
        >>> profile_figure("step_norm", "Step norms", "One line per sample.", "norm").name
        'step_norm'
    """
    profile = partial(_profile, variable=variable, y_title=y_title)
    return ReportFigure(variable, title, how, partial(_draw, make=profile), partial(_draw_paper, make=profile), wording)


def profile_overlay(variable: str, title: str, how: str, y_title: str, axis: str = "block") -> Overlay:
    """A figure for comparisons of an array (sample, block) or (sample, depth): a line per run.

    Args:
        variable: The stored array; also the figure's name.
        title: Its caption.
        how: How to read it.
        y_title: The vertical axis, with the unit.
        axis: "block" or "depth", the array's other dimension.

    Returns:
        The figure, for the `overlays` of a `Phenomenon`.
    """

    def values(ds: xr.Dataset) -> Values | None:
        profile = _profile(ds, variable, y_title)
        return None if profile is None else (profile.depth, profile.values)

    return Overlay(variable, title, how, axis, y_title, values)


def _profile(ds: xr.Dataset, variable: str, y_title: str) -> Profile | None:
    if not has(ds, variable):
        return None
    array = ds[variable]
    axis = next((dim for dim in AXES if set(array.dims) == {"sample", dim}), None)
    if axis is None:
        raise InputError(
            f"'{variable}' has the dimensions {array.dims}, expected (sample, block) or (sample, depth) for a profile"
        )
    values = array.transpose("sample", axis).values.astype(np.float64)
    return Profile(ds[axis].values, values, sample_ids(ds), f"{AXES[axis]}, counted from 0", y_title)


def _draw(ds: xr.Dataset, make: partial[Profile | None]) -> go.Figure | None:
    profile = make(ds)
    return None if profile is None else draw(profile)


def _draw_paper(ds: xr.Dataset, make: partial[Profile | None]) -> mf.Figure | None:
    profile = make(ds)
    return None if profile is None else draw_paper(profile)
