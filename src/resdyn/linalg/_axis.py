"""Vertical lines that no eigenvalue of a perturbed matrix crosses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Matrix = NDArray[np.floating]
Complex = NDArray[np.complexfloating]

_DISTANCES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # of lines from the axis, relative to the norm
_NEAREST = 4  # eigenvalues whose heights are checked first
_ITERATIONS = 4
_WORK = 2e9  # budget for one matrix, in entries of triangular matrices
_POINTS = 1000  # budget in points


class _Resolvent(NamedTuple):
    """Schur form T of a matrix M, and in its basis the factor K of a product Q B whose core is M = B Q."""

    T: Complex
    K: Complex | None


def beyond_lines(A: Matrix, delta: float, factor: Matrix | None = None) -> tuple[int, int]:
    """(left, right): eigenvalues of A (n, n) beyond the nearest lines that no A + E with ||E|| <= delta has crossed.

    With a factor L, A is the core B Q of a larger matrix Q B with L L^T = B B^T, and the perturbation is one of Q B: by
    (z I - Q B)^-1 = (I + Q (z I - B Q)^-1 B) / z its sigma_min is at least ``|z| / (1 + ||(z I - B Q)^-1 L||)``.

    The eigenvalues of all A + E are the points z with sigma_min(A - z I) <= delta, and sigma_min changes by no more
    than z does: a line is clear where steps of sigma_min - delta lead along all of it (Trefethen and Embree 2005,
    sections 2 and 39). sigma_min comes from inverse iteration on a Schur form, half of which is used as the bound.
    """
    T, Z = scipy.linalg.schur(A, output="complex")
    resolvent = _Resolvent(T, None if factor is None else Z.conj().T @ factor)
    values = T.diagonal()
    size = float((np.abs(A).sum(axis=0).max() * np.abs(A).sum(axis=1).max()) ** 0.5)
    budget = [min(_POINTS, int(_WORK / (2 * _ITERATIONS * len(A) ** 2)))]
    counts = []
    for side in (-1.0, 1.0):
        number = 0
        for distance in _DISTANCES:
            x = side * distance * size
            beyond = int((side * values.real > distance * size).sum())
            if not beyond or budget[0] <= 0:
                break
            if _is_clear(resolvent, x, delta, size, budget):
                number = beyond
                break
        counts.append(number)
        if number and distance == 0:
            return (number, len(A) - number) if side < 0 else (len(A) - number, number)
    return counts[0], counts[1]


def _is_clear(resolvent: _Resolvent, x: float, delta: float, size: float, budget: list[int]) -> bool:
    """Whether sigma_min(T - (x + i y) I) > delta for all y; y >= 0 is enough, A is real."""
    values = resolvent.T.diagonal()
    nearest = np.argsort(np.abs(values.real - x))[:_NEAREST]
    heights = [0.0, *np.abs(values.imag[nearest])]
    if any(_reliable(resolvent, x + 1j * y, budget) <= delta for y in heights):
        return False
    y = 0.0
    while y <= size + delta:
        step = _reliable(resolvent, x + 1j * y, budget) - delta
        if step <= 1e-6 * size or budget[0] <= 0:
            return False
        y += step
    return True


def _reliable(resolvent: _Resolvent, z: complex, budget: list[int]) -> float:
    """Half of an estimate of sigma_min(T - z I) from above."""
    budget[0] -= 1
    T, K = resolvent
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
    return 0.5 / growth if K is None else 0.5 * abs(z) / (1 + growth)
