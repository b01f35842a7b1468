"""Subspaces: orthonormal bases, the angles between them, and the alignment of one basis with another."""

from __future__ import annotations

import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.errors import InputError
from resdyn.linalg._orthonormal import orthonormal_block


def orthonormalise(X: Tensor, seed: int = 0) -> Tensor:
    """An orthonormal basis Q (n, k) with ``span(X) in span(Q)``, for X of shape (n, k), k <= n.

    By Cholesky QR, repeated until the columns are orthonormal to rounding: products of tall matrices only, 4 n k^2
    flops in the usual two passes. A nearly dependent X takes more passes (with a shifted factor); directions
    that X does not have at all are filled with random ones drawn from ``seed``.

    Raises InputError if X is not a tall matrix, ComputationError if it holds NaN or infinite values.
    Source: Yamamoto, Nakatsukasa, Yanagisawa and Fukaya (2015); the shift: Fukaya et al. (2020).

    >>> orthonormalise(torch.tensor([[3.0], [4.0]]))
    tensor([[0.6000],
            [0.8000]])
    """
    if X.ndim != 2 or X.shape[0] < X.shape[1]:
        raise InputError(f"got a tensor of shape {tuple(X.shape)}; expected columns (n, k) with k <= n")
    rows, generator = X.detach().T, torch.Generator().manual_seed(checks.seed(seed))
    return orthonormal_block(rows, rows[:0], generator).Q.T


def principal_angles(X: Tensor, Y: Tensor) -> Tensor:
    """Angles ``0 <= t_1 <= ... <= pi/2`` between span(X) and span(Y), for orthonormal X (n, p) and Y (n, q).

    In radians, min(p, q) of them: cosines are the singular values of X^T Y, sines those of Y - X X^T Y; small
    angles are taken from the sines and large ones from the cosines, so both are accurate to rounding (a cosine alone
    loses angles below sqrt(eps)).

    Source: Björck and Golub (1973), section 4; Knyazev and Argentati (2002), Algorithm 3.1.

    >>> x, y = torch.eye(3)[:, :1], torch.eye(3)[:, 1:]
    >>> principal_angles(x, y)
    tensor([1.5708])
    """
    _check_bases(X, Y)
    if X.shape[1] < Y.shape[1]:
        X, Y = Y, X
    overlap = X.T @ Y
    cosines = torch.linalg.svdvals(overlap).clamp(max=1)
    sines = torch.linalg.svdvals(Y - X @ overlap).flip(0).clamp(max=1)
    return torch.where(cosines**2 > 0.5, sines.asin(), cosines.acos())


def align(X: Tensor, Y: Tensor) -> Tensor:
    """``X R`` with the orthogonal R (k, k) that minimises ``||X R - Y||_F``, for X and Y of shape (n, k).

    R = A B^T from the singular value decomposition X^T Y = A S B^T (the orthogonal Procrustes problem). Use it to
    compare bases whose vectors are determined only up to rotation, such as singular vectors of clustered values.

    Source: Schönemann (1966).
    """
    _check_bases(X, Y)
    if X.shape != Y.shape:
        raise InputError(f"got bases of shapes {tuple(X.shape)} and {tuple(Y.shape)}; expected equal shapes")
    left, _, right = torch.linalg.svd(X.T @ Y)
    rotation: Tensor = left @ right
    return X @ rotation


def _check_bases(X: Tensor, Y: Tensor) -> None:
    if X.ndim != 2 or Y.ndim != 2 or X.shape[0] != Y.shape[0]:
        raise InputError(f"got shapes {tuple(X.shape)} and {tuple(Y.shape)}; expected (n, p) and (n, q)")
