"""Structure of a mean transport: how much of it is the identity, how many directions it has, how much is noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdyn.errors import InputError

Matrix = NDArray[np.floating[Any]]
VANISHES = 1e-3  # of the expected size of the error: a draw of noise that says nothing


@dataclass(frozen=True)
class TransportStructure:
    """What one matrix J, (rows, columns), is made of.

    Attributes:
        norm: Frobenius norm of J.
        singular_values: Of J, descending.
        alpha: ``tr(J) / d``, the multiple of the identity nearest to J; NaN where J is not square.
        identity_share: ``d alpha^2 / |J|^2``, the share of the squared norm that is the identity; NaN likewise.
        residual_singular_values: Of ``J - alpha I``, descending; of J where it is not square.
        effective_rank: exp of the entropy of ``s_k^2 / sum s^2`` for these, between 1 and their number.
        stable_rank: ``sum s^2 / s_0^2`` for these.
        log_determinant: ``log |det J|``, natural; -inf for a singular matrix, NaN where J is not square.
        noise_share: Expected squared norm of the error of the mean over that of J - alpha I; NaN without errors.
        resolved: Singular values of J - alpha I above the largest of the noise; NaN without errors.
        noise_singular_values: Of one draw of noise with the covariance of the mean's error (random signs over samples),
            scaled to the expected size of that error, descending; empty without errors, and where the draw vanished.
    """

    norm: float
    singular_values: NDArray[np.floating[Any]]
    alpha: float
    identity_share: float
    residual_singular_values: NDArray[np.floating[Any]]
    effective_rank: float
    stable_rank: float
    log_determinant: float
    noise_share: float
    resolved: float
    noise_singular_values: NDArray[np.floating[Any]]


def transport_structure(
    J: Matrix, standard_error: Matrix | None = None, noise: Matrix | None = None
) -> TransportStructure:
    """The parts of a mean transport: identity, spectrum of the rest, and what of it is noise of the mean.

    A residual stream adds to the state, so that J carries the identity whatever the network has learned; the spectrum
    of the rest is what it has. Noise is measured over the samples, not by a floor taken from the matrix itself.

    Args:
        J: (rows, columns), finite.
        standard_error: Of each entry (`Transport.standard_error`).
        noise: One draw of the error of the mean (`Transport.noise`).

    Returns:
        The structure, in double precision.

    Raises:
        InputError: For what is not a finite matrix, or errors of another shape.

    Example:
        >>> found = transport_structure(np.diag([3.0, 1.0]))
        >>> found.alpha, round(found.identity_share, 12), found.residual_singular_values.tolist()
        (2.0, 0.8, [1.0, 1.0])

    Cost: up to three singular value decompositions and a determinant.

    Source: Roy and Vetterli (2007), effective rank, here of squared singular values; Rudelson and Vershynin (2007),
        stable rank.
    """
    J = _matrix("J", J)
    rows, columns = J.shape
    square, norm = rows == columns, float(np.linalg.norm(J))
    alpha = float(np.trace(J) / rows) if square else float("nan")
    values = np.linalg.svd(without_identity(J), compute_uv=False)
    total = float((values**2).sum())
    share = values[values > 0] ** 2 / total if total > 0 else np.zeros(0)
    noise_share, noise_values = _noise(J.shape, total, standard_error, noise)
    return TransportStructure(
        norm=norm,
        singular_values=np.linalg.svd(J, compute_uv=False),
        alpha=alpha,
        identity_share=float(rows * alpha**2 / norm**2) if square and norm > 0 else float("nan"),
        residual_singular_values=values,
        effective_rank=float(np.exp(-(share * np.log(share)).sum())) if len(share) else float("nan"),
        stable_rank=float(total / values[0] ** 2) if total > 0 else float("nan"),
        log_determinant=float(np.linalg.slogdet(J)[1]) if square else float("nan"),
        noise_share=noise_share,
        resolved=float((values > noise_values[0]).sum()) if noise_values.size else float("nan"),
        noise_singular_values=noise_values,
    )


def without_identity(J: Matrix) -> NDArray[np.float64]:
    """``J - tr(J)/d I``; J itself where it is not square."""
    matrix: NDArray[np.float64] = np.array(J, dtype=np.float64)
    if matrix.shape[0] == matrix.shape[1]:
        matrix[np.diag_indices(len(matrix))] -= np.trace(matrix) / len(matrix)
    return matrix


def _noise(
    shape: tuple[int, ...], total: float, standard_error: Matrix | None, noise: Matrix | None
) -> tuple[float, NDArray[np.floating[Any]]]:
    """Share of a squared norm that is the mean's error, and the singular values of a draw of that error.

    Where all signs of a draw happen to agree, as they do for two samples every other time, it vanishes.
    """
    if standard_error is None or noise is None or not np.isfinite(np.asarray(standard_error)).all():
        return float("nan"), np.zeros(0)
    error, draw = (_matrix(n, value, shape) for n, value in (("standard_error", standard_error), ("noise", noise)))
    size, drawn = float(np.linalg.norm(error)), float(np.linalg.norm(draw))
    share = size**2 / total if total > 0 else float("nan")
    if drawn < VANISHES * size:
        return share, np.zeros(0)
    return share, np.linalg.svd(draw, compute_uv=False) * (size / drawn if drawn else 1.0)


def transport_angles(first: Matrix, second: Matrix, rank: int) -> NDArray[np.float64]:
    """Principal angles between the spaces that two transports read most: their leading right singular vectors.

    Args:
        first: (rows, columns).
        second: (rows, columns) of the same number of columns.
        rank: How many singular vectors, at most the smaller side.

    Returns:
        (rank,) angles in radians, ascending, between 0 and pi / 2.

    Raises:
        InputError: For matrices of different columns, and a rank beyond a side.

    Example:
        >>> transport_angles(np.eye(2)[:1], np.ones((1, 2)), 1).round(4).tolist()
        [0.7854]

    Source: Bjorck and Golub (1973), theorem 1.
    """
    one, other = _matrix("first", first), _matrix("second", second)
    if one.shape[1] != other.shape[1]:
        raise InputError(f"got matrices of {one.shape[1]} and {other.shape[1]} columns, expected the same number")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= min(*one.shape, *other.shape):
        raise InputError(f"got rank={rank!r}, expected between 1 and {min(*one.shape, *other.shape)}")
    cosines = cosines_between(*(np.linalg.svd(matrix)[2][:rank] for matrix in (one, other)))
    return np.asarray(np.arccos(cosines), dtype=np.float64)


def cosines_between(first: Matrix, second: Matrix) -> NDArray[np.float64]:
    """Cosines of the principal angles between the spans of orthonormal rows, descending."""
    return np.asarray(np.clip(np.linalg.svd(first @ second.T, compute_uv=False), 0, 1), dtype=np.float64)


def _matrix(name: str, values: Any, shape: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size or (shape is not None and matrix.shape != shape):
        expected = "a matrix" if shape is None else f"shape {shape}"
        raise InputError(f"got {name} of shape {matrix.shape}, expected {expected}")
    if not np.isfinite(matrix).all():
        raise InputError(f"{name} holds NaN or infinite values; leave the depth out")
    return matrix
