"""Bounds of the resolvent of a diagonalised matrix, at many points at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resdyn.linalg._diagonalised import Complex, Diagonalised, Floats, Matrix

_NEAREST = 4  # eigenvalues whose heights are checked first
_START = 64  # points of a line at first
_POINTS = 8000  # of a line at most
_TOGETHER = 256
_DEFECT = 0.5  # of the diagonalisation, beyond which its resolvent bounds nothing


class Resolvent:
    """How far z is from being an eigenvalue of A: lower bounds of sigma_min(z - A), A the diagonalised matrix X D Y.

    With a ``factor`` L, A is the core c + B Q of the larger matrix c + Q B, Q with orthonormal columns, L L^T = B B^T,
    and the bounds are those of the larger one, c the ``shift``: by z - c - Q B and Woodbury's formula its sigma_min is
    at least ``|z - c| / (1 + ||(z - A)^-1 L||)``.

    The Frobenius norm of X (z - D)^-1 Y L is a quadratic form in the vector 1 / (z - lambda_i), whose matrix is the
    product by elements of the Gram matrices of X and Y L: a point costs one product with that matrix. What X D Y is not
    of A, and rounding, are measured and added.
    """

    def __init__(self, pairs: Diagonalised, factor: Matrix | None = None, shift: float = 0.0) -> None:
        self.values = pairs.values.astype(complex)
        right, left = pairs.gram_right(), pairs.gram_left(factor)
        self.lengths = _roots(right), _roots(left)
        self.size = _size(pairs.T) if factor is None else abs(shift) + _size(factor)
        self._form, self._lifted, self._shift = right * left.conj(), factor is not None, shift
        self._inverse, self._rows = pairs.defects()

    def smallest(self, points: Complex) -> Floats:
        """Lower bounds (p,) of sigma_min(z - A) at points z (p,); 0 where nothing is known."""
        norms = self.norms(points)
        with np.errstate(all="ignore"):
            bounds = np.abs(points - self._shift) / (1 + norms) if self._lifted else 1 / norms
        return np.nan_to_num(bounds, nan=0.0, posinf=0.0)

    def norms(self, points: Complex) -> Floats:
        """Upper bounds (p,) of ||(z - A)^-1||_F, with L behind it if there is one."""
        with np.errstate(all="ignore"):
            weights = 1 / (points[None] - self.values[:, None])
            sizes = np.abs(weights)
            squares = (weights.conj() * (self._form @ weights)).real.sum(axis=0)
            rounding = len(self.values) * np.finfo(float).eps * ((self.lengths[0] * self.lengths[1]) @ sizes) ** 2
            norms = np.sqrt(squares.clip(min=0) + rounding)
            defect = self._inverse + self._rows * np.sqrt(self.lengths[0] ** 2 @ sizes**2)
            return np.asarray(np.where(defect < _DEFECT, norms / (1 - defect), np.inf))

    def is_clear(self, x: float, delta: float) -> bool:
        """Whether sigma_min(A - (x + i y) I) > delta for all y; y >= 0 is enough, A is real."""
        nearest = np.argsort(np.abs(self.values.real - x))[:_NEAREST]
        if (self.smallest(x + 1j * np.append(np.abs(self.values.imag[nearest]), 0.0)) <= delta).any():
            return False
        heights = np.linspace(0.0, self.size + delta, _START)
        bounds = self.smallest(x + 1j * heights)
        while bool((bounds > delta).all()):
            gaps = np.flatnonzero(np.diff(heights) >= bounds[:-1] + bounds[1:] - 2 * delta)
            if not len(gaps):
                return True
            if len(heights) + len(gaps) > _POINTS:
                return False
            middle = (heights[gaps] + heights[gaps + 1]) / 2
            parts = np.split(middle, range(_TOGETHER, len(middle), _TOGETHER))
            new = np.concatenate([self.smallest(x + 1j * part) for part in parts])
            heights, bounds = np.insert(heights, gaps + 1, middle), np.insert(bounds, gaps + 1, new)
        return False


def _roots(gram: Complex) -> Floats:
    return np.asarray(np.sqrt(gram.diagonal().real.astype(float).clip(min=0)))


def _size(matrix: Matrix) -> float:
    """An upper bound of the norm."""
    entries: NDArray[np.float64] = np.abs(matrix).astype(float)
    return float((entries.sum(axis=0).max() * entries.sum(axis=1).max()) ** 0.5)
