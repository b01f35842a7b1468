"""The top singular values of every block, and whether they fall after the C-th."""

from __future__ import annotations

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr
from matplotlib.ticker import MaxNLocator

from resdyn.metrics.parts import block_names
from resdyn.report.figures.profile import whole_ticks
from resdyn.report.theme import ACCENT, SECOND, figure, log_axis, log_ticks, menu, paper_style, plain
from resdyn.report.view import Array, has, mean_and_error, num_classes, sample_title

MAX_CHOICES = 40


def singular_values(ds: xr.Dataset) -> go.Figure | None:
    """Top K singular values per block, the first C in one colour and the rest in another.

    Triplets that did not converge are open circles. The drop-down offers the mean over samples and the first 40
    samples.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the singular probe.
    """
    if not has(ds, "singular_values"):
        return None
    choices = _choices(ds)
    traces, owner = [], []
    for number, (_, values, error, converged) in enumerate(choices):
        for name, ranks, colour in _split(ds):
            dots = _dots(ds, values, error, converged, ranks, name, colour)
            traces.append(dots.update(visible=number == 0))
            owner.append(number)
    drawn = figure(traces, height=440)
    drawn.update_xaxes(title_text="block, counted from 0", **whole_ticks(ds["block"].values))
    drawn.update_yaxes(title_text="singular value", **log_ticks(_drawable(choices[0][1])))
    if len(choices) > 1:
        args = [[{"visible": [o == k for o in owner]}, {}] for k in range(len(choices))]
        drawn.update_layout(updatemenus=menu([plain(c[0]) for c in choices], args))
    return drawn


def singular_values_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `singular_values` for print.

    The mean over samples, or the only one; whether triplets converged is not shown.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the singular probe.
    """
    if not has(ds, "singular_values"):
        return None
    title, values, _, _ = _choices(ds)[0]
    with paper_style():
        drawn = mf.Figure(figsize=(3.6, 2.6))
        axis = drawn.subplots()
        for name, ranks, colour in _split(ds):
            x = np.repeat(ds["block"].values[:, None], len(ranks), axis=1)
            axis.plot(x.ravel(), _drawable(values[:, ranks]).ravel(), ".", color=colour, label=name, markersize=4)
        axis.set(xlabel="block, counted from 0", ylabel="singular value", title=title)
        log_axis(axis)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    return drawn


def _choices(ds: xr.Dataset) -> list[tuple[str, Array, Array, Array]]:
    """(title, values (block, rank), standard error, converged) for the mean and for single samples."""
    values = ds["singular_values"].values.astype(np.float64)
    converged = np.isfinite(values)
    if "singular_converged" in ds:
        converged = ds["singular_converged"].values.astype(bool)
    blank = np.full(values.shape[1:], np.nan)
    single = [(sample_title(ds, k), values[k], blank, converged[k]) for k in range(min(len(values), MAX_CHOICES))]
    if len(values) == 1:
        return single
    mean, error, _ = mean_and_error(values)
    return [(f"mean over {len(values)} samples", mean, error, converged.all(axis=0)), *single]


def _drawable(values: Array) -> Array:
    """The values that a logarithmic axis can show: zeros are left out."""
    return np.where(values > 0, values, np.nan)


def _split(ds: xr.Dataset) -> list[tuple[str, Array, str]]:
    """(name, rank positions, colour) of the first C values and of those after; one part without C."""
    ranks, c = np.arange(ds.sizes["rank"]), num_classes(ds)
    if c is None or c >= len(ranks):
        name = f"top {len(ranks)}" if c is None else f"top {len(ranks)} (C = {c} classes)"
        return [(name, ranks, SECOND)]
    return [
        (f"1 to {c} (C = {c} classes)", ranks[:c], SECOND),
        (f"{c + 1} to {len(ranks)}", ranks[c:], ACCENT),
    ]


def _dots(
    ds: xr.Dataset, values: Array, error: Array, converged: Array, ranks: Array, name: str, colour: str
) -> go.Scatter:
    """Dots of some ranks of every block; open where a triplet did not converge."""
    shown = np.isfinite(_drawable(values[:, ranks]))
    rank = np.broadcast_to(ranks + 1, shown.shape)[shown].astype(object)
    names = np.array([plain(name, 60) for name in block_names(ds)], dtype=object)
    ok = converged[:, ranks][shown]
    return go.Scatter(
        x=np.broadcast_to(ds["block"].values[:, None], shown.shape)[shown],
        y=values[:, ranks][shown],
        customdata=np.stack([rank, names[:, None].repeat(len(ranks), 1)[shown]], axis=-1),
        text=[_remark(e, good) for e, good in zip(error[:, ranks][shown], ok)],
        mode="markers",
        name=name,
        marker={"color": colour, "size": 7, "symbol": ["circle" if good else "circle-open" for good in ok]},
        hovertemplate="block %{customdata[1]}, rank %{customdata[0]}<br>%{y:.4g}%{text}<extra></extra>",
    )


def _remark(error: float, converged: bool) -> str:
    """What follows the value on hover: its standard error, and whether it can be trusted."""
    spread = f" ± {error:.2g}" if np.isfinite(error) else ""
    return spread if converged else f"{spread}<br>not converged"
