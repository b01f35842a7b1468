"""Which coordinates a square operator actually uses, and at which scale."""

from __future__ import annotations

import torch
from torch import Tensor

from resdyn.errors import ComputationError
from resdyn.linalg._norms import power_of_two
from resdyn.linalg._orthonormal import random_rows
from resdyn.linalg.operator import LinearOperator, ScaledOperator

_COLUMNS = 2
_MODERATE = 1e-6, 1e6


def near_one(operator: LinearOperator) -> tuple[LinearOperator, float]:
    """(c A, c) with c a power of two that brings products near one, so that no square leaves the dtype.

    c = 1 for an operator whose scale is moderate. Costs one product.
    """
    generator = torch.Generator().manual_seed(0)
    like = torch.empty(0, dtype=operator.dtype, device=operator.device)
    size = float(operator.matmat(random_rows(1, operator.shape[1], generator, like).T).abs().max())
    if not size < float("inf"):
        raise ComputationError("a product holds NaN or infinite values")
    low, high = _MODERATE
    factor = 1.0 if low < size * operator.shape[0] ** 0.5 < high else power_of_two(size)
    return (operator, 1.0) if factor == 1 else (ScaledOperator(operator, factor), factor)


def live_coordinates(operator: LinearOperator, generator: torch.Generator) -> Tensor:
    """Indices of the coordinates left when those with a zero row or a zero column are removed repeatedly.

    Expanding ``det(A - z I)`` along a zero row or column i gives ``-z`` times the determinant without row and column i,
    so each coordinate removed is an eigenvalue 0, and the others are those of ``A[live, live]``, exactly.

    A row counts as zero when its products with random vectors are exactly zero, as they are after a ReLU that is
    off; a nonzero row passes for zero with probability about eps^2. Costs 4 matvecs per round, two rounds or more.
    """
    size = operator.shape[0]
    like = torch.empty(0, dtype=operator.dtype, device=operator.device)
    live = torch.ones(size, dtype=torch.bool, device=operator.device)
    while bool(live.any()):
        X = random_rows(_COLUMNS, size, generator, like).T * live[:, None]
        rows = (operator.matmat(X) != 0).any(dim=1)
        columns = (operator.rmatmat(X) != 0).any(dim=1)
        remaining = live & rows & columns
        if torch.equal(remaining, live):
            break
        live = remaining
    return live.nonzero()[:, 0]


def explicit(operator: LinearOperator, generator: torch.Generator) -> Tensor:
    """The matrix of an operator, from products with the rows or columns that are not zero, whichever are fewer.

    What counts as zero is what it is for `live_coordinates`; costs 4 matvecs on top.
    """
    m, n = operator.shape
    like = torch.empty(0, dtype=operator.dtype, device=operator.device)
    rows = (operator.matmat(random_rows(_COLUMNS, n, generator, like).T) != 0).any(dim=1)
    columns = (operator.rmatmat(random_rows(_COLUMNS, m, generator, like).T) != 0).any(dim=1)
    matrix = like.new_zeros(m, n)
    if bool(rows.any()) and bool(columns.any()):
        kept = rows.nonzero()[:, 0], columns.nonzero()[:, 0]
        matrix[kept[0][:, None], kept[1]] = operator.restricted(*kept).to_dense()
    return matrix
