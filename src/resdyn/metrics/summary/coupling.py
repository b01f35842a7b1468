"""RA2 in the metrics table: do the blocks share their singular vectors?"""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from resdyn.metrics.residual_alignment import alignment, between_blocks, expected_diagonal_energy
from resdyn.metrics.summary import by_chance
from resdyn.metrics.summary.metric import Chance, Metric, convergence_note, one_number, over_samples
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
        chance = _by_chance(ds, str(name), used)
        yield over_samples(str(name), per_sample.values, where, f"top {used} triplets", convergence, chance=chance)
    chance = _by_chance(ds, "diagonal_energy", used)
    yield one_number("expected_diagonal_energy", expected_diagonal_energy(used), chance=chance)


def _by_chance(ds: xr.Dataset, name: str, rank: int) -> Chance:
    """Of K unrelated singular vectors in d dimensions."""
    if name.startswith("diagonal_energy"):
        return Chance(f"1/K, K = {rank} vectors, exchangeable entries", expected_diagonal_energy(rank))
    side = "out" if name.startswith("left_") and "right" not in name else "in"
    if name.startswith("mismatch"):
        basis = "sqrt(1 + (K/d)^2 - 2 sqrt(2K/pi)/d), unrelated vectors in d dimensions"
        return by_chance.over_sizes(basis, lambda d: by_chance.mismatch(min(rank, d), d), ds)
    if name.endswith("subspace_overlap"):
        basis = f"K/d, unrelated spans of K = {rank} vectors in d dimensions"
        return by_chance.over_sizes(basis, lambda d: min(rank / d, 1.0), ds, side)
    return by_chance.over_sizes("sqrt(2/(pi d)), unrelated directions in d dimensions", by_chance.cosine, ds, side)


SUMMARY = Summary(rows, TEXTS, options=("rank",))
