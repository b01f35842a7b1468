"""Residual alignment and neural collapse as the network trained, from the rows of a training monitor."""

from __future__ import annotations

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn.report.figures.panel import COLOURS, Panel
from resdyn.report.theme import MARKERS, SYMBOLS, figure, paper_style

ALIGNMENT = Panel(
    "residual alignment",
    "cosine, energy, R²",
    (
        ("collinearity", "RA1: cosine of steps"),
        ("diagonal_energy_uv", "RA2: energy on the diagonal"),
        ("inverse_scaling_r_squared", "RA4: R² of 1/s₁"),
    ),
)
COLLAPSE = Panel(
    "neural collapse and loss",
    "NC1, loss",
    (("within_class_variability", "NC1: tr(Σw Σb⁺)/C"), ("loss", "training loss")),
    log=True,
)


def training_alignment(ds: xr.Dataset) -> go.Figure | None:
    """RA1, RA2 and RA4 against epochs or steps.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without rows of a training monitor, or where no quantity was measured twice.
    """
    return _draw(ds, ALIGNMENT)


def training_collapse(ds: xr.Dataset) -> go.Figure | None:
    """NC1 and the loss against epochs or steps, on a logarithmic scale.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without rows of a training monitor, or where no quantity was measured twice.
    """
    return _draw(ds, COLLAPSE)


def training_alignment_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `training_alignment` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without rows of a training monitor, or where no quantity was measured twice.
    """
    return _draw_paper(ds, ALIGNMENT)


def training_collapse_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `training_collapse` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without rows of a training monitor, or where no quantity was measured twice.
    """
    return _draw_paper(ds, COLLAPSE)


def _lines(ds: xr.Dataset, panel: Panel) -> tuple[str, np.ndarray, list[tuple[str, np.ndarray, np.ndarray]]]:
    """The unit of the rows, how many of it were done, and (legend, values, errors or 0) of what was watched."""
    rows = ds.attrs.get("training") or []
    unit = "step" if rows and all("step" in row for row in rows) else "epoch"
    done = np.array([row.get(unit, np.nan) for row in rows], dtype=float)
    lines = []
    for name, legend in panel.lines:
        values = np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=float)
        if np.isfinite(values).sum() > 1:
            errors = np.array([(row.get("standard_errors") or {}).get(name) or 0.0 for row in rows], dtype=float)
            lines.append((legend, panel.drawable(values), errors))
    return unit, done, lines


def _draw(ds: xr.Dataset, panel: Panel) -> go.Figure | None:
    unit, done, lines = _lines(ds, panel)
    if not lines:
        return None
    traces = [
        go.Scatter(
            x=done,
            y=values,
            error_y={"type": "data", "array": errors, "thickness": 1, "width": 2},
            text=[f" ± {error:.2g}" if error else "" for error in errors],
            mode="lines+markers",
            name=legend,
            line={"color": COLOURS[k], "width": 2},
            marker={"size": 6, "symbol": SYMBOLS[k]},
            hovertemplate=f"{unit} %{{x}}: %{{y:.4g}}%{{text}}<extra>%{{fullData.name}}</extra>",
        )
        for k, (legend, values, errors) in enumerate(lines)
    ]
    drawn = figure(traces, height=360)
    drawn.update_xaxes(title_text=f"{unit}s done")
    return panel.scale(drawn, _bottom(lines), 1.05)


def _draw_paper(ds: xr.Dataset, panel: Panel) -> mf.Figure | None:
    unit, done, lines = _lines(ds, panel)
    if not lines:
        return None
    with paper_style():
        drawn = mf.Figure(figsize=(3.3, 2.6))
        axis = drawn.subplots()
        for k, (legend, values, errors) in enumerate(lines):
            axis.errorbar(done, values, errors, marker=MARKERS[k], color=COLOURS[k], label=legend, elinewidth=0.6)
        axis.set(xlabel=f"{unit}s done", title=panel.title)
        panel.scale_paper(axis, _bottom(lines), 1.05)
    return drawn


def _bottom(lines: list[tuple[str, np.ndarray, np.ndarray]]) -> float:
    return min(0.0, *(float(np.nanmin(values - errors)) for _, values, errors in lines))
