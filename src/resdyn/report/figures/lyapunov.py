"""Finite-time Lyapunov exponents: samples, their mean and its error."""

from __future__ import annotations

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn.report.figures import profile
from resdyn.report.view import has, sample_ids


def lyapunov_exponents(ds: xr.Dataset) -> go.Figure | None:
    """The exponents of the whole stream by rank: each sample, their mean and its error.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the lyapunov probe.
    """
    found = _profile(ds)
    return None if found is None else profile.draw(found)


def lyapunov_exponents_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `lyapunov_exponents` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the lyapunov probe.
    """
    found = _profile(ds)
    return None if found is None else profile.draw_paper(found)


def _profile(ds: xr.Dataset) -> profile.Profile | None:
    if not has(ds, "lyapunov_exponent"):
        return None
    values = ds["lyapunov_exponent"].values
    ranks = np.arange(1, values.shape[1] + 1)
    return profile.Profile(ranks, values, sample_ids(ds), "rank", "exponent per block", complete=True)
