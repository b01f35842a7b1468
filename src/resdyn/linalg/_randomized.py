"""Randomized SVD by subspace iteration (Algorithm 971)."""

from __future__ import annotations

import torch
from torch import Tensor

from resdyn.linalg._completeness import Confidence, certify, num_converged
from resdyn.linalg._orthonormal import Block, orthonormal_block, random_rows, to_small
from resdyn.linalg._triplets import Triplets, residual_norms
from resdyn.linalg.operator import LinearOperator


def randomized(
    operator: LinearOperator,
    k: int,
    *,
    power_iterations: int,
    oversampling: int,
    tol: float,
    confidence: Confidence,
    generator: torch.Generator,
) -> Triplets:
    """The k largest triplets of an operator (m, n) with m >= n, and bounds from a search for what was missed."""
    before = operator.num_matvecs

    def orthonormal(X: Tensor) -> Block:
        return orthonormal_block(X, X[:0], generator)

    n = operator.shape[1]
    like = torch.empty(0, dtype=operator.dtype, device=operator.device)
    Q = random_rows(min(k + oversampling, n), n, generator, like)
    Q = orthonormal(operator.matmat(Q.T).T).Q
    for _ in range(power_iterations):
        Q = orthonormal(operator.rmatmat(Q.T).T).Q
        Q = orthonormal(operator.matmat(Q.T).T).Q
    projected = orthonormal(operator.rmatmat(Q.T).T)
    left, values, right = torch.linalg.svd(projected.L)
    U = Q.T @ left[:, :k].to(Q)
    V = projected.Q.T @ right[:k].T.to(Q)
    S = values[:k]
    defect = operator.matmat(V) - U * S.to(U)
    residuals = residual_norms(defect, S)
    bounds, spent = torch.full_like(S, float("inf")), operator.num_matvecs - before
    if count := num_converged(residuals, tol):
        # A^T u = s v holds by construction: left and right swap roles
        gram = to_small(defect.double().T @ defect.double())
        spread, vectors = torch.linalg.eigh(gram)
        bounds = certify(
            operator.adjoint,
            U.T,
            S,
            spread.clamp_min(0).sqrt()[:, None] * vectors.T,
            count,
            tol * float(S[0]),
            confidence.of_search(1),
            generator,
            spent=spent,
            max_matvecs=2**63,
        ).bounds / (float(S[0]) or 1.0)
    return Triplets(U, S, V, residuals, bounds, operator.num_matvecs - before - spent)
