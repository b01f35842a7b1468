"""One contract, many cases: what every operator and every solver must keep."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from resdyn.linalg import LinearOperator, SVDResult, svd


def tolerance(dtype: torch.dtype, factor: float = 100.0) -> float:
    return factor * torch.finfo(dtype).eps


def assert_near(actual: Tensor, expected: Tensor, scale: float, factor: float = 100.0) -> None:
    bound = tolerance(actual.dtype, factor) * (scale or 1.0)
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=bound)


def check_operator(operator: LinearOperator, matrix: Tensor) -> None:
    """``operator`` behaves as ``matrix`` does: products, adjoint identity, counting, dense and SciPy forms."""
    m, n = matrix.shape
    assert operator.shape == (m, n)
    assert operator.dtype == matrix.dtype
    scale = float(matrix.double().norm()) * (m + n) ** 0.5
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(n, 3, generator=generator, dtype=matrix.dtype)
    Y = torch.randn(m, 3, generator=generator, dtype=matrix.dtype)

    before = operator.num_matvecs
    assert_near(operator.matmat(X), matrix @ X, scale)
    assert_near(operator.rmatmat(Y), matrix.T @ Y, scale)
    assert operator.num_matvecs == before + 6
    assert_near(operator @ X, matrix @ X, scale)
    assert_near(operator.T @ Y, matrix.T @ Y, scale)
    assert_near(operator.matvec(X[:, 0]), matrix @ X[:, 0], scale)
    assert_near(operator.rmatvec(Y[:, 0]), matrix.T @ Y[:, 0], scale)
    assert_near((operator @ X * Y).sum(0), (X * operator.rmatmat(Y)).sum(0), scale * (m + n) ** 0.5)
    assert_near(operator.to_dense(), matrix, scale)
    assert_near(operator.to_dense(memory_limit=1), matrix, scale)
    _check_scipy(operator, matrix, X, Y, scale)


def _check_scipy(operator: LinearOperator, matrix: Tensor, X: Tensor, Y: Tensor, scale: float) -> None:
    form = operator.to_scipy()
    assert form.shape == tuple(matrix.shape)
    assert form.dtype == matrix.numpy().dtype
    bound = {"rtol": 0, "atol": tolerance(matrix.dtype) * (scale or 1.0)}
    np.testing.assert_allclose(form.matvec(X[:, 0].numpy()), (matrix @ X[:, 0]).numpy(), **bound)
    np.testing.assert_allclose(form.rmatvec(Y[:, 0].numpy()), (matrix.T @ Y[:, 0]).numpy(), **bound)
    np.testing.assert_allclose(form.matmat(X.numpy()), (matrix @ X).numpy(), **bound)
    np.testing.assert_allclose(form.rmatmat(Y.numpy()), (matrix.T @ Y).numpy(), **bound)


def check_solver(operator: LinearOperator, matrix: Tensor, k: int, method: str) -> SVDResult:
    """Triplets of ``operator`` against the float64 decomposition of ``matrix``: identities, residuals, order, signs."""
    before = operator.num_matvecs
    result = svd(operator, k, method)
    assert result.num_matvecs == operator.num_matvecs - before
    m, n = matrix.shape
    assert (result.U.shape, result.S.shape, result.V.shape) == ((m, k), (k,), (n, k))
    assert result.S.dtype == result.residuals.dtype == matrix.dtype
    assert result.method == method

    identity = torch.eye(k, dtype=torch.float64)
    U, S, V = result.U.double(), result.S.double(), result.V.double()
    assert_near((U.T @ U).to(matrix.dtype), identity, scale=1.0)
    assert_near((V.T @ V).to(matrix.dtype), identity, scale=1.0)
    assert bool((S[1:] <= S[:-1]).all())
    assert bool((S >= 0).all())

    exact = torch.linalg.svdvals(matrix.double())
    largest = float(exact[0])
    residuals = true_residuals(matrix, result)
    slack = tolerance(matrix.dtype)
    assert bool((result.residuals.double() - residuals).abs().max() <= slack)
    assert bool(((S - exact[:k]).abs() <= (residuals + slack) * (largest or 1.0)).all())
    assert torch.equal(result.converged, result.residuals <= torch.finfo(matrix.dtype).eps ** 0.5)
    lacking = (exact[:k] - S) / (largest or 1.0)
    rounding = 64 * torch.finfo(matrix.dtype).eps
    assert bool(((-rounding <= lacking) & (lacking <= result.bounds.double())).all())
    columns = torch.arange(k)
    assert bool((result.V[result.V.abs().argmax(dim=0), columns] > 0).all())
    return result


def true_residuals(matrix: Tensor, result: SVDResult) -> Tensor:
    """max(||A v - s u||, ||A^T u - s v||) / S[0] in float64 (not divided where that is 0)."""
    A, U, S, V = matrix.double(), result.U.double(), result.S.double(), result.V.double()
    norms = torch.maximum((A @ V - U * S).norm(dim=0), (A.T @ U - V * S).norm(dim=0))
    return norms / (float(S[0]) or 1.0)
