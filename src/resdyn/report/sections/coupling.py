"""The coupling of blocks in the report: a grid per stage, and the energy on its diagonals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import xarray as xr
from markupsafe import Markup

from resdyn._format import short, with_error
from resdyn.metrics.residual_alignment import alignment, between_blocks, coupled_rank, expected_diagonal_energy
from resdyn.report import figures
from resdyn.report.comparison.overlay import Overlay, of_blocks
from resdyn.report.figures.coupling import Side, samples_offered
from resdyn.report.sections.section import WIDE_CELLS, ReportFigure, Section, built_in
from resdyn.report.sentences import Rows
from resdyn.report.view import Array, coupled_groups, mean_and_error

UJV = Markup("U<sub>j</sub><sup>⊤</sup> J<sub>i</sub> V<sub>j</sub>")
PRODUCTS: dict[Side, Markup] = {"uv": UJV, "vu": Markup("V<sub>j</sub><sup>⊤</sup> J<sub>i</sub> U<sub>j</sub>")}
ALIGNMENT = (
    ("diagonal_energy_uv", "Mean over pairs i ≠ j"),
    ("diagonal_energy_vu", "the same with V and U exchanged"),
    ("mismatch_uv", "mismatch with the singular values (0 when aligned)"),
    ("left_alignment", "cosine of left vectors across blocks"),
    ("right_alignment", "of right vectors"),
)
GRID = Markup(
    "Square (i, j) shows |{}| in per cent of the largest singular value of J<sub>i</sub>, small entries "
    "brightened. A bright diagonal in the squares i ≠ j means that the singular vectors of block j "
    "also diagonalise block i (RA2). A click on a square shows it large, a second one shows all."
)
ENERGY = Markup(
    "Share of the squared entries of {} that is on its diagonal, mean over samples: 1 when block j "
    "diagonalises block i, one over the number of vectors by chance; blank where shapes differ. A diagonal "
    "alone does not prove shared vectors: it also appears where J<sub>i</sub> acts on paired vectors like a "
    "multiple of the identity. The cosines of the vectors across blocks tell the two apart."
).format(UJV)


def _figures(ds: xr.Dataset) -> list[ReportFigure]:
    """Two grids per stage, and the energy of all pairs."""
    grids = []
    groups = coupled_groups(ds)
    for side, product in PRODUCTS.items():
        name = "coupling_grid" if side == "uv" else "coupling_grid_exchanged"
        for g, blocks in enumerate(groups):
            numbers = ds["block"].values[blocks]
            which = f", blocks {numbers[0]} to {numbers[-1]}" if len(groups) > 1 else ""
            grids.append(
                ReportFigure(
                    name if g == 0 else f"{name}_{g + 1}",
                    product + which,
                    GRID.format(product),
                    partial(getattr(figures, name), group=g),
                    partial(getattr(figures, f"{name}_paper"), group=g),
                    numbers=partial(_group_energy, blocks=blocks, side=side),
                    wide=len(blocks) * coupled_rank(ds) > WIDE_CELLS,
                )
            )
    return [*grids, built_in("diagonal_energy", "Energy on the diagonal, pair by pair", ENERGY, ALIGNMENT)]


def _group_energy(ds: xr.Dataset, _: Rows, blocks: Array, side: Side) -> list[str]:
    """The energy of one group of blocks; the metrics table holds the mean over all groups."""
    pairs = alignment(ds)[f"diagonal_energy_{side}"].isel(block=blocks, block_j=blocks)
    mean, error, n = mean_and_error(between_blocks(pairs).values)
    if not n:
        return ["Energy on the diagonal: not measured, since no pair i ≠ j converged."]
    chance = short(expected_diagonal_energy(coupled_rank(ds)))
    energy = with_error(float(mean), float(error))
    return [f"Mean energy on the diagonal over these pairs i ≠ j: {energy} (n = {n}), {chance} by chance."]


def _notes(ds: xr.Dataset) -> list[str]:
    notes = []
    groups = coupled_groups(ds)
    alone = sorted(set(range(ds.sizes["block"])) - {int(b) for group in groups for b in group})
    if alone:
        names = ", ".join(f"block {int(ds['block'].values[b])}" for b in alone)
        notes.append(f"Not in the grid, since no other block maps between the same shapes: {names}.")
    if groups and ds.sizes["sample"] > 1:
        offered = min(samples_offered(ds, group, len(groups)) for group in groups)
        if offered < ds.sizes["sample"]:
            notes.append(
                f"To keep the page small, the grid offers the mean and the first {offered} of "
                f"{ds.sizes['sample']} samples; the numbers are over all of them."
            )
    return notes


def _with_others(name: str) -> Callable[[xr.Dataset], xr.DataArray]:
    """Mean over the blocks j != i that block i is coupled with."""

    def read(ds: xr.Dataset) -> xr.DataArray:
        pairs = alignment(ds)[name]
        return pairs.where(pairs["block"] != pairs["block_j"]).mean("block_j", skipna=True)

    return read


SECTIONS = (
    Section(
        "alignment",
        "Alignment",
        "Do the blocks share their singular vectors?",
        _figures,
        notes=_notes,
        expected=True,
    ),
)

OVERLAYS = (
    Overlay(
        "diagonal_energy",
        "Energy on the diagonal",
        "Of the coupling of a block with all other blocks of its shape: 1 when they diagonalise it (RA2).",
        "block",
        "diagonal energy",
        of_blocks("coupling_uv", _with_others("diagonal_energy_uv")),
    ),
    Overlay(
        "right_alignment",
        "Cosine of right singular vectors",
        "Rank by rank, with all other blocks of the same shape.",
        "block",
        "cosine",
        of_blocks("overlap_vv", _with_others("right_alignment")),
    ),
)
