"""RA4: one over the top singular value against depth, with its fitted line."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr
from matplotlib.ticker import MaxNLocator

from resdyn.errors import InputError
from resdyn.metrics.rank import converged_singular_values
from resdyn.metrics.scaling import InverseScalingFit
from resdyn.metrics.scaling import inverse_scaling as fit_inverse_scaling
from resdyn.report.figures.profile import MAX_LINES, MEAN_HOVER, whole_ticks
from resdyn.report.theme import ACCENT, PALETTE, SECOND, figure, paper_style
from resdyn.report.view import Array, has, mean_and_error, sample_ids


@dataclass(frozen=True)
class Scaling:
    """1/s_1 (sample, block) against the 1-based block number, and the line where there are enough blocks."""

    number: Array
    inverse: Array
    samples: list[int]
    fit: InverseScalingFit | None

    def line(self, fit: InverseScalingFit) -> tuple[Array, Array]:
        """Ends of the fitted line."""
        ends = np.array([fit.start, self.number.max()])
        return ends, fit.intercept + fit.slope * ends


def inverse_scaling(ds: xr.Dataset) -> go.Figure | None:
    """Mean of 1/s_1 with standard errors, samples as dots, and the fit from where alignment begins.

    Without the line where there are too few blocks for a fit.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the singular probe.
    """
    scaling = _scaling(ds)
    if scaling is None:
        return None
    traces = ([_samples(scaling)] if len(scaling.inverse) > 1 else []) + [_mean(scaling)]
    drawn = figure(traces, height=440)
    if scaling.fit is not None:
        drawn.add_trace(_line(scaling, scaling.fit))
    if scaling.fit is not None and scaling.fit.start > scaling.number.min():
        drawn.add_vline(x=scaling.fit.start - 0.5, line={"dash": "dot", "width": 1, "color": PALETTE[8]})
    drawn.update_xaxes(title_text="block number, counted from 1", **whole_ticks(scaling.number))
    drawn.update_yaxes(title_text="1 / s<sub>1</sub>", rangemode="tozero")
    return drawn


def inverse_scaling_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `inverse_scaling` for print.

    Without the dots of single samples.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the singular probe.
    """
    scaling = _scaling(ds)
    if scaling is None:
        return None
    mean, error, n = mean_and_error(scaling.inverse)
    with paper_style():
        drawn = mf.Figure(figsize=(3.3, 2.6))
        axis = drawn.subplots()
        axis.errorbar(
            scaling.number,
            mean,
            np.nan_to_num(error),
            fmt="o",
            color=ACCENT,
            capsize=2,
            label=f"mean of {n.max()}",
        )
        if scaling.fit is not None:
            axis.plot(*scaling.line(scaling.fit), color=SECOND, label=_fit_text(scaling.fit))
        if scaling.fit is not None and scaling.fit.start > scaling.number.min():
            axis.axvline(scaling.fit.start - 0.5, color=PALETTE[8], linestyle=":", linewidth=0.7)
        axis.set(xlabel="block number, counted from 1", ylabel="1 / s₁")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(bottom=0)
        axis.legend()
    return drawn


def _scaling(ds: xr.Dataset) -> Scaling | None:
    if not has(ds, "singular_values") or "singular_converged" not in ds:
        return None
    top = converged_singular_values(ds).isel(rank=0).transpose("sample", "block").values
    inverse = np.where(top > 0, 1 / np.where(top > 0, top, 1.0), np.nan)
    if not np.isfinite(inverse).any():
        return None
    try:
        fit = fit_inverse_scaling(ds)[0]
    except InputError:  # too few blocks for a line
        fit = None
    return Scaling(ds["block"].values + 1, inverse, sample_ids(ds), fit)


def _mean(scaling: Scaling) -> go.Scatter:
    mean, error, n = mean_and_error(scaling.inverse)
    return go.Scatter(
        x=scaling.number,
        y=mean,
        error_y={"type": "data", "array": np.nan_to_num(error), "thickness": 1.2, "width": 3},
        customdata=np.stack([error, n], axis=-1),
        mode="markers",
        name=f"mean of {int(n.max())}" if len(scaling.inverse) > 1 else f"sample {scaling.samples[0]}",
        marker={"color": ACCENT, "size": 9},
        hovertemplate=f"block number %{{x}}<br>{MEAN_HOVER}",
    )


def _samples(scaling: Scaling) -> go.Scatter:
    shown = scaling.inverse[:MAX_LINES]
    return go.Scatter(
        x=np.tile(scaling.number, len(shown)),
        y=shown.ravel(),
        customdata=np.repeat(scaling.samples[:MAX_LINES], len(scaling.number)),
        mode="markers",
        name="each sample" if len(shown) == len(scaling.inverse) else f"first {len(shown)} samples",
        marker={"color": PALETTE[8], "size": 5, "opacity": 0.35},
        hovertemplate="sample %{customdata}, block number %{x}<br>%{y:.4g}<extra></extra>",
    )


def _line(scaling: Scaling, fit: InverseScalingFit) -> go.Scatter:
    x, y = scaling.line(fit)
    line = {"color": SECOND, "width": 2}
    return go.Scatter(x=x, y=y, mode="lines", name=_fit_text(fit), line=line, hoverinfo="skip")


def _fit_text(fit: InverseScalingFit) -> str:
    return f"slope {fit.slope:.3g}, adjusted R² = {fit.r_squared_adjusted:.3f}".replace("-", "−")
