"""Randomized SVD by subspace iteration (Algorithm 971)."""

from __future__ import annotations

import torch
from torch import Tensor

from resdyn.linalg._orthonormal import Block, orthonormal_block, random_rows
from resdyn.linalg._triplets import Triplets, residual_norms
from resdyn.linalg.operator import LinearOperator


def randomized(
    operator: LinearOperator, k: int, *, power_iterations: int, oversampling: int, generator: torch.Generator
) -> Triplets:
    """The k largest triplets of an operator (m, n) with m >= n."""

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
    return Triplets(U, S, V, residual_norms(operator.matmat(V) - U * S.to(U), S))
