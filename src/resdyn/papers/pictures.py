"""Pictures of a result, drawn from what the result file holds.

A picture is a dictionary with `kind`, `title`, `where` (figure of the paper) and the data of its kind: `lines`
(series x, y, error, name; xlabel, ylabel, log, logx), `paths` (points sample x depth x 2, labels), `grid` (one byte
per cell, compressed, in base64: blocks, rank, packed), `row` (matrices side by side, one byte per cell: names, rank,
cells), `heat` (a matrix, likewise, between low and high) or `scatter` (points sample x 2, labels).
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from resdyn.report.theme import MARKERS, PALETTE, SEQUENTIAL, class_colour, class_symbol, paper_style

DIGITS = 4
DPI = 160  # of what is drawn as an image: grids, and trajectories, which have thousands of marks
SPLIT = 20  # times as large as another series is the one that is given an axis of its own
CROWDED = 5  # series, beyond which the legend is placed beside the axes
COLOUR_POWER = 0.4  # entries beyond the first few are small: colours grow more slowly than they do


def lines(
    title: str,
    where: str,
    series: list[dict[str, Any]],
    xlabel: str,
    ylabel: str,
    log: bool = False,
    logx: bool = False,
) -> dict:
    """Series of points joined by lines; `log` makes the vertical axis logarithmic, `logx` the horizontal one."""
    return {
        "kind": "lines",
        "title": title,
        "where": where,
        "series": series,
        "xlabel": xlabel,
        "ylabel": ylabel,
        "log": log,
    } | ({"logx": True} if logx else {})


def series(name: str, x: ArrayLike, y: ArrayLike, error: ArrayLike | None = None, style: str = "o-") -> dict[str, Any]:
    """One series; gaps (None in the file) where y is not finite."""
    row = {"name": name, "x": _plain(x), "y": _plain(y), "style": style}
    return row if error is None else row | {"error": _plain(error)}


def paths(title: str, where: str, points: ArrayLike, labels: ArrayLike) -> dict[str, Any]:
    """Trajectories: points (sample, depth, 2), labels (sample,)."""
    rows = [[_plain(point) for point in path] for path in np.asarray(points)]
    return {"kind": "paths", "title": title, "where": where, "points": rows, "labels": np.asarray(labels).tolist()}


def grid(title: str, where: str, matrices: ArrayLike, blocks: ArrayLike) -> dict[str, Any]:
    """|matrices| (i, j, K, K), each row i of matrices relative to its largest entry, at one byte an entry."""
    size = np.abs(np.asarray(matrices, dtype=np.float64))
    largest = np.nanmax(size, axis=(1, 2, 3), keepdims=True)
    cells = np.rint(255 * np.nan_to_num(size / np.where(largest > 0, largest, 1.0))).astype(np.uint8)
    packed = zlib.compress(cells.transpose(0, 2, 1, 3).tobytes(), 9)  # most entries off the diagonal are 0
    return {
        "kind": "grid",
        "title": title,
        "where": where,
        "blocks": np.asarray(blocks).tolist(),
        "rank": size.shape[-1],
        "packed": base64.b64encode(packed).decode(),
    }


def row(title: str, where: str, matrices: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """|matrices| (K, K) by name, each relative to its largest entry, at one byte an entry."""
    size = np.abs(np.array(list(matrices.values()), dtype=np.float64))
    cells = _bytes(size / np.nanmax(size, axis=(1, 2), keepdims=True), (1, 0, 2))
    return {
        "kind": "row",
        "title": title,
        "where": where,
        "names": list(matrices),
        "rank": size.shape[-1],
        "cells": cells,
    }


def heat(title: str, where: str, matrix: ArrayLike, xlabel: str, ylabel: str) -> dict[str, Any]:
    """A matrix (rows, columns) as colours between its least and its largest entry, at one byte an entry."""
    values = np.asarray(matrix, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    cells = np.rint(255 * (values - low) / (high - low if high > low else 1.0)).astype(np.uint8)
    return {
        "kind": "heat",
        "title": title,
        "where": where,
        "xlabel": xlabel,
        "ylabel": ylabel,
        "low": float(f"{low:.{DIGITS}g}"),
        "high": float(f"{high:.{DIGITS}g}"),
        "rows": len(values),
        "cells": base64.b64encode(cells.tobytes()).decode(),
    }


def scatter(title: str, where: str, points: ArrayLike, labels: ArrayLike, xlabel: str, ylabel: str) -> dict[str, Any]:
    """Points (sample, 2), coloured by labels (sample,)."""
    rows = [_plain(point) for point in np.asarray(points)]
    return {
        "kind": "scatter",
        "title": title,
        "where": where,
        "points": rows,
        "labels": np.asarray(labels).tolist(),
        "xlabel": xlabel,
        "ylabel": ylabel,
    }


def draw(picture: dict[str, Any]) -> str:
    """The picture as a data URI of an SVG."""
    with paper_style(), mpl.rc_context({"svg.hashsalt": "resdyn", "svg.fonttype": "none"}):
        kinds = {
            "lines": _lines,
            "paths": _paths,
            "grid": _grid,
            "row": _row,
            "heat": _heat,
            "scatter": _scatter,
        }
        drawn = kinds[picture["kind"]](picture)
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="svg", dpi=DPI, metadata={"Date": None}, facecolor="white")
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _lines(picture: dict[str, Any]) -> Figure:
    panels = _panels(picture)
    crowded = len(picture["series"]) > CROWDED
    width, height = (5.4, 2.8) if crowded else (3.4, 2.6)
    drawn = Figure(figsize=(width, height * (1 + 0.7 * (len(panels) - 1))))
    axes = drawn.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, numbers in zip(axes, panels, strict=True):
        _draw_lines(axis, picture, numbers, crowded)
    for axis in axes[:-1]:
        axis.set(xlabel="")
    return drawn


def _panels(picture: dict[str, Any]) -> list[list[int]]:
    """Which series share an axis: one beside which another would be a flat line, errors included, has its own."""
    sizes = [_size(row) for row in picture["series"]]
    largest = max(sizes, default=0.0)
    small = [n for n, size in enumerate(sizes) if SPLIT * size < largest]
    if picture["log"] or not small or not any(sizes[n] > 0 for n in small):
        return [list(range(len(sizes)))]
    return [small, [n for n in range(len(sizes)) if n not in small]]


def _size(row: dict[str, Any]) -> float:
    """The largest |y| that a series reaches, with its errors."""
    y, error = (np.array(row.get(name, [0.0]), dtype=float) for name in ("y", "error"))
    return float(np.nanmax(np.abs(np.nan_to_num(y)) + np.nan_to_num(error), initial=0.0))


def _draw_lines(axis: Any, picture: dict[str, Any], numbers: list[int], crowded: bool) -> None:
    """Some of the series of a picture on one axis."""
    for number in numbers:
        row = picture["series"][number]
        x, y = np.array(row["x"], dtype=float), np.array(row["y"], dtype=float)
        colour = PALETTE[number % len(PALETTE)]
        error = np.nan_to_num(np.array(row["error"], dtype=float)) if "error" in row else None
        axis.errorbar(x, y, error, fmt=row["style"], color=colour, capsize=2, label=row["name"])
    axis.set(xlabel=picture["xlabel"], ylabel=picture["ylabel"], yscale="log" if picture["log"] else "linear")
    if picture.get("logx"):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: _power(value))
        axis.xaxis.set_minor_formatter(NullFormatter())
    elif all(value is None or float(value).is_integer() for row in picture["series"] for value in row["x"]):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if picture["log"]:
        low, high = axis.get_ylim()
        axis.yaxis.set_major_formatter(lambda value, _: _power(value))
        axis.yaxis.set_minor_formatter(NullFormatter())
        if high < 30 * low:  # powers of ten alone would leave the axis without a number
            axis.yaxis.set_minor_locator(LogLocator(subs=(1.5, 2, 3, 5, 7) if high < 6 * low else (2, 5)))
            axis.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
    axis.legend(**({"loc": "center left", "bbox_to_anchor": (1.02, 0.5)} if crowded else {}))


def _power(value: float) -> str:
    """1e-3 and the like; plain text, as the pictures draw formulas as they are written."""
    text = f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:g}" if 0.01 <= value <= 100 else text


def _paths(picture: dict[str, Any]) -> Figure:
    drawn = Figure(figsize=(3.0, 3.0))
    axis = drawn.subplots()
    for path, label in zip(picture["points"], picture["labels"]):
        colour, marker = class_colour(label), MARKERS[class_symbol(label)]
        axis.plot(
            *np.array(path, dtype=float).T, marker=marker, color=colour, linewidth=0.6, markersize=2.2, rasterized=True
        )
    axis.set(xlabel="random direction 1", ylabel="random direction 2")
    axis.set_aspect("equal", adjustable="datalim")
    return drawn


def _grid(picture: dict[str, Any]) -> Figure:
    blocks, rank = picture["blocks"], picture["rank"]
    drawn = Figure(figsize=(3.4, 3.4))
    axis = drawn.subplots()
    axis.imshow(_cells(picture, len(blocks) * rank), cmap=SEQUENTIAL, norm=mpl.colors.PowerNorm(COLOUR_POWER, 0, 255))
    centres = (np.arange(len(blocks)) + 0.5) * rank - 0.5
    axis.set_xticks(centres, [b + 1 for b in blocks])
    axis.set_yticks(centres, [b + 1 for b in blocks])
    axis.set(xlabel="block j of the singular vectors", ylabel="block i of the Jacobian")
    for edge in np.arange(1, len(blocks)) * rank - 0.5:
        axis.axhline(edge, color="white", linewidth=0.5)
        axis.axvline(edge, color="white", linewidth=0.5)
    return drawn


def _row(picture: dict[str, Any]) -> Figure:
    names, rank = picture["names"], picture["rank"]
    drawn = Figure(figsize=(1.4 * len(names), 1.7))
    axes = drawn.subplots(1, len(names), squeeze=False)[0]
    for axis, name, matrix in zip(axes, names, np.split(_cells(picture, rank), len(names), axis=1)):
        axis.imshow(matrix, cmap=SEQUENTIAL, norm=mpl.colors.PowerNorm(COLOUR_POWER, 0, 255))
        axis.set(title=name, xticks=[], yticks=[])
    return drawn


def _bytes(values: NDArray[np.float64], order: tuple[int, ...]) -> str:
    """Values in [0, 1] as one byte each, in base64; what is not known is 0."""
    cells = np.rint(255 * np.nan_to_num(values)).astype(np.uint8).transpose(order)
    return base64.b64encode(cells.tobytes()).decode()


def _cells(picture: dict[str, Any], height: int) -> NDArray[np.uint8]:
    """What `grid` or `row` packed; grids of earlier results are not compressed."""
    plain = zlib.decompress(base64.b64decode(picture["packed"])) if "packed" in picture else None
    data = base64.b64decode(picture["cells"]) if plain is None else plain
    return np.frombuffer(data, dtype=np.uint8).reshape(height, -1)


def _heat(picture: dict[str, Any]) -> Figure:
    cells = np.frombuffer(base64.b64decode(picture["cells"]), dtype=np.uint8).reshape(picture["rows"], -1)
    low, high = picture["low"], picture["high"]
    drawn = Figure(figsize=(3.4, 2.8))
    axis = drawn.subplots()
    image = axis.imshow(low + cells / 255 * (high - low), cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
    axis.set(xlabel=picture["xlabel"], ylabel=picture["ylabel"])
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    drawn.colorbar(image)
    return drawn


def _scatter(picture: dict[str, Any]) -> Figure:
    drawn = Figure(figsize=(3.4, 3.0))
    axis = drawn.subplots()
    points, labels = np.array(picture["points"], dtype=float), np.array(picture["labels"])
    for label in np.unique(labels):
        own = points[labels == label].T
        marker = MARKERS[class_symbol(int(label))]
        axis.plot(*own, marker, color=class_colour(int(label)), markersize=2, label=str(label), rasterized=True)
    axis.set(xlabel=picture["xlabel"], ylabel=picture["ylabel"])
    axis.legend(markerscale=2, fontsize=6, ncols=2)
    return drawn


def _plain(values: ArrayLike) -> list[float | None]:
    flat = np.asarray(values, dtype=np.float64).ravel()
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in flat]
