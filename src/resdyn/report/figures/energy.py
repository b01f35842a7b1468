"""How much of U_j^T J_i V_j is on its diagonal, for every pair of blocks."""

from __future__ import annotations

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn.metrics.parts import block_names
from resdyn.metrics.residual_alignment import alignment
from resdyn.report.figures.profile import tick_step
from resdyn.report.theme import SEQUENTIAL, SQUARE_STANDOFF, colour_bar, colour_scale, figure, paper_style, plain
from resdyn.report.view import Array, has, mean_and_error

HOVER = "i: block %{y}<br>j: block %{x}<br>%{z:.3f} ± %{customdata[0]:.2g} (n = %{customdata[1]})<extra></extra>"
MAX_WRITTEN = 12  # numbers are written into the cells of matrices up to this size


def diagonal_energy(ds: xr.Dataset) -> go.Figure | None:
    """Mean over samples of the diagonal energy of U_j^T J_i V_j; blank where shapes differ.

    Numbers are written into the cells of matrices of up to 12 blocks.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the coupling probe, or with a single block.
    """
    if not has(ds, "coupling_uv") or ds.sizes["block"] < 2:
        return None
    mean, error, n = _energy(ds)
    blocks, names = ds["block"].values, [plain(name, 60) for name in block_names(ds)]
    heatmap = go.Heatmap(
        z=mean,
        customdata=np.stack([error, n], axis=-1),
        zmin=0,
        zmax=1,
        colorscale=colour_scale(),
        xgap=1,
        ygap=1,
        hoverongaps=False,
        texttemplate="%{z:.2f}" if len(blocks) <= MAX_WRITTEN else None,
        textfont={"size": 11},
        colorbar=colour_bar("energy on the diagonal"),
        hovertemplate=HOVER,
    )
    drawn = figure([heatmap], height=680, meta={"aspect": 1.0, "extra": 80})
    axis: dict = {
        "title_standoff": SQUARE_STANDOFF,
        "type": "category",
        "categoryarray": names,
        "tickmode": "array",
        "tickvals": list(range(0, len(names), tick_step(len(names)))),
        "ticktext": [str(block) for block in blocks[:: tick_step(len(names))]],
        "showgrid": False,
        "constrain": "domain",
    }
    drawn.update_xaxes(title_text="j: block of the singular vectors", **axis)
    drawn.update_yaxes(
        title_text="i: block of the Jacobian",
        autorange="reversed",
        scaleanchor="x",
        constraintoward="top",
        **axis,
    )
    return drawn


def diagonal_energy_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `diagonal_energy` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the coupling probe, or with a single block.
    """
    if not has(ds, "coupling_uv") or ds.sizes["block"] < 2:
        return None
    mean = _energy(ds)[0]
    blocks = ds["block"].values
    with paper_style():
        drawn = mf.Figure(figsize=(3.6, 3.1))
        axis = drawn.subplots()
        image = axis.imshow(mean, cmap=SEQUENTIAL, vmin=0, vmax=1)
        step = tick_step(len(blocks))
        axis.set_xticks(range(0, len(blocks), step), blocks[::step])
        axis.set_yticks(range(0, len(blocks), step), blocks[::step])
        axis.set(xlabel="j: block of the singular vectors", ylabel="i: block of the Jacobian")
        if len(blocks) <= MAX_WRITTEN:
            _write_values(axis, mean)
        drawn.colorbar(image, ax=axis, label="energy on the diagonal")
    return drawn


def _energy(ds: xr.Dataset) -> tuple[Array, Array, Array]:
    return mean_and_error(alignment(ds)["diagonal_energy_uv"].values)


def _write_values(axis, mean: Array) -> None:
    for i, j in np.argwhere(np.isfinite(mean)):
        ink = "black" if mean[i, j] > 0.6 else "white"
        axis.text(j, i, f"{mean[i, j]:.2f}", ha="center", va="center", fontsize=5, color=ink)
