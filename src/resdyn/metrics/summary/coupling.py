"""RA2 in the metrics table: do the blocks share their singular vectors?"""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from resdyn.metrics.residual_alignment import alignment, between_blocks, expected_diagonal_energy
from resdyn.metrics.summary.metric import Metric, convergence_note, one_number, over_samples
from resdyn.metrics.summary.registry import Summary

LI = "Li and Papyan (2023)"
AUBRY = "Aubry, Meng, Sugolov and Papyan (2024)"
TEXTS = {
    "diagonal_energy_uv": ("RA2 diagonal energy of U_j'J_iV_j", "1 when block j diagonalises block i", LI),
    "diagonal_energy_vu": ("RA2 diagonal energy of V_j'J_iU_j", "1 when block j diagonalises block i", LI),
    "expected_diagonal_energy": ("RA2 diagonal energy by chance", "what unrelated vectors give", "1/K"),
    "mismatch_uv": ("RA2 mismatch of U_j'J_iV_j with S_i", "0 when blocks share singular vectors", AUBRY),
    "mismatch_vu": ("RA2 mismatch of V_j'J_iU_j with S_i", "0 when blocks share singular vectors", AUBRY),
    "left_alignment": ("RA2 cosine of left vectors across blocks", "1 when parallel, rank by rank", LI),
    "right_alignment": ("RA2 cosine of right vectors across blocks", "1 when parallel, rank by rank", LI),
    "left_subspace_overlap": ("RA2 overlap of left subspaces across blocks", "1 when the spans agree", LI),
    "right_subspace_overlap": ("RA2 overlap of right subspaces across blocks", "1 when the spans agree", LI),
    "left_right_alignment": ("RA2 cosine of left with right vectors", "1 when parallel within a block", LI),
    "left_right_subspace_overlap": ("RA2 overlap of left with right subspace", "1 when the spans agree", LI),
}


def rows(ds: xr.Dataset, rank: int | None = None) -> Iterator[Metric]:
    """Within blocks and between them, of the top `rank` triplets."""
    measured = alignment(ds, rank)
    used = measured.attrs["rank"]
    convergence = convergence_note(ds) if "singular_values" in ds else "convergence of the triplets is not known"
    for name, values in measured.data_vars.items():
        within = "block_j" not in values.dims
        per_sample = values.mean("block") if within else between_blocks(values)
        where = "within blocks" if within else "pairs of blocks of equal shape, i != j"
        note = f"top {used} triplets{_chance(ds, str(name), used)}"
        yield over_samples(str(name), per_sample.values, where, note, convergence)
    yield one_number("expected_diagonal_energy", expected_diagonal_energy(used), None, 0, None, f"K = {used}")


def _chance(ds: xr.Dataset, name: str, rank: int) -> str:
    """What unrelated singular vectors would give, where that is known."""
    if name.startswith("diagonal_energy"):
        return f", {expected_diagonal_energy(rank):.2g} by chance"
    if name.endswith("subspace_overlap"):
        low, high = (min(rank / size, 1.0) for size in (int(ds["state_size"].max()), int(ds["state_size"].min())))
        return f", {low:.2g} by chance" if low == high else f", {low:.2g} to {high:.2g} by chance"
    return ""


SUMMARY = Summary(rows, TEXTS, options=("rank",))
