"""The pseudo-inverse of an operator, by conjugate gradients on every product."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from resdyn.errors import ComputationError, InputError
from resdyn.linalg.operator import LinearOperator

Product = Callable[[Tensor], Tensor]


class PseudoInverse(LinearOperator):
    """``P^+`` of an operator P (m, n), as an operator (n, m): P^+ y is the shortest x that minimises ||P x - y||.

    Every product is solved for by CGLS from x = 0, all columns at once, until ||P^T (y - P x)|| <= tol ||P^T y||; it
    costs two products with P an iteration, one iteration for a selection of coordinates, about the ratio of the
    largest to the smallest nonzero singular value of P else. Raises ComputationError where ``max_iterations`` do not
    suffice.

    Source: Hestenes and Stiefel (1952), section 10; Björck (1996), algorithm 7.4.1.

    >>> from resdyn.linalg import DenseOperator
    >>> PseudoInverse(DenseOperator(torch.tensor([[2.0, 0.0]]))) @ torch.tensor([4.0])
    tensor([2., 0.])
    """

    def __init__(self, operator: LinearOperator, tol: float | None = None, max_iterations: int = 500) -> None:
        m, n = operator.shape
        super().__init__((n, m), operator.dtype, operator.device)
        if tol is not None and not tol > 0:
            raise InputError(f"got tol={tol}; expected a positive number")
        self._operator = operator
        self._tol = torch.finfo(operator.dtype).eps ** (3 / 4) if tol is None else tol
        self._max_iterations = max_iterations

    def _matmat(self, X: Tensor) -> Tensor:
        return self._solve(self._operator.matmat, self._operator.rmatmat, X)

    def _rmatmat(self, Y: Tensor) -> Tensor:
        return self._solve(self._operator.rmatmat, self._operator.matmat, Y)

    def _solve(self, product: Product, adjoint: Product, Y: Tensor) -> Tensor:
        """CGLS; a column that is solved stands still."""
        residual, gradient = Y.clone(), adjoint(Y)
        X, direction = torch.zeros_like(gradient), gradient.clone()
        norms = (gradient**2).sum(dim=0)
        goal = self._tol**2 * norms
        for _ in range(self._max_iterations):
            open_ = norms > goal
            if not bool(open_.any()):
                return X
            image = product(direction)
            step = torch.where(open_, norms / (image**2).sum(dim=0).clamp_min(torch.finfo(Y.dtype).tiny), 0.0)
            X = X + step * direction
            residual = residual - step * image
            gradient = adjoint(residual)
            new = (gradient**2).sum(dim=0)
            direction = gradient + torch.where(open_, new / norms.clamp_min(torch.finfo(Y.dtype).tiny), 0.0) * direction
            norms = torch.where(open_, new, norms)
        raise ComputationError(
            f"the pseudo-inverse of {self._operator!r} did not converge in {self._max_iterations} iterations"
        )
