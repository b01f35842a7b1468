"""RA2: do the top singular vectors of the residual Jacobians agree, within a block and across depths?

J_i = U_i S_i V_i^T is the truncated decomposition of block i. The coupling matrices U_j^T J_i V_j and
V_j^T J_i U_j and the overlaps U_i^T U_j, V_i^T V_j, U_i^T V_j all have shape (..., K, K); `rank` keeps the
leading K' <= K rows and columns of each. A matrix that holds a NaN gives NaN.

Signs: u_k and v_k of one triplet are fixed up to one common sign. It drops out of the diagonal of a
coupling matrix, so a negative diagonal entry is a fact (block i turns that direction round), not a
convention; off the diagonal and in the overlaps it is arbitrary. What follows ignores all signs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from resdyn._remember import remembered
from resdyn.errors import InputError
from resdyn.metrics.rank import converged_singular_values

FloatArray = NDArray[np.float64]

PIECE_BYTES = 16 * 2**20
PAIR_DIMS = ("sample", "block", "block_j")
PAIRED = ("coupling_uv", "coupling_vu", "overlap_uu", "overlap_vv", "overlap_uv")


def diagonal_energy(matrix: ArrayLike, rank: int | None = None) -> FloatArray:
    """Share of the squared Frobenius norm on the diagonal, sum_k M_kk^2 / sum_kl M_kl^2.

    1 when the singular vectors of block j diagonalise J_i, `expected_diagonal_energy(K)` by chance.

    Args:
        matrix: (..., K, K).
        rank: Keep the leading K' rows and columns.

    Returns:
        (...), float64 in [0, 1]; NaN for a zero matrix.

    Source:
        a number for figure 2 of Li and Papyan (2023), "top singular vectors of J_j diagonalise J_i".

    Example:
        >>> diagonal_energy([[3.0, 0.0], [4.0, 0.0]])
        array(0.36)
    """
    squares = _leading(matrix, rank) ** 2
    return _divide(np.trace(squares, axis1=-2, axis2=-1), squares.sum((-2, -1)))


def expected_diagonal_energy(rank: int) -> float:
    """Mean of `diagonal_energy` over random K x K matrices with exchangeable entries, K / K^2 = 1 / K.

    Args:
        rank: K, the number of triplets.

    Returns:
        1 / K.

    Example:
        >>> expected_diagonal_energy(10)
        0.1
    """
    return 1.0 / rank


def mismatch(matrix: ArrayLike, values: ArrayLike, rank: int | None = None, *, signed: bool = False) -> FloatArray:
    """Distance of a coupling matrix from the singular values, || |U_j^T J_i V_j| - diag(s_i) ||_F / |s_i|_2.

    0 when blocks i and j share their singular vectors, in order; 1 when the coupling is zero; at most sqrt(2)
    (s_i majorises the singular values of the coupling, so its norm is at most |s_i|).

    Args:
        matrix: (..., K, K), U_j^T J_i V_j.
        values: (..., K), s_i descending.
        rank: Keep the leading K' rows and columns.
        signed: Take the entries with their signs.

    Returns:
        (...), float64; NaN when s_i is zero.

    Source:
        Aubry, Meng, Sugolov and Papyan (2024), coupling metric m_K, with the 2-norm of s_i. Deviation: absolute
        values of the entries, so that blocks aligned up to orientation count as aligned; `signed=True` omits them.
    """
    matrix, values = _leading(matrix, rank), np.asarray(values, dtype=np.float64)[..., :rank]
    whole = np.broadcast_shapes(matrix.shape[:-2], values.shape[:-1])
    rest = np.broadcast_to(matrix if signed else np.abs(matrix), (*whole, *matrix.shape[-2:])).copy()
    np.einsum("...kk->...k", rest)[...] -= values
    norm = np.linalg.norm(values, axis=-1)
    distance = np.sqrt(np.einsum("...kl,...kl->...", rest, rest))
    return _divide(distance, np.where(norm > 0, norm, np.nan))


def vector_alignment(overlap: ArrayLike, rank: int | None = None) -> FloatArray:
    """Cosines |a_k . b_k| of singular vectors of equal rank, the absolute diagonal of an overlap A^T B.

    1 when the k-th vectors are parallel. Nearly equal singular values may swap their vectors between blocks,
    which shows here and not in `overlap_angles`.

    Args:
        overlap: (..., K, K), A^T B.
        rank: Keep the leading K' rows and columns.

    Returns:
        (..., K'), float64 in [0, 1], ordered by rank.

    Source:
        Li and Papyan (2023), RA2.
    """
    return np.minimum(np.abs(np.diagonal(_leading(overlap, rank), axis1=-2, axis2=-1)), 1.0)


def overlap_angles(overlap: ArrayLike, rank: int | None = None) -> FloatArray:
    """Angles between the spans of two orthonormal bases A, B: arccos of the singular values of A^T B.

    Args:
        overlap: (..., K, K), A^T B.
        rank: Keep the leading K' rows and columns.

    Returns:
        (..., K') in radians in [0, pi/2], ascending. Since only A^T B is stored, angles below the square root of its
        rounding (1e-8 in float64, 3e-4 in float32) read as noise.

    Source:
        Bjorck and Golub (1973), theorem 1.

    Example:
        >>> np.degrees(overlap_angles([[0.5]])).round(6)
        array([60.])
    """
    return np.arccos(_cosines(_leading(overlap, rank)))


def subspace_overlap(overlap: ArrayLike, rank: int | None = None) -> FloatArray:
    """Mean squared cosine of the principal angles, |A^T B|_F^2 / K'.

    1 when the spans agree, K'/d on average for independent random ones in d dimensions.

    Args:
        overlap: (..., K, K), A^T B of orthonormal bases.
        rank: Keep the leading K' rows and columns.

    Returns:
        (...), float64 in [0, 1].
    """
    overlap = _leading(overlap, rank)
    share: FloatArray = np.minimum((overlap**2).sum((-2, -1)) / overlap.shape[-1], 1.0)
    return share


@remembered
def alignment(ds: xr.Dataset, rank: int | None = None) -> xr.Dataset:
    """All of RA2 for every sample and pair of blocks from the stored coupling probe.

    NaN where shapes differ, and where a triplet that enters (those of j; for all but the diagonal energy also
    those of i) did not converge or belongs to a Jacobian that is zero, whose vectors are arbitrary. Without the
    singular probe there is no mismatch and convergence is unknown: the attribute `convergence_known` says which.

    Args:
        ds: A dataset with the coupling probe.
        rank: Use the top triplets alone (default: all that are coupled).

    Returns:
        A dataset of float64 arrays. With the dims (sample, block, block_j), where block = i and block_j = j, it has

        - `diagonal_energy_uv`, `diagonal_energy_vu`: `diagonal_energy` of U_j^T J_i V_j and of V_j^T J_i U_j;
        - `mismatch_uv`, `mismatch_vu`: `mismatch` of the same;
        - `left_alignment`, `right_alignment`: the mean over ranks of `vector_alignment` of U_i^T U_j and V_i^T V_j;
        - `left_subspace_overlap`, `right_subspace_overlap`: `subspace_overlap` of these.

        With the dims (sample, block) there are `left_right_alignment` and `left_right_subspace_overlap`, of U_i^T V_i.
        The attribute `rank` says how many triplets were used, `convergence_known` whether their convergence is known.

    Raises:
        InputError: A rank beyond what is stored.

    Source:
        Li and Papyan (2023), RA2; Aubry, Meng, Sugolov and Papyan (2024) for the mismatch.
    """
    available = coupled_rank(ds) or ds.sizes["rank"]
    rank = available if rank is None else rank
    if not 1 <= rank <= available:
        raise InputError(f"got rank={rank}, expected 1 to {available}: only that many triplets are stored")
    known = "singular_values" in ds
    values = converged_singular_values(ds).isel(rank=slice(rank)).values if known else None
    if values is None:
        usable = np.ones((ds.sizes["sample"], ds.sizes["block"]), bool)
    else:
        usable = np.isfinite(values).all(-1) & (values[..., 0] > 0)  # vectors of a Jacobian that is zero are arbitrary
    pieces = [
        _couplings(ds.isel(sample=rows), rank, None if values is None else values[rows], usable[rows])
        | _overlaps(ds.isel(sample=rows), rank, usable[rows])
        for rows in sample_slices(ds)
    ]
    return xr.Dataset(
        {name: (dims, np.concatenate([piece[name][1] for piece in pieces])) for name, (dims, _) in pieces[0].items()},
        coords={name: ds[name] for name in PAIR_DIMS},
        attrs={"rank": rank, "convergence_known": known},
    )


def aligned_vectors(ds: xr.Dataset) -> xr.DataArray:
    """Whether the k-th vectors of block j line up with those of block i: 0 or 1, (sample, block, block_j, rank).

    They do where |M_kk| is the largest entry of its row and of its column of M = U_j^T J_i V_j, which needs no
    threshold; for unrelated vectors that happens about once in 2K - 1 times. Summed over `rank` it counts the
    dimensions in which two blocks align. NaN where shapes differ.

    Args:
        ds: A dataset with the coupling probe.

    Returns:
        0 or 1, (sample, block, block_j, rank); NaN where shapes differ.

    Source:
        ours, for figure 3 of Li and Papyan (2023).
    """
    entries = np.abs(_matrices(ds, "coupling_uv"))
    diagonal = np.diagonal(entries, axis1=-2, axis2=-1)
    leads = (diagonal >= entries.max(-1)) & (diagonal >= entries.max(-2))
    dims = (*PAIR_DIMS, "rank")
    return xr.DataArray(np.where(np.isfinite(diagonal), leads, np.nan), {name: ds[name] for name in dims}, dims)


def between_blocks(pairs: xr.DataArray) -> xr.DataArray:
    """Mean over the pairs i != j that are measured.

    Args:
        pairs: An array with the dims (sample, block, block_j), NaN where a pair is not measured.

    Returns:
        The means, (sample,); NaN for a sample without a measured pair.
    """
    return pairs.where(pairs["block"] != pairs["block_j"]).mean(("block", "block_j"), skipna=True)


@remembered
def coupled_rank(ds: xr.Dataset) -> int:
    """How many singular vectors of each block the couplings and overlaps were taken of.

    At most the length of the dimension `rank`: more triplets may be stored than are coupled, and the rest is NaN.

    Args:
        ds: A dataset with the coupling probe.

    Returns:
        The number of vectors per block; 0 where no coupling or overlap is stored, or all are NaN.
    """
    known = [ds[name].isel(rank_j=0).transpose("rank", ...).values for name in PAIRED if name in ds]
    return max((int(np.isfinite(values).reshape(len(values), -1).any(1).sum()) for values in known), default=0)


def _couplings(
    ds: xr.Dataset, rank: int, values: FloatArray | None, usable: NDArray[Any]
) -> dict[str, tuple[Any, ...]]:
    parts = {}
    for kind in ("uv", "vu"):
        if f"coupling_{kind}" not in ds:
            continue
        matrix = _matrices(ds, f"coupling_{kind}")
        parts[f"diagonal_energy_{kind}"] = np.where(usable[:, None, :], diagonal_energy(matrix, rank), np.nan)
        if values is not None:
            distance = mismatch(matrix, values[:, :, None, :], rank)
            parts[f"mismatch_{kind}"] = np.where(usable[:, None, :], distance, np.nan)
    return {name: (PAIR_DIMS, array) for name, array in parts.items()}


def _overlaps(ds: xr.Dataset, rank: int, usable: NDArray[Any]) -> dict[str, tuple[Any, ...]]:
    parts: dict[str, tuple[Any, ...]] = {}
    both = usable[:, :, None] & usable[:, None, :]
    for side, kind in (("left", "uu"), ("right", "vv")):
        if f"overlap_{kind}" in ds:
            matrix = _matrices(ds, f"overlap_{kind}")
            parts[f"{side}_alignment"] = (
                PAIR_DIMS,
                np.where(both, vector_alignment(matrix, rank).mean(-1), np.nan),
            )
            parts[f"{side}_subspace_overlap"] = (
                PAIR_DIMS,
                np.where(both, subspace_overlap(matrix, rank), np.nan),
            )
    if "overlap_uv" in ds:
        own = np.arange(ds.sizes["block"])
        matrix = _matrices(ds, "overlap_uv")[:, own, own]
        dims = PAIR_DIMS[:2]
        parts["left_right_alignment"] = (
            dims,
            np.where(usable, vector_alignment(matrix, rank).mean(-1), np.nan),
        )
        parts["left_right_subspace_overlap"] = (
            dims,
            np.where(usable, subspace_overlap(matrix, rank), np.nan),
        )
    return parts


def sample_slices(ds: xr.Dataset) -> list[slice]:
    """Samples in pieces of which an array of matrices takes 16 MB at most, or one sample; one piece at least."""
    per_sample = 8 * ds.sizes["block"] ** 2 * ds.sizes["rank"] ** 2
    rows = max(1, PIECE_BYTES // max(1, per_sample))
    return [slice(start, start + rows) for start in range(0, max(1, ds.sizes["sample"]), rows)]


def _matrices(ds: xr.Dataset, name: str) -> FloatArray:
    return ds[name].transpose(*PAIR_DIMS, "rank", "rank_j").values.astype(np.float64)


def _leading(matrix: ArrayLike, rank: int | None) -> FloatArray:
    return np.asarray(matrix, dtype=np.float64)[..., :rank, :rank]


def _cosines(overlap: FloatArray) -> FloatArray:
    """Singular values clipped to [0, 1]; NaN for matrices that hold a NaN, which LAPACK would refuse."""
    finite = np.asarray(np.isfinite(overlap).all((-2, -1)))
    known: FloatArray = np.where(finite[..., None, None], overlap, 0.0)
    values = np.linalg.svd(known, compute_uv=False)
    return np.where(finite[..., None], np.clip(values, 0.0, 1.0), np.nan)


def _divide(a: ArrayLike, b: ArrayLike) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(a, b), dtype=np.float64)
