"""Subspaces: orthonormal bases, the angles between them, and the alignment of one basis with another."""

from __future__ import annotations

import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.errors import InputError
from resdyn.linalg._orthonormal import orthonormal_block


def orthonormalise(X: Tensor, seed: int = 0) -> Tensor:
    """An orthonormal basis Q with ``span(X)`` contained in ``span(Q)``.

    By Cholesky QR, repeated until the columns are orthonormal to rounding: products of tall matrices only. A nearly
    dependent X takes more passes (with a shifted factor); directions that X lacks are filled with random ones.

    Args:
        X: (n, k), k <= n, of a real floating type.
        seed: of the random directions.

    Returns:
        Q (n, k), orthonormal columns.

    Raises:
        InputError: X is not a matrix with at least as many rows as columns.
        ComputationError: X holds NaN or infinite values.

    Cost:
        4 n k^2 flops in the usual two passes.

    Source:
        Yamamoto, Nakatsukasa, Yanagisawa and Fukaya (2015); the shift: Fukaya et al. (2020).

    Example:
        >>> orthonormalise(torch.tensor([[3.0], [4.0]]))
        tensor([[0.6000],
                [0.8000]])
    """
    if X.ndim != 2 or X.shape[0] < X.shape[1]:
        raise InputError(f"got a tensor of shape {tuple(X.shape)}; expected columns (n, k) with k <= n")
    rows, generator = X.detach().T, torch.Generator().manual_seed(checks.seed(seed))
    return orthonormal_block(rows, rows[:0], generator).Q.T


def principal_angles(X: Tensor, Y: Tensor) -> Tensor:
    """Principal angles ``0 <= t_1 <= ... <= pi/2`` between span(X) and span(Y).

    Cosines are the singular values of ``X^T Y``, sines those of ``Y - X X^T Y``; small angles are taken from the sines
    and large ones from the cosines, so both are accurate to rounding (a cosine alone loses angles below sqrt(eps)).

    Args:
        X: (n, p), orthonormal columns.
        Y: (n, q), orthonormal columns.

    Returns:
        (min(p, q),) in radians, ascending.

    Raises:
        InputError: tensors that are not matrices with the same number of rows.

    Source:
        Björck and Golub (1973), section 4; Knyazev and Argentati (2002), Algorithm 3.1.

    Example:
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
    """``X R`` with the orthogonal R (k, k) that minimises ``||X R - Y||_F``.

    ``R = A B^T`` from the singular value decomposition ``X^T Y = A S B^T`` (the orthogonal Procrustes problem). Use it
    to compare bases whose vectors are determined only up to rotation, such as singular vectors of clustered values.

    Args:
        X: (n, k).
        Y: (n, k).

    Returns:
        X R (n, k).

    Raises:
        InputError: tensors that are not matrices of equal shape.

    Source:
        Schönemann (1966).

    Example:
        >>> align(torch.eye(2).flip(1), torch.eye(2))
        tensor([[1., 0.],
                [0., 1.]])
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
