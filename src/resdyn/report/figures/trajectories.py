"""Where the states of each sample travel: projections on two principal and on two random directions."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn._format import percent
from resdyn.report.theme import (
    MARKERS,
    SYMBOLS,
    class_colour,
    class_symbol,
    figure,
    menu,
    paper_style,
    plain,
    shortened,
)
from resdyn.report.view import Array, class_name, has, labels, sample_ids, stage_states, stages

MAX_SAMPLES = 100
RANDOM_SEED = 0


@dataclass(frozen=True)
class Projection:
    """Two coordinates (sample, depth, 2) of the states of one stage."""

    stage: int
    depths: Array
    samples: Array
    points: Array
    axes: tuple[str, str]


def principal_trajectories(ds: xr.Dataset) -> go.Figure | None:
    """Trajectories on the two directions of largest variance of the stage's states.

    At most 100 samples; the drop-down offers the stages, the longest first.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the trajectory probe.
    """
    return _draw(ds, _projections(ds, _principal))


def random_trajectories(ds: xr.Dataset) -> go.Figure | None:
    """Trajectories on two random directions, the same every time.

    At most 100 samples; the drop-down offers the stages, the longest first.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the trajectory probe.

    Source:
        Li and Papyan (2023), figure 1.
    """
    return _draw(ds, _projections(ds, _random))


def principal_trajectories_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `principal_trajectories` for print.

    All stages side by side.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the trajectory probe.
    """
    return _draw_paper(ds, _projections(ds, _principal))


