"""RA4: one over the top singular value against depth, with its fitted line."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr
from matplotlib.ticker import MaxNLocator

from resdyn.metrics.parts import BlockGroup, block_names
from resdyn.metrics.rank import converged_singular_values
from resdyn.metrics.scaling import InverseScalingFit
from resdyn.metrics.summary.singular import scaling_lines
from resdyn.report.figures.profile import MAX_LINES, MEAN_HOVER, whole_ticks
from resdyn.report.theme import ACCENT, PALETTE, SECOND, figure, paper_style, plain
from resdyn.report.view import Array, has, mean_and_error, sample_ids

LINE_COLOURS = (SECOND, PALETTE[4], PALETTE[2], PALETTE[5])


@dataclass(frozen=True)
class Scaling:
    """1/s_1 (sample, block) against the 1-based block number, and the line where there are enough blocks."""

    number: Array
    inverse: Array
    samples: list[int]
    names: list[str]
    fits: list[tuple[BlockGroup, InverseScalingFit]]

    def line(self, group: BlockGroup, fit: InverseScalingFit) -> tuple[Array, Array]:
        """Ends of the fitted line."""
        ends = np.array([fit.start, self.number[group.positions].max()])
        return ends, fit.intercept + fit.slope * ends

    @property
    def start(self) -> float | None:
        """Where the dotted line is: before the first block of the only fitted line, unless that is the first of all."""
        if len(self.fits) != 1 or self.fits[0][1].start <= self.number.min():
            return None
        return self.fits[0][1].start - 0.5


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
    for k in range(len(scaling.fits)):
        drawn.add_trace(_line(scaling, k))
    if scaling.start is not None:
        drawn.add_vline(x=scaling.start, line={"dash": "dot", "width": 1, "color": PALETTE[8]})
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
        for colour, (group, fit) in zip(LINE_COLOURS, scaling.fits, strict=False):
            axis.plot(*scaling.line(group, fit), color=colour, label=" ".join(_fit_texts(group, fit)))
        if scaling.start is not None:
            axis.axvline(scaling.start, color=PALETTE[8], linestyle=":", linewidth=0.7)
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
    return Scaling(ds["block"].values + 1, inverse, sample_ids(ds), block_names(ds), scaling_lines(ds))


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
        text=[plain(name, 60) for name in scaling.names],
        hovertemplate=f"block number %{{x}} (%{{text}})<br>{MEAN_HOVER}",
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


def _line(scaling: Scaling, number: int) -> go.Scatter:
    group, fit = scaling.fits[number]
    x, y = scaling.line(group, fit)
    line = {"color": LINE_COLOURS[number % len(LINE_COLOURS)], "width": 2}
    name = "<br>".join(_fit_texts(group, fit))  # a phone cuts what is longer
    return go.Scatter(x=x, y=y, mode="lines", name=name, line=line, hoverinfo="skip")


def _fit_texts(group: BlockGroup, fit: InverseScalingFit) -> list[str]:
    """The group of blocks, where there are several, and the line."""
    text = f"slope {fit.slope:.3g}, adjusted R² = {fit.r_squared_adjusted:.3f}".replace("-", "−")
    return [f"{plain(group.label, 60)}:", text] if group.label else [text]
