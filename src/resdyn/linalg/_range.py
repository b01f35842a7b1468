"""An operator of low rank as a small matrix: the nonzero eigenvalues of A = Q B are those of B Q."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from resdyn.linalg._norms import column_norms
from resdyn.linalg._orthonormal import random_rows
from resdyn.linalg.operator import LinearOperator

_BLOCK = 128
_ROUNDING = 10.0  # of a product, in eps times its size
_SPREAD = 3.0  # of the rounding of a block of products in one direction, over that of one product


def low_rank(operator: LinearOperator, largest: int, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """(B Q, L) with orthonormal Q (n, r), A = Q B to rounding, and L (r, r) with L L^T = B B^T; None for r > largest.

    Costs a little more than 2 r products.
    """
    n = operator.shape[0]
    like = torch.empty(0, n, dtype=operator.dtype, device=operator.device)
    Q = range_basis(operator.matmat, like, largest, generator, torch.finfo(operator.dtype).eps)
    if Q is None:
        return None
    rows = operator.rmatmat(Q.T).double().T
    return rows @ Q.double().T, torch.linalg.qr(rows.T, mode="r").R.T


def range_basis(
    product: Callable[[Tensor], Tensor], like: Tensor, largest: int, generator: torch.Generator, eps: float
) -> Tensor | None:
    """Orthonormal rows (r, n) that span the range of a map to rounding; None for r > largest.

    Built from blocks of random vectors until a fresh block brings nothing but rounding: a direction that the map
    reaches by more than ten times that is missed with probability 10^-128 (Halko, Martinsson and Tropp 2011,
    section 4.3).

    Args:
        product: (n, k) to (n, k).
        like: (0, n), of the dtype and on the device of the rows.
        largest: r at most.
        generator: of the random vectors.
        eps: of the precision in which the map is known.
    """
    n, Q = like.shape[1], like
    while len(Q) <= largest:
        images = product(random_rows(_BLOCK, n, generator, like).T).T
        rest = _outside(images, Q)
        noise = _ROUNDING * eps * column_norms(images.T)
        if bool((column_norms(rest.T) <= noise).all()):
            return Q
        directions, R = torch.linalg.qr(rest.T)
        left, sizes, _ = torch.linalg.svd(R.double())
        kept = int((sizes > _SPREAD * float(noise.max())).sum())
        if not kept:
            return Q
        block = _outside((directions @ left[:, :kept].to(directions)).T, Q)
        Q = torch.cat([Q, torch.linalg.qr(block.T).Q.T])
    return None


def _outside(rows: Tensor, Q: Tensor) -> Tensor:
    return torch.addmm(rows, rows @ Q.T, Q, alpha=-1)
