"""An operator of low rank as a small matrix: the nonzero eigenvalues of A = Q B are those of B Q."""

from __future__ import annotations

import torch
from torch import Tensor

from resdyn.linalg._norms import column_norms
from resdyn.linalg._orthonormal import orthonormal_block, random_rows
from resdyn.linalg.operator import LinearOperator

_BLOCK = 128
_ROUNDING = 10.0  # of a product, in eps times its size


def low_rank(operator: LinearOperator, largest: int, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """(B Q, L) with orthonormal Q (n, r), A = Q B to rounding, and L (r, r) with L L^T = B B^T; None for r > largest.

    Q spans the range of A, built from blocks of random vectors until a fresh block brings nothing but rounding: a
    direction that A reaches by more than ten times that is missed with probability 10^-128 (Halko, Martinsson and
    Tropp 2011, section 4.3). Costs a little more than 2 r products.
    """
    n = operator.shape[0]
    like = torch.empty(0, dtype=operator.dtype, device=operator.device)
    Q, eps = like.new_zeros(0, n), torch.finfo(operator.dtype).eps
    while len(Q) <= largest:
        images = operator.matmat(random_rows(_BLOCK, n, generator, like).T).T
        rest = images
        for _ in range(2):
            rest = rest - (rest @ Q.T) @ Q
        if bool((column_norms(rest.T) <= _ROUNDING * eps * column_norms(images.T)).all()):
            rows = operator.rmatmat(Q.T).double().T
            return rows @ Q.double().T, torch.linalg.qr(rows.T, mode="r").R.T
        Q = torch.cat([Q, orthonormal_block(rest, Q, generator).Q])
    return None
