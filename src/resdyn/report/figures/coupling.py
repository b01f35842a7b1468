"""The grids of images U_j^T J_i V_j and V_j^T J_i U_j: whether the singular vectors of block j diagonalise block i."""

from __future__ import annotations

from typing import Literal

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr
from matplotlib.colors import PowerNorm

from resdyn.metrics.parts import block_names
from resdyn.metrics.residual_alignment import coupled_rank, sample_slices
from resdyn.report.figures.profile import tick_step
from resdyn.report.theme import (
    SEQUENTIAL,
    SQUARE_STANDOFF,
    colour_bar,
    colour_scale,
    figure,
    menu,
    one_visible,
    paper_style,
    plain,
)
from resdyn.report.view import Array, coupled_groups, has, sample_title

Side = Literal["uv", "vu"]
SIDES: tuple[Side, ...] = ("uv", "vu")
COLOUR_POWER = 0.65  # entries beyond the first few are small: colours grow more slowly than they do
MAX_CHOICES = 40
MAX_CELLS = 1_200_000  # one byte each, over all images of the page


def coupling_grid(ds: xr.Dataset, group: int = 0) -> go.Figure | None:
    """|U_j^T J_i V_j| / s_1(J_i) in per cent, one square for each pair (i, j) of one group of equal shape.

    The first entry of the drop-down is the mean over samples, the others are single samples, as many as fit into 1.2
    million cells over all grids. On the page a click on a square shows it large, a second one all of them.

    Args:
        ds: A captured dataset.
        group: Index of the group of blocks, the largest first (default 0).

    Returns:
        A plotly figure; None without the coupling probe, or such a group.
    """
    return _draw(ds, group, "uv")


def coupling_grid_paper(ds: xr.Dataset, group: int = 0) -> mf.Figure | None:
    """The figure `coupling_grid` for print.

    The mean over samples, or the only one.

    Args:
        ds: A captured dataset.
        group: Index of the group of blocks, the largest first (default 0).

    Returns:
        A matplotlib figure; None without the coupling probe, or such a group.
    """
    return _draw_paper(ds, group, "uv")


def coupling_grid_exchanged(ds: xr.Dataset, group: int = 0) -> go.Figure | None:
    """`coupling_grid` with U and V exchanged: |V_j^T J_i U_j| / s_1(J_i).

    Args:
        ds: A captured dataset.
        group: Index of the group of blocks, the largest first (default 0).

    Returns:
        A plotly figure; None without the coupling probe, or such a group.
    """
    return _draw(ds, group, "vu")


def coupling_grid_exchanged_paper(ds: xr.Dataset, group: int = 0) -> mf.Figure | None:
    """The figure `coupling_grid_exchanged` for print.

    The mean over samples, or the only one.

    Args:
        ds: A captured dataset.
        group: Index of the group of blocks, the largest first (default 0).

    Returns:
        A matplotlib figure; None without the coupling probe, or such a group.
    """
    return _draw_paper(ds, group, "vu")


def _draw(ds: xr.Dataset, group: int, side: Side) -> go.Figure | None:
    groups = coupled_groups(ds)
    if group >= len(groups) or not has(ds, f"coupling_{side}"):
        return None
    blocks = groups[group]
    pictures, titles = _pictures(ds, blocks, len(groups), side)
    size = pictures.shape[1] // len(blocks)
    traces = [_heatmap(p).update(visible=k == 0) for k, p in enumerate(pictures)]
    drawn = figure(
        traces,
        height=960,
        meta={"aspect": 1.0, "extra": 80, "square": size},
        shapes=_separators(len(blocks), size),
        xaxis=_axis("j: block of the singular vectors", ds, blocks, size),
        yaxis=_axis("i: block of the Jacobian", ds, blocks, size) | {"autorange": "reversed", "scaleanchor": "x"},
    )
    if len(titles) > 1:
        args = [[one_visible(k, len(titles)), {}] for k in range(len(titles))]
        drawn.update_layout(updatemenus=menu([plain(t) for t in titles], args))
    return drawn


def _draw_paper(ds: xr.Dataset, group: int, side: Side) -> mf.Figure | None:
    groups = coupled_groups(ds)
    if group >= len(groups) or not has(ds, f"coupling_{side}"):
        return None
    blocks = groups[group]
    picture = _pictures(ds, blocks, len(groups), side)[0][0]
    size = len(picture) // len(blocks)
    with paper_style():
        drawn = mf.Figure(figsize=(4.6, 4.2))
        axis = drawn.subplots()
        image = axis.imshow(picture, cmap=SEQUENTIAL, norm=PowerNorm(COLOUR_POWER, 0, 100))
        axis.set(xlabel="j: block of the singular vectors", ylabel="i: block of the Jacobian")
        centres = (np.arange(len(blocks)) + 0.5) * size - 0.5
        step = tick_step(len(blocks))
        axis.set_xticks(centres[::step], ds["block"].values[blocks][::step])
        axis.set_yticks(centres[::step], ds["block"].values[blocks][::step])
        for edge in np.arange(1, len(blocks)) * size - 0.5:
            axis.axhline(edge, color="white", linewidth=0.5)
            axis.axvline(edge, color="white", linewidth=0.5)
        drawn.colorbar(image, ax=axis, shrink=0.85, label="|entry| in % of s₁ of block i")
    return drawn


