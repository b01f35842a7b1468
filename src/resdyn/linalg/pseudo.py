"""The pseudo-inverse of an operator, by conjugate gradients on every product."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.errors import ComputationError
from resdyn.linalg._norms import column_norms, power_of_two
from resdyn.linalg.operator import LinearOperator

_TINY = 1e-150

Product = Callable[[Tensor], Tensor]


class PseudoInverse(LinearOperator):
    """``P^+`` (n, m) of an operator P (m, n): ``P^+ y`` is the shortest x that minimises ``||P x - y||``.

    Every product is solved for by CGLS from x = 0, all columns at once, until ``||P^T (y - P x)|| <= tol ||P^T y||``.

    Args:
        operator: P (m, n).
        tol: relative residual of the normal equations at which a column is solved, in (0, 1); default eps^(3/4).
        max_iterations: of CGLS per product (default 500).

    Raises:
        InputError: ``tol`` outside (0, 1), or fewer than one iteration.
        ComputationError: from a product, where ``max_iterations`` do not suffice or values are not finite.

    Cost:
        Per column, two products with P per iteration; one iteration for a selection of coordinates, otherwise about as
        many as the ratio of the largest to the smallest nonzero singular value of P.

    Source:
        Hestenes and Stiefel (1952), section 10; Björck (1996), algorithm 7.4.1.

    Example:
        >>> from resdyn.linalg import DenseOperator
        >>> PseudoInverse(DenseOperator(torch.tensor([[2.0, 0.0]]))) @ torch.tensor([4.0])
        tensor([2., 0.])
    """

    def __init__(self, operator: LinearOperator, tol: float | None = None, max_iterations: int = 500) -> None:
        m, n = operator.shape
        super().__init__((n, m), operator.dtype, operator.device)
        if tol is not None:
            tol = checks.number("tol", tol, "a positive number below 1", 0, 1)
        self._operator = operator
        self._tol = torch.finfo(operator.dtype).eps ** (3 / 4) if tol is None else tol
        self._max_iterations = checks.whole("max_iterations", max_iterations, 1)

    def _matmat(self, X: Tensor) -> Tensor:
        return self._solve(self._operator.matmat, self._operator.rmatmat, X)

    def _rmatmat(self, Y: Tensor) -> Tensor:
        return self._solve(self._operator.rmatmat, self._operator.matmat, Y)

    def _solve(self, product: Product, adjoint: Product, Y: Tensor) -> Tensor:
        """CGLS on c P and c_j y_j, powers of two near their sizes; solved columns are left unchanged."""
        sizes = column_norms(Y)
        columns = torch.tensor([power_of_two(size) for size in sizes.tolist()]).to(Y)
        residual = Y * columns
        gradient = adjoint(residual)
        size = float(gradient.abs().max()) if gradient.numel() else 0.0
        if not size < float("inf"):
            raise ComputationError(f"the pseudo-inverse of {self._operator!r} met NaN or infinite values")
        factor = power_of_two(size)
        gradient = factor * gradient
        X, direction = torch.zeros_like(gradient), gradient.clone()
        norms = column_norms(gradient)
        goal = self._tol * norms
        for _ in range(self._max_iterations):
            active = norms > goal
            if not bool(active.any()):
                return factor * X / columns
            image = factor * product(direction)
            ratio = norms / column_norms(image).clamp_min(_TINY)
            step = torch.where(active, ratio**2, 0.0).to(Y)
            X = X + step * direction
            residual = residual - step * image
            gradient = factor * adjoint(residual)
            new = column_norms(gradient)
            turn = torch.where(active, (new / norms.clamp_min(_TINY)) ** 2, 0.0).to(Y)
            direction = gradient + turn * direction
            norms = torch.where(active, new, norms)
        raise ComputationError(
            f"the pseudo-inverse of {self._operator!r} did not converge in {self._max_iterations} iterations"
        )
