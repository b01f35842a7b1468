"""Operators given by a matrix or by a pair of functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from resdyn.errors import InputError
from resdyn.linalg.operator import Index, LinearOperator, indices


class DenseOperator(LinearOperator):
    """The operator of an explicit matrix.

    Args:
        matrix: (m, n), of a real floating type; not copied, and detached from its gradients.
        directions: (m, r), whose columns are thought to span the range of the matrix less a multiple of the identity;
            saves the search for them where they do (default: none known).

    Attributes:
        matrix: (m, n).
        directions: (m, r) or None.

    Raises:
        InputError: a tensor that is not a matrix, or not of a real floating type.

    Example:
        >>> DenseOperator(torch.tensor([[1.0, 2.0]])) @ torch.tensor([3.0, 4.0])
        tensor([11.])
    """

    def __init__(self, matrix: Tensor, directions: Tensor | None = None) -> None:
        if matrix.ndim != 2:
            raise InputError(f"got a tensor of shape {tuple(matrix.shape)}; expected a matrix (m, n)")
        super().__init__((matrix.shape[0], matrix.shape[1]), matrix.dtype, matrix.device)
        if directions is not None and (directions.ndim != 2 or len(directions) != len(matrix)):
            raise InputError(f"got directions of shape {tuple(directions.shape)}; expected ({len(matrix)}, r)")
        self.matrix, self.directions = matrix.detach(), directions

    def restricted(self, rows: Index | None = None, cols: Index | None = None) -> LinearOperator:
        """The submatrix ``A[rows, cols]``, copied; arguments as in ``LinearOperator.restricted``."""
        kept = indices(rows, self.shape[0], self.device), indices(cols, self.shape[1], self.device)
        directions = None if self.directions is None else self.directions[kept[0]]
        return DenseOperator(self.matrix[kept[0]][:, kept[1]], directions)

    def to_dense(self, memory_limit: int = 2**28) -> Tensor:
        """The matrix itself, not a copy; no products.

        Args:
            memory_limit: not needed here.

        Returns:
            (m, n).
        """
        return self.matrix

    # Rows by columns: with few columns BLAS takes up to forty times as long for the matrix on the left, transposed.
    def _matmat(self, X: Tensor) -> Tensor:
        return (X.T @ self.matrix.T).T

    def _rmatmat(self, Y: Tensor) -> Tensor:
        return (Y.T @ self.matrix).T


class FunctionOperator(LinearOperator):
    """The operator of two functions, ``X -> A X`` and ``Y -> A^T Y``.

    Args:
        shape: (m, n).
        dtype: of the vectors that both functions take and return.
        device: of those vectors.
        matmat: maps (n, k) to ``A X`` (m, k).
        rmatmat: maps (m, k) to ``A^T Y`` (n, k). That it is the adjoint of ``matmat`` is not checked.

    Raises:
        InputError: a shape that is not two positive sizes, or a dtype that is not a real floating type.

    Example:
        >>> A = FunctionOperator((2, 2), torch.float32, "cpu", lambda X: X.flip(0), lambda Y: Y.flip(0))
        >>> A @ torch.tensor([1.0, 2.0])
        tensor([2., 1.])
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device | str,
        matmat: Callable[[Tensor], Tensor],
        rmatmat: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(shape, dtype, device)
        self._matmat_function = matmat
        self._rmatmat_function = rmatmat

    def _matmat(self, X: Tensor) -> Tensor:
        return self._matmat_function(X)

    def _rmatmat(self, Y: Tensor) -> Tensor:
        return self._rmatmat_function(Y)


class RememberedOperator(LinearOperator):
    """An operator that keeps the matrix that `to_dense` has formed.

    Args:
        operator: A, (m, n).

    Attributes:
        matrix: (m, n), None until it has been formed.
    """

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.shape, operator.dtype, operator.device)
        self._operator = operator
        self.matrix: Tensor | None = None

    def to_dense(self, memory_limit: int = 2**28) -> Tensor:
        """The matrix, formed at the first call; arguments as in ``LinearOperator.to_dense``."""
        if self.matrix is None:
            self.matrix = super().to_dense(memory_limit)
        return self.matrix

    def _matmat(self, X: Tensor) -> Tensor:
        return self._operator.matmat(X)

    def _rmatmat(self, Y: Tensor) -> Tensor:
        return self._operator.rmatmat(Y)
