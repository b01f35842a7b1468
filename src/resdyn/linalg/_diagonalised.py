"""A real matrix as A = Z X D (Z X)^-1 with D of blocks 1 x 1 and 2 x 2, by matrix products in real arithmetic.

LAPACK finds the eigenvectors of a Schur form T one by one, without matrix products, and their inverse in complex
arithmetic; together that takes several times as long as T itself. Here T = [[T1, C], [0, T2]] with T1 X1 = X1 D1 and
T2 X2 = X2 D2 has X = [[X1, X1 W], [0, X2]] and X^-1 = [[X1^-1, -W X2^-1], [0, X2^-1]] with
D1 W - W D2 = -X1^-1 C X2, an equation that eigenvectors of D1 and D2 decouple.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Matrix = NDArray[np.floating]
Complex = NDArray[np.complexfloating]
Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_SMALL = 64  # size up to which LAPACK takes no longer
_PROBES = 4  # random combinations of columns in which the result is checked
_RESIDUAL = 10.0  # of a checked column, in sqrt(n) eps ||A||
_INVERSE = 0.1  # of the inverse


class _Blocks(NamedTuple):
    """D of a quasi-triangular T: eigenvalues, firsts of the pairs, and for these (x, y) with the vectors (x, +-i y)."""

    values: Complex
    pairs: Rows
    top: Matrix
    bottom: Matrix

    def part(self, start: int, stop: int) -> _Blocks:
        inside = (self.pairs >= start) & (self.pairs < stop)
        return _Blocks(self.values[start:stop], self.pairs[inside] - start, self.top[inside], self.bottom[inside])

    def vectors_of(self, M: Any) -> Complex:
        """M L, with L the eigenvectors of D as columns."""
        out = M.astype(self.values.dtype)
        first, second = M[:, self.pairs] * self.top, 1j * (M[:, self.pairs + 1] * self.bottom)
        out[:, self.pairs], out[:, self.pairs + 1] = first + second, first - second
        return np.asarray(out)

    def duals_of(self, M: Any) -> Complex:
        """L^-1 M."""
        out = M.astype(self.values.dtype)
        first, second = M[self.pairs] / (2 * self.top[:, None]), M[self.pairs + 1] / (2j * self.bottom[:, None])
        out[self.pairs], out[self.pairs + 1] = first + second, first - second
        return np.asarray(out)

    def real(self, W: Complex, columns: _Blocks) -> Matrix:
        """L W L'^-1 where that is real, L' of the blocks ``columns``."""
        left = W.copy()
        a, b = W[self.pairs], W[self.pairs + 1]
        left[self.pairs], left[self.pairs + 1] = self.top[:, None] * (a + b), 1j * self.bottom[:, None] * (a - b)
        out = left.real.copy()
        a, b = left[:, columns.pairs], left[:, columns.pairs + 1]
        out[:, columns.pairs] = ((a + b) / (2 * columns.top)).real
        out[:, columns.pairs + 1] = ((a - b) / (2j * columns.bottom)).real
        return out


@dataclass(frozen=True)
class Diagonalised:
    """Eigenvalues, right vectors X L and left vectors L^-1 Y, in an orthonormal basis Z in which A is T.

    Attributes:
        values: (n,), conjugate pairs side by side.
        T: (n, n) real, A = Z T Z^T.
        Z: (n, n) orthogonal.
        X: (n, n) with T X = X D.
        Y: (n, n) its inverse.
        blocks: D, None where it is diagonal and X complex.
    """

    values: Complex
    T: Matrix
    Z: Matrix
    X: Any
    Y: Any
    blocks: _Blocks | None

    @cached_property
    def right(self) -> Complex:
        """(n, n), right eigenvectors of T as columns."""
        return np.asarray(self.X) if self.blocks is None else self.blocks.vectors_of(self.X)

    @cached_property
    def left(self) -> Complex:
        """(n, n), left eigenvectors of T as rows, the inverse of ``right``."""
        return self._duals(self.Y)

    @cached_property
    def conditions(self) -> Floats:
        """(n,), ``1 / |y^H x|`` of unit left and right eigenvectors."""
        return np.asarray(_norms(self.left, 1) * _norms(self.right, 0))

    def gram_right(self) -> Complex:
        """(n, n), inner products of the right eigenvectors."""
        gram = self.X.conj().T @ self.X
        if self.blocks is None:
            return np.asarray(gram)
        return self.blocks.vectors_of(self.blocks.vectors_of(gram).conj().T).conj().T

    def gram_left(self, factor: Matrix | None = None) -> Complex:
        """(n, n), inner products of the rows of ``left``, or of ``left`` times a matrix in the original basis."""
        rows = self.Y if factor is None else self.Y @ (self.Z.T @ factor)
        return self._duals(self._duals(rows @ rows.conj().T).conj().T).conj().T

    def vectors(self, rows: Sequence[int]) -> Complex:
        """(n, k), some right eigenvectors in the original basis."""
        return np.asarray(self.Z.astype(float) @ self.right[:, rows].astype(complex))

    def defects(self) -> tuple[float, float]:
        """Frobenius norms of X Y - 1, and of left T - D left."""
        inverse = float(np.linalg.norm(self.X @ self.Y - np.eye(len(self.values))))
        return inverse, float(np.linalg.norm(self._duals(self.Y @ self.T) - self.values[:, None] * self.left))

    def basis(self, rows: Rows) -> tuple[Any, Any]:
        """(V, U), U V = 1, with columns V that span the right vectors of some values; real where that is possible."""
        if self.blocks is not None:
            chosen = np.zeros(len(self.values), bool)
            chosen[rows] = True
            if (chosen[self.blocks.pairs] == chosen[self.blocks.pairs + 1]).all():
                return self.X[:, rows], self.Y[rows]
        return self.right[:, rows], self.left[rows]

    def _duals(self, M: Any) -> Complex:
        return np.asarray(M) if self.blocks is None else self.blocks.duals_of(M)


def diagonalised(A: Matrix) -> Diagonalised | None:
    """By LAPACK's eigenvectors and their inverse for small matrices, and where products lose too many digits.

    None where even these vectors have no inverse.
    """
    found = _by_products(A) if len(A) > _SMALL else None
    return _by_vectors(A) if found is None else found


def _by_vectors(A: Matrix) -> Diagonalised | None:
    values, right = np.linalg.eig(A)
    try:
        left = np.linalg.inv(right)
    except np.linalg.LinAlgError:
        return None
    found = Diagonalised(values, A, np.eye(len(A), dtype=A.dtype), right, left, None)
    return found if np.isfinite(found.conditions).all() else None


def _by_products(A: Matrix) -> Diagonalised | None:
    T, Z = scipy.linalg.schur(A, output="real", check_finite=False)
    blocks = _blocks(T)
    smallest = float(np.finfo(T.dtype).eps * np.linalg.norm(T)) or 1.0
    with np.errstate(all="ignore"):
        X, Y = np.zeros_like(T), np.zeros_like(T)
        _fill(T, X, Y, blocks, 0, len(T), smallest)
        sizes = np.linalg.norm(X, axis=0)
        X, Y = X / sizes, Y * sizes[:, None]
        found = Diagonalised(blocks.values, T, Z, X, Y, _scaled(blocks, sizes))
        return found if _is_accurate(found) else None


def _norms(vectors: Complex, axis: int) -> Floats:
    real, imaginary = (np.linalg.norm(part.astype(float), axis=axis) for part in (vectors.real, vectors.imag))
    return np.asarray(np.hypot(real, imaginary))


def _blocks(T: Matrix) -> _Blocks:
    """The 2 x 2 blocks [[a, b], [c, a]], b c < 0, have the eigenvectors (sqrt|b|, +-i sqrt|c|) up to a sign."""
    pairs = np.flatnonzero(T.diagonal(-1))
    upper, lower = T[pairs, pairs + 1], T[pairs + 1, pairs]
    values = T.diagonal().astype(np.result_type(T.dtype, np.complex64))
    height = np.sqrt(np.abs(upper)) * np.sqrt(np.abs(lower))
    values[pairs] += 1j * height
    values[pairs + 1] -= 1j * height
    size = np.maximum(np.abs(upper), np.abs(lower))
    top, bottom = np.sqrt(np.abs(upper) / size), np.sqrt(np.abs(lower) / size) * np.sign(upper)
    return _Blocks(values, pairs, top, bottom)


def _scaled(blocks: _Blocks, sizes: Matrix) -> _Blocks:
    """The eigenvectors of D after X was divided by sizes, columns one by one."""
    return blocks._replace(top=blocks.top * sizes[blocks.pairs], bottom=blocks.bottom * sizes[blocks.pairs + 1])


def _fill(T: Matrix, X: Matrix, Y: Matrix, blocks: _Blocks, start: int, stop: int, smallest: float) -> None:
    """X and Y on the diagonal block [start, stop) of T."""
    middle = (start + stop) // 2
    middle += int(0 < middle < len(T) and T[middle, middle - 1] != 0)
    if middle == start or middle >= stop:
        X[range(start, stop), range(start, stop)] = Y[range(start, stop), range(start, stop)] = 1
        return
    _fill(T, X, Y, blocks, start, middle, smallest)
    _fill(T, X, Y, blocks, middle, stop, smallest)
    a, b = slice(start, middle), slice(middle, stop)
    first, second = blocks.part(start, middle), blocks.part(middle, stop)
    C = second.vectors_of(Y[a, a] @ T[a, b] @ X[b, b])
    gaps = first.values[:, None] - second.values[None]
    near = np.abs(gaps) < smallest
    if near.any():  # as LAPACK does for copies of a value
        gaps[near] = smallest
    W = first.real(-first.duals_of(C) / gaps, second)
    X[a, b] = X[a, a] @ W
    Y[a, b] = -W @ Y[b, b]


def _is_accurate(found: Diagonalised) -> bool:
    """Whether T X = X D and Y X = 1 in random combinations of columns."""
    n, T = len(found.values), found.T
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (n, _PROBES)).astype(T.dtype)
    right = found.right / _norms(found.right, 0).astype(T.dtype)
    defect = T @ (right @ signs) - right @ (found.values[:, None] * signs)
    allowed = _RESIDUAL * n**0.5 * np.finfo(T.dtype).eps * np.linalg.norm(T)
    inverse = found.Y @ (found.X @ signs) - signs
    return bool(
        (np.linalg.norm(defect, axis=0) <= allowed).all() and (np.linalg.norm(inverse, axis=0) <= _INVERSE).all()
    )