def samples_offered(ds: xr.Dataset, blocks: Array, num_groups: int) -> int:
    """How many single samples the drop-down of a group can hold."""
    cells = (len(blocks) * ds.sizes["rank"]) ** 2
    return max(1, min(MAX_CHOICES, MAX_CELLS // (len(SIDES) * cells * num_groups) - 1))


def _pictures(ds: xr.Dataset, blocks: Array, num_groups: int, side: Side) -> tuple[Array, list[str]]:
    """Images (choice, i * K + rank, j * K + rank_j) of one byte a cell, and what each one shows."""
    rank = coupled_rank(ds)
    room = samples_offered(ds, blocks, num_groups)
    single: list[Array] = []
    kept: list[int] = []
    total: Array = np.zeros(())
    for rows in sample_slices(ds):
        flat = _relative(ds.isel(sample=rows), blocks, rank, side)
        known = np.flatnonzero(np.isfinite(flat).all(axis=(1, 2)))
        total = total + flat[known].sum(axis=0)
        single += [_percent(picture) for picture in flat[known[: max(0, room - len(single))]]]
        kept += (known + rows.start).tolist()
    if not kept:  # some pair is missing in every sample: show the gaps instead of inventing zeros
        return _percent(_relative(ds.isel(sample=[0]), blocks, rank, side)), [sample_title(ds, 0)]
    titles = [sample_title(ds, k) for k in kept[:room]]
    if len(kept) == 1:
        return np.array(single), titles
    return np.array([_percent(total / len(kept)), *single]), [f"mean over {len(kept)} samples", *titles]


def _relative(ds: xr.Dataset, blocks: Array, rank: int, side: Side) -> Array:
    """Entries relative to s_1(J_i), (sample, i * K + rank, j * K + rank_j)."""
    coupling = np.abs(ds[f"coupling_{side}"].isel(block=blocks, block_j=blocks).values)[..., :rank, :rank]
    relative = coupling / _largest(ds, blocks, coupling)
    cells = len(blocks) * rank
    return relative.transpose(0, 1, 3, 2, 4).reshape(-1, cells, cells)


def _largest(ds: xr.Dataset, blocks: Array, coupling: Array) -> Array:
    """s_1(J_i), shaped to divide `coupling`; block i's own largest entry where values were not kept."""
    if "singular_values" in ds:
        largest = ds["singular_values"].isel(block=blocks, rank=0).values
    else:
        own = coupling[:, np.arange(len(blocks)), np.arange(len(blocks))]
        largest = np.nanmax(own, axis=(2, 3))
    return np.where(largest > 0, largest, 1.0)[:, :, None, None, None]


def _percent(picture: Array) -> Array:
    """Rounded per cent: bytes where all is known, floats where NaN marks a gap."""
    rounded = np.rint(100 * picture)
    return np.clip(rounded, 0, 255).astype(np.uint8) if np.isfinite(rounded).all() else rounded


def _heatmap(picture: Array) -> go.Heatmap:
    return go.Heatmap(
        z=picture,
        zmin=0,
        zmax=100,
        colorscale=colour_scale(COLOUR_POWER),
        colorbar=colour_bar("|entry| in % of s<sub>1</sub>(J<sub>i</sub>)"),
        hovertemplate="i: %{y}<br>j: %{x}<br>%{z} % of s<sub>1</sub>(J<sub>i</sub>)<extra></extra>",
    )


def _axis(title: str, ds: xr.Dataset, blocks: Array, size: int) -> dict:
    """One tick in the middle of each block; category axes take the position of a category as a number."""
    names, step = block_names(ds), tick_step(len(blocks))
    return {
        "title": {"text": title, "standoff": SQUARE_STANDOFF},
        "type": "category",
        "categoryarray": [f"block {plain(names[b], 60)}, rank {r + 1}" for b in blocks for r in range(size)],
        "tickvals": [(k + 0.5) * size - 0.5 for k in range(0, len(blocks), step)],
        "ticktext": [str(int(b)) for b in ds["block"].values[blocks][::step]],
        "showgrid": False,
        "constrain": "domain",
        "constraintoward": "top" if title.startswith("i") else "center",
    }


def _separators(count: int, size: int) -> list[dict]:
    """Lines between the images, on both axes, as one path each."""
    end = count * size - 0.5
    edges = [k * size - 0.5 for k in range(1, count)]
    path = "".join(f"M{e},-0.5V{end}M-0.5,{e}H{end}" for e in edges)
    return [{"type": "path", "path": path, "line": {"color": "rgba(255,255,255,0.55)", "width": 1}}]