def random_trajectories_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `random_trajectories` for print.

    All stages side by side.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the trajectory probe.
    """
    return _draw_paper(ds, _projections(ds, _random))


def _projections(ds: xr.Dataset, project) -> list[Projection]:
    """One projection for each stage of at least two states, the longest stage first."""
    if not has(ds, "states"):
        return []
    found = []
    for stage, depths in sorted(stages(ds), key=lambda s: (-len(s[1]), -s[0])):
        states, kept = stage_states(ds, depths, MAX_SAMPLES)
        if len(kept):
            centred, said = _centred(states)
            points, axes = project(centred)
            axes = (f"{axes[0]}{said}", f"{axes[1]}{said}")
            found.append(Projection(stage, ds["depth"].values[depths], kept, points, axes))
    return found


def _centred(states: Array) -> tuple[Array, str]:
    """States less the mean of their sample, where samples differ more than they move: else nothing else is seen."""
    middle = states.mean(axis=1, keepdims=True)
    between = float(((middle - middle.mean(axis=0)) ** 2).sum()) * states.shape[1]
    moved = float(((states - middle) ** 2).sum())
    if between <= moved or len(states) < 2:
        return states, ""
    return states - middle, f"\nsamples centred: {percent(moved / (between + moved), digits=0)} of all variance"


def _principal(states: Array) -> tuple[Array, tuple[str, str]]:
    rows = states.reshape(-1, states.shape[-1])
    rows = rows - rows.mean(axis=0)
    # The smaller of the two Gram matrices: states are often far larger than their number.
    wide = rows.shape[1] > rows.shape[0]
    squares, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    top = np.maximum(squares[::-1][:2], 0.0)
    axes = vectors[:, ::-1][:, :2]
    points = axes * np.sqrt(top) if wide else rows @ axes
    points = points * np.where(points[np.abs(points).argmax(axis=0), np.arange(len(top))] < 0, -1.0, 1.0)
    points = np.pad(points, ((0, 0), (0, 2 - len(top))))
    share = np.pad(top, (0, 2 - len(top))) / max(squares.sum(), np.finfo(float).tiny)
    names = tuple(f"principal axis {k + 1} ({percent(share[k], digits=0)} of variance)" for k in range(2))
    return points.reshape(*states.shape[:2], 2), names  # type: ignore[return-value]


def _random(states: Array) -> tuple[Array, tuple[str, str]]:
    directions = np.random.default_rng(RANDOM_SEED).standard_normal((states.shape[-1], 2))
    return states @ (directions / np.linalg.norm(directions, axis=0)), ("random axis 1", "random axis 2")


def _classes(ds: xr.Dataset, samples: Array) -> list[tuple[int, str, Array]]:
    """(class, name, positions within the projection); one nameless class where labels are missing."""
    known = labels(ds)
    if known is None:
        return [(0, "samples", np.arange(len(samples)))]
    own = known[samples]
    return [(int(c), class_name(ds, int(c)), np.flatnonzero(own == c)) for c in np.unique(own)]


def _draw(ds: xr.Dataset, projections: list[Projection]) -> go.Figure | None:
    if not projections:
        return None
    traces, owner = [], []
    for number, projection in enumerate(projections):
        for c, name, rows in _classes(ds, projection.samples):
            traces.append(_trace(ds, projection, c, name, rows).update(visible=number == 0))
            owner.append(number)
    drawn = figure(traces, height=620, meta={"aspect": 1.0, "extra": 60}, **_axes(projections[0]))
    if len(projections) > 1:
        args: list[list[dict]] = [[{"visible": [o == k for o in owner]}, _titles(p)] for k, p in enumerate(projections)]
        drawn.update_layout(updatemenus=menu([_stage_title(p) for p in projections], args))
    return drawn


def _trace(ds: xr.Dataset, projection: Projection, c: int, name: str, rows: Array) -> go.Scatter:
    """All trajectories of one class as one line, broken between samples by NaN."""
    points = projection.points[rows]
    broken = np.concatenate([points, np.full((len(rows), 1, 2), np.nan)], axis=1).reshape(-1, 2)
    length = len(projection.depths)
    sizes = np.tile(np.concatenate([np.linspace(3.5, 5, length - 1), [9, 1]]), len(rows))
    return go.Scatter(
        x=broken[:, 0].astype(np.float32),
        y=broken[:, 1].astype(np.float32),
        mode="lines+markers",
        name=plain(name, 28),
        text=_hover(ds, projection, rows),
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        line={"color": class_colour(c), "width": 1.3},
        marker={
            "size": sizes.astype(np.float32),
            "symbol": SYMBOLS[class_symbol(c)],
            "color": class_colour(c),
            "opacity": 1,
            "line": {"width": 0},
        },
    )


def _hover(ds: xr.Dataset, projection: Projection, rows: Array) -> list[str]:
    """One line for each point: sample, depth, and the prediction where it is wrong."""
    ids, known = sample_ids(ds), labels(ds)
    predicted = ds["prediction"].values if "prediction" in ds else None
    lines = []
    for position in projection.samples[rows]:
        note = ""
        if predicted is not None and known is not None and 0 <= predicted[position] != known[position]:
            note = f"<br>predicted: {plain(class_name(ds, int(predicted[position])))}"
        lines += [f"sample {ids[position]}, depth {d}{note}" for d in projection.depths] + [""]
    return lines


def _stage_title(projection: Projection) -> str:
    return f"stage {projection.stage} (depths {projection.depths[0]} to {projection.depths[-1]})"


def _titles(projection: Projection) -> dict[str, str]:
    across, up = (title.replace("\n", "<br>") for title in projection.axes)
    return {"xaxis.title.text": across, "yaxis.title.text": up}


def _axes(projection: Projection) -> dict:
    across, up = (title.replace("\n", "<br>") for title in projection.axes)
    return {
        "xaxis": {"title": {"text": across}},
        "yaxis": {"title": {"text": up}, "scaleanchor": "x"},
    }


def _draw_paper(ds: xr.Dataset, projections: list[Projection]) -> mf.Figure | None:
    if not projections:
        return None
    with paper_style():
        drawn = mf.Figure(figsize=(3.4 * len(projections) + 0.8, 3.8))
        for axis, projection in zip(drawn.subplots(1, len(projections), squeeze=False)[0], projections):
            _panel(axis, ds, projection)
        axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return drawn


def _panel(axis, ds: xr.Dataset, projection: Projection) -> None:
    for c, name, rows in _classes(ds, projection.samples):
        colour, marker = class_colour(c), MARKERS[class_symbol(c)]
        for k, path in enumerate(projection.points[rows]):
            label = _legend_name(name) if k == 0 else None
            axis.plot(*path.T, marker=marker, color=colour, linewidth=0.6, markersize=1.8, label=label)
            axis.plot(*path[-1], marker=marker, color=colour, markersize=3.5)
    axis.set(xlabel=projection.axes[0], ylabel=projection.axes[1], title=_stage_title(projection))
    axis.set_aspect("equal", adjustable="datalim")


def _legend_name(name: str, limit: int = 24) -> str:
    """A class name short enough for a legend; a leading underscore would hide it in matplotlib."""
    short = shortened(name, limit)
    return f" {short}" if short.startswith("_") else short
