"""Neural collapse NC1 to NC4 over depth, and for the features that the classifier reads."""

from __future__ import annotations

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn.metrics.collapse import neural_collapse
from resdyn.report.figures.panel import COLOURS, Panel
from resdyn.report.theme import MARKERS, SYMBOLS, figure, paper_style

FEATURES = "classifier input"
NC1 = Panel(
    "NC1: variability within classes",
    "scatter within / between classes",
    (("within_class_variability", "tr(Σw Σb⁺)/C"), ("within_between_ratio", "tr Σw / tr Σb")),
    log=True,
)
NC2 = Panel(
    "NC2: distance from a simplex",
    "distance from a simplex",
    (
        ("equinorm", "spread of norms"),
        ("equiangularity", "spread of cosines"),
        ("maximal_angle", "|cos + 1/(C−1)|"),
    ),
)
NC34 = Panel(
    "NC3, NC4: classifier and nearest mean",
    "share (NC4), distance (NC3)",
    (
        ("nearest_mean_disagreement", "NC4: disagrees with nearest mean"),
        ("self_duality", "NC3: classifier vs means"),
    ),
)


def collapse_variability(ds: xr.Dataset) -> go.Figure | None:
    """NC1 over depth: scatter within classes against scatter between them, on a logarithmic scale.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the features probe, or with nothing known of NC1.
    """
    return _draw(ds, NC1)


def collapse_simplex(ds: xr.Dataset) -> go.Figure | None:
    """NC2 over depth: how far the class means are from a simplex equiangular tight frame.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the features probe, or with nothing known of NC2.
    """
    return _draw(ds, NC2)


def collapse_decision(ds: xr.Dataset) -> go.Figure | None:
    """NC4 over depth, and NC3 where there is a linear classifier.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the features probe, or with nothing known of either.
    """
    return _draw(ds, NC34)


def collapse_variability_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `collapse_variability` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the features probe, or with nothing known of NC1.
    """
    return _draw_paper(ds, NC1)


def collapse_simplex_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `collapse_simplex` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the features probe, or with nothing known of NC2.
    """
    return _draw_paper(ds, NC2)


def collapse_decision_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `collapse_decision` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the features probe, or with nothing known of either.
    """
    return _draw_paper(ds, NC34)


def _lines(ds: xr.Dataset, panel: Panel) -> list[tuple[str, np.ndarray]]:
    """(legend, values), depths first and the classifier's input last; lines of NaN alone are dropped."""
    if "class_count" not in ds:
        return []
    collapse = neural_collapse(ds)
    depths = ds.sizes.get("depth", 0)
    lines = []
    for name, legend in panel.lines:
        over_depth = collapse[name].values if name in collapse else np.full(depths, np.nan)
        last = float(collapse[f"feature_{name}"]) if f"feature_{name}" in collapse else np.nan
        values = np.append(over_depth, last)
        values = panel.drawable(values)
        if np.isfinite(values).any():
            lines.append((legend, values))
    return lines


def _ticks(lines: list, ds: xr.Dataset) -> tuple[list[int], list[str]]:
    """Positions and names on the horizontal axis, thinned for deep networks."""
    depths = [int(d) for d in ds["depth"].values]
    step = 1 if len(depths) <= 12 else -(-len(depths) // 8)
    kept = list(range(0, len(depths), step))
    positions, names = kept, [str(depths[k]) for k in kept]
    if any(np.isfinite(values[-1]) for _, values in lines):
        return [*positions, len(depths)], [*names, "out"]
    return positions, names


def _draw(ds: xr.Dataset, panel: Panel) -> go.Figure | None:
    lines = _lines(ds, panel)
    if not lines:
        return None
    traces = [_trace(k, legend, values) for k, (legend, values) in enumerate(lines)]
    drawn = figure(traces, height=360)
    positions, names = _ticks(lines, ds)
    drawn.update_xaxes(
        title_text=f"depth (out: {FEATURES})",
        tickvals=positions,
        ticktext=names,
        range=[-0.4, len(lines[0][1]) - 0.6],
    )
    return panel.scale(drawn, 0, _top(lines))


def _trace(k: int, legend: str, values: np.ndarray) -> go.Scatter:
    """A line over depth, and the classifier's input as a separate, larger marker."""
    gap = np.concatenate([values[:-1], [np.nan, values[-1]]])
    x = [*range(len(values) - 1), len(values) - 1.5, len(values) - 1]
    return go.Scatter(
        x=x,
        y=gap,
        mode="lines+markers",
        name=legend,
        line={"color": COLOURS[k], "width": 2},
        marker={"size": [6] * len(values) + [11], "symbol": SYMBOLS[k], "opacity": 1, "line": {"width": 0}},
        text=[f"depth {d}" for d in range(len(values) - 1)] + ["", FEATURES],
        hovertemplate="%{text}: %{y:.4g}<extra>%{fullData.name}</extra>",
    )


def _draw_paper(ds: xr.Dataset, panel: Panel) -> mf.Figure | None:
    lines = _lines(ds, panel)
    if not lines:
        return None
    with paper_style():
        drawn = mf.Figure(figsize=(3.3, 2.6))
        axis = drawn.subplots()
        for k, (legend, values) in enumerate(lines):
            end = len(values) - 1
            axis.plot(range(end), values[:-1], marker=MARKERS[k], color=COLOURS[k], label=legend)
            axis.plot(end, values[-1], marker=MARKERS[k], color=COLOURS[k], markersize=6)
        axis.set_xticks(*_ticks(lines, ds))
        axis.set(xlabel=f"depth (out: {FEATURES})", title=panel.title)
        panel.scale_paper(axis, 0, _top(lines))
    return drawn


def _top(lines: list[tuple[str, np.ndarray]]) -> float:
    return max(0.1, 1.08 * max(float(np.nanmax(values)) for _, values in lines))
