"""Eigenvalues of explicit matrices, diagonal block by diagonal block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn.linalg._deflated import Decomposition, Deflated, Part, decomposition
from resdyn.linalg._discs import ROUNDING, meeting_discs
from resdyn.linalg._ends import Complex, leading, without_rounding
from resdyn.linalg._norms import column_norms, norm, power_of_two
from resdyn.linalg._structure import of_matrix

PRODUCT_ROUNDING = 2.0  # rounding errors of an operator's products in eps ||A||


class Values(NamedTuple):
    """Eigenvalues with residuals relative to the norm, and conditions (NaN where unknown).

    ``meeting`` says how many discs of an eigenvalue's radius meet in its cluster, None where only ends are known;
    ``complete``, that none is missing among the ends.
    """

    values: Complex
    residuals: NDArray[np.float64]
    conditions: NDArray[np.float64]
    norm: float
    meeting: NDArray[np.float64] | None = None
    complete: bool = True


def backward_error(matrix: Tensor) -> float:
    """How far the QR algorithm may be from a matrix, relative to its Frobenius norm: sqrt(n) eps.

    The proven constant grows faster with n; what is measured stays below this one.
    """
    return float(len(matrix) ** 0.5 * torch.finfo(matrix.dtype).eps)


def all_values(matrix: Tensor) -> tuple[Values, int]:
    """All eigenvalues without their vectors, and the number of diagonal blocks that they are those of."""
    size = norm(matrix)
    blocks = [matrix[block][:, block] for block in of_matrix(matrix)]
    parts = [_values_of(block, size or 1.0) for block in blocks]
    values, residuals = (np.concatenate(column) for column in zip(*parts))
    return Values(values, residuals, np.full(len(values), np.nan), size), len(blocks)


def dense_ends(matrix: Tensor, wanted: Mapping[str, int], conditions: bool) -> tuple[dict[str, Values], int]:
    """Ends of the full decomposition, with measured residuals and conditions, and the number of diagonal blocks."""
    size = float(torch.linalg.matrix_norm(matrix.double(), 2))
    blocks = [matrix[block][:, block] for block in of_matrix(matrix)]
    everything = joined([pairs_of(block, size, conditions) for block in blocks])
    return {end: picked(everything, end, k) for end, k in wanted.items()}, len(blocks)


def all_with_ends(
    matrix: Tensor, wanted: Mapping[str, int], directions: Tensor | None = None
) -> tuple[dict[str, Values], int, Decomposition | None]:
    """All eigenvalues and the ends among them from one decomposition in the matrix's own precision, with conditions.

    None for the decomposition where a block has no eigenvectors in that precision.
    """
    known = decomposition(matrix, directions)
    if any(pairs is None for block, pairs in known if len(block) > 1):
        by_end, count = dense_ends(matrix, {end: k for end, k in wanted.items() if end != "all"}, True)
        return {"all": all_values(matrix)[0]} | by_end, count, None
    size, factor = _spectral_norm(matrix), power_of_two(float(matrix.abs().max()))
    values = [_one(matrix, block) if pairs is None else _scaled(pairs.values, factor) for block, pairs in known]
    conditions = [np.ones(1) if pairs is None else pairs.conditions for _, pairs in known]
    place = [(number, row) for number, part in enumerate(values) for row in range(len(part))]
    everything: Complex = np.concatenate(values)
    left_out = max((pairs.rest / factor for _, pairs in known if isinstance(pairs, Deflated)), default=0.0)
    backward = (backward_error(matrix) * norm(matrix) + left_out) / (size or 1.0)
    backward = max(backward, PRODUCT_ROUNDING * _eps(matrix))
    whole = Values(everything, np.full(len(everything), backward), np.concatenate(conditions), size)
    rows = {end: leading(everything, end, min(k, len(everything))) for end, k in wanted.items() if end != "all"}
    outer = np.unique(np.concatenate(list(rows.values())))
    measured = np.full(len(everything), np.nan)
    for number in sorted({place[row][0] for row in outer}):
        inside = [row for row in outer if place[row][0] == number]
        measured[inside] = _residuals(matrix, known[number], [place[row][1] for row in inside], factor)
    measured /= size or 1.0
    by_end = {end: _rows(whole._replace(residuals=measured), chosen) for end, chosen in rows.items()}
    by_end["all"] = whole
    by_end = {end: by_end[end] for end in wanted}
    return by_end, len(known), known


def _one(matrix: Tensor, block: Tensor) -> Complex:
    return matrix[block, block].cpu().numpy().astype(complex)


def _scaled(values: NDArray[np.complexfloating], factor: float) -> Complex:
    return values.astype(np.complex128) / np.float64(factor)


def _eps(matrix: Tensor) -> float:
    return float(torch.finfo(matrix.dtype).eps)


def _residuals(matrix: Tensor, block: tuple[Tensor, Part], rows: list[int], factor: float) -> NDArray[np.float64]:
    """||A x - lambda x|| / ||x|| of some pairs of a diagonal block, in float64."""
    coordinates, pairs = block
    if pairs is None:
        return np.zeros(len(rows))
    inner = matrix[coordinates][:, coordinates].double().cpu()
    X = torch.from_numpy(pairs.vectors(rows))
    images = torch.complex(inner @ X.real, inner @ X.imag)
    defect = images - torch.from_numpy(_scaled(pairs.values[rows], factor)) * X
    return np.asarray((column_norms(defect) / column_norms(X)).numpy())


def _rows(part: Values, rows: NDArray[np.intp]) -> Values:
    return Values(part.values[rows], part.residuals[rows], part.conditions[rows], part.norm)


def _spectral_norm(matrix: Tensor, steps: int = 20) -> float:
    """An estimate of ||A||_2 from below by power iteration."""
    x = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(matrix)
    size = 0.0
    for _ in range(steps):
        y = matrix @ (x / (norm(x) or 1.0))
        size, x = norm(y), y @ matrix
    return size


def pairs_of(matrix: Tensor, size: float, conditions: bool) -> Values:
    """All eigenvalues with residuals relative to ``size``; left vectors are the rows of the inverse of the right."""
    eigenvalues, vectors = torch.linalg.eig(matrix.double())
    residuals = column_norms(matrix.to(vectors) @ vectors - vectors * eigenvalues) / (size or 1.0)
    known = torch.full_like(residuals, float("nan"))
    if conditions:
        left, info = torch.linalg.inv_ex(vectors)
        known = column_norms(left.T) if not int(info) else torch.full_like(residuals, float("inf"))
    values = without_rounding(eigenvalues.cpu().numpy(), backward_error(matrix.double()) * size)
    radii = known.cpu().numpy() * ROUNDING * torch.finfo(matrix.dtype).eps * norm(matrix)
    return Values(values, residuals.cpu().numpy(), known.cpu().numpy(), size, meeting_discs(values, radii))


def joined(parts: list[Values]) -> Values:
    """The values of several blocks as those of one matrix."""
    values, residuals, conditions = (np.concatenate(column) for column in list(zip(*parts))[:3])
    meeting = [np.ones(len(part.values)) if part.meeting is None else part.meeting for part in parts]
    size, complete = max(part.norm for part in parts), all(part.complete for part in parts)
    return Values(values, residuals, conditions, size, np.concatenate(meeting), complete)


def picked(part: Values, end: str, k: int) -> Values:
    """The k leading values of an end."""
    rows = leading(part.values, end, min(k, len(part.values)))
    meeting = None if part.meeting is None else part.meeting[rows]
    return Values(part.values[rows], part.residuals[rows], part.conditions[rows], part.norm, meeting, part.complete)


def _values_of(matrix: Tensor, size: float) -> tuple[Complex, NDArray[np.float64]]:
    if len(matrix) == 1:
        return matrix[0].cpu().numpy().astype(complex), np.zeros(1)
    values = torch.linalg.eigvals(matrix).cpu().numpy().astype(complex)
    error = abs(values.sum() - float(matrix.double().trace())) / len(values) ** 0.5
    return values, np.full(len(values), max(backward_error(matrix) * norm(matrix), float(error)) / size)
