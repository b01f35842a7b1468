"""Vertical lines that no eigenvalue of a perturbed matrix crosses."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from resdyn.linalg._diagonalised import Complex, Matrix

_DISTANCES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # of lines from the axis, relative to the norm
_NEAREST = 4  # eigenvalues whose heights are checked first
_ITERATIONS = 4
_WORK = 2e9  # budget for one matrix, in entries of triangular matrices
_POINTS = 1000  # budget in points


class Lines(Protocol):
    """What knows where all eigenvalues of a matrix A are, and lower bounds of sigma_min(A - z) along a line."""

    @property
    def values(self) -> Complex: ...

    @property
    def size(self) -> float:
        """An upper bound of the norm."""

    def is_clear(self, x: float, delta: float, /) -> bool:
        """Whether sigma_min(A - (x + i y)) > delta for all y."""


def beyond_lines(lines: Lines, delta: float, copies: int = 0, shift: float = 0.0) -> tuple[int, int]:
    """(left, right): eigenvalues of A beyond the nearest lines that no A + E with ||E|| <= delta has crossed.

    The eigenvalues of all A + E are the points z with sigma_min(A - z I) <= delta, and sigma_min changes by no more
    than z does: a line is clear where steps of sigma_min - delta lead along all of it (Trefethen and Embree 2005,
    sections 2 and 39). Besides those that ``lines`` knows, A has ``copies`` of the eigenvalue ``shift``.
    """
    real = np.append(lines.values.real, np.full(copies, shift))
    counts = []
    for side in (-1.0, 1.0):
        number = 0
        for distance in _DISTANCES:
            beyond = int((side * real > distance * lines.size).sum())
            if not beyond:
                break
            if lines.is_clear(side * distance * lines.size, delta):
                number = beyond
                break
        counts.append(number)
        if number and distance == 0:
            return (number, len(real) - number) if side < 0 else (len(real) - number, number)
    return counts[0], counts[1]


class Iterated:
    """sigma_min by inverse iteration on the Schur form T of a matrix A, half of which is used as the bound.

    With a ``factor`` L, A is the core c + B Q of a larger matrix c + Q B with L L^T = B B^T, c the ``shift``, and the
    bounds are those of the larger one: by Woodbury's formula for (z - c - Q B)^-1 its sigma_min is at least
    ``|z - c| / (1 + ||(z - A)^-1 L||)``. It takes longer than a `Resolvent`, but needs no eigenvectors.
    """

    def __init__(self, A: Matrix, factor: Matrix | None = None, shift: float = 0.0) -> None:
        self._T, Z = scipy.linalg.schur(A, output="complex")
        self._K: NDArray[np.complexfloating] | None = None if factor is None else Z.conj().T @ factor
        self._shift, self._left = shift, min(_POINTS, int(_WORK / (2 * _ITERATIONS * len(A) ** 2)))
        self.values: Complex = self._T.diagonal()
        self.size = float((np.abs(A).sum(axis=0).max() * np.abs(A).sum(axis=1).max()) ** 0.5)

    def is_clear(self, x: float, delta: float) -> bool:
        """Whether sigma_min(A - (x + i y) I) > delta for all y; y >= 0 is enough, A is real."""
        nearest = np.argsort(np.abs(self.values.real - x))[:_NEAREST]
        heights = [0.0, *np.abs(self.values.imag[nearest])]
        if self._left <= 0 or any(self._reliable(x + 1j * y) <= delta for y in heights):
            return False
        y = 0.0
        while y <= self.size + delta:
            step = self._reliable(x + 1j * y) - delta
            if step <= 1e-6 * self.size or self._left <= 0:
                return False
            y += step
        return True

    def _reliable(self, z: complex) -> float:
        """Half of an estimate of sigma_min(A - z I) from above."""
        self._left -= 1
        T, K = self._T, self._K
        shifted = T.copy()
        diagonal = shifted.diagonal() - z
        if (np.abs(diagonal) < np.finfo(float).tiny ** 0.5).any():
            return 0.0
        np.fill_diagonal(shifted, diagonal)
        v = np.random.default_rng(0).standard_normal(len(T) if K is None else K.shape[1]) + 0j
        growth = 1.0
        for _ in range(_ITERATIONS):
            v = v / np.linalg.norm(v)
            u = scipy.linalg.solve_triangular(shifted, v if K is None else K @ v, check_finite=False)
            growth = float(np.linalg.norm(u))
            if not growth < 1e150:
                return 0.0
            v = scipy.linalg.solve_triangular(shifted, u / growth, trans="C", check_finite=False)
            v = v if K is None else K.conj().T @ v
            growth = max(growth, float(np.linalg.norm(v)))
        return 0.5 / growth if K is None else 0.5 * abs(z - self._shift) / (1 + growth)
