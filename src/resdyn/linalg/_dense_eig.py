"""Eigenvalues of explicit matrices, diagonal block by diagonal block."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn.linalg._discs import ROUNDING, meeting_discs
from resdyn.linalg._ends import Complex, leading, without_rounding
from resdyn.linalg._norms import column_norms, norm
from resdyn.linalg._structure import of_matrix


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


def dense_ends(matrix: Tensor, ends: tuple[str, ...], k: int, conditions: bool) -> tuple[dict[str, Values], int]:
    """Ends of the full decomposition, with measured residuals and conditions, and the number of diagonal blocks."""
    size = float(torch.linalg.matrix_norm(matrix.double(), 2))
    blocks = [matrix[block][:, block] for block in of_matrix(matrix)]
    everything = joined([pairs_of(block, size, conditions) for block in blocks])
    return {end: picked(everything, end, k) for end in ends}, len(blocks)


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
