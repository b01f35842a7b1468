"""Matrices with one eigenvalue of high multiplicity: the others are those of a small matrix.

The Jacobian of a block with an identity skip is 1 + C D A, where D switches hidden units off: the eigenvalue 1 has as
many copies as there are coordinates more than hidden units that are on. For A = c + Q B with orthonormal columns Q
(n, r), in an orthonormal basis that begins with Q, A - c is [[B Q, B Q'], [0, 0]]: so its eigenvalues are those of the
core c + B Q (r, r) and n - r copies of c. Nothing is lost in it, as in the reduction to a Hessenberg matrix: what
c + Q B is not of A is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resdyn.linalg._diagonalised import Complex, Diagonalised, Floats, Matrix, diagonalised
from resdyn.linalg._norms import norm, power_of_two
from resdyn.linalg._range import range_basis
from resdyn.linalg._resolvent import Resolvent
from resdyn.linalg._structure import of_matrix

_SMALLEST = 256  # size from which copies are looked for
_SHARE = 0.7  # of the size that the core may have
_PIVOT = 1e-4  # of a triangular factor, relative to the largest, below which a row is taken for dependent
_SEEN = 1e-3  # share of an image that may be outside of the directions expected
_ROUNDING = 40.0  # of what is left out, in eps ||A||_F
_STEPS = 20
# The factor by which power iteration from a random start falls short at most, but for a probability of
# 0.1 sqrt(n) 4^(0.5 - _STEPS), 2e-11 at n = 10,000 (Kuczynski and Wozniakowski 1992, theorem 4.1).
_CERTAIN = 2.0


@dataclass(frozen=True)
class Deflated:
    """A = c + Q B with orthonormal rows of Q^T, its core diagonalised in float64.

    Attributes:
        shift: c.
        Q: (r, n), the transpose of the Q above.
        B: (r, n).
        core: B Q (r, r).
        pairs: of the core c + B Q (r, r).
        rest: norm of A - c - Q B, at most.
    """

    shift: float
    Q: Matrix
    B: Matrix
    core: Matrix
    pairs: Diagonalised
    rest: float

    @property
    def copies(self) -> int:
        """How many eigenvalues are c."""
        return int(self.Q.shape[1]) - len(self.Q)

    @cached_property
    def values(self) -> Complex:
        """(n,), those of the core, then the copies of c."""
        return np.append(self.pairs.values, np.full(self.copies, self.shift, complex))

    @cached_property
    def factor(self) -> Matrix:
        """L (r, r) with L L^T = B B^T."""
        return np.asarray(np.linalg.qr(self.B.T, mode="r")).T

    @cached_property
    def resolvent(self) -> Resolvent:
        return Resolvent(self.pairs, self.factor, self.shift)

    @cached_property
    def conditions(self) -> Floats:
        """(n,): left vectors of the core's values reach into the null space of B; for c the norm of its projector."""
        right, left = self.resolvent.lengths
        with np.errstate(divide="ignore", invalid="ignore"):
            core = right * left / np.abs(self.pairs.values - self.shift)
        core = np.maximum(np.nan_to_num(core, nan=np.inf), 1.0)
        return np.append(core, np.full(self.copies, self._projector))

    def vectors(self, rows: Sequence[int]) -> Complex:
        """(n, k), some right eigenvectors as columns; for c random ones of the null space of B."""
        inside = [row for row in rows if row < len(self.Q)]
        found = np.empty((self.Q.shape[1], len(rows)), complex)
        places = np.asarray(rows) < len(self.Q)
        found[:, places] = self.Q.T @ self.pairs.vectors(inside)
        if not places.all():
            noise = np.random.default_rng(0).standard_normal((self.Q.shape[1], int((~places).sum())))
            found[:, ~places] = noise - np.linalg.lstsq(self.B, self.B @ noise, rcond=None)[0]
        return found

    @cached_property
    def _projector(self) -> float:
        """The norm of 1 - Q (B Q)^-1 B, which is that of what it subtracts."""
        try:
            return max(1.0, _norm(torch.from_numpy(np.linalg.solve(self.core, self.factor))))
        except np.linalg.LinAlgError:
            return float("inf")


Part = Diagonalised | Deflated | None
Decomposition = Sequence[tuple[Tensor, Part]]


def scaled_to_one(matrix: Tensor) -> Tensor:
    """A matrix on the CPU, times a power of two that brings its largest entry near one."""
    return (matrix * power_of_two(float(matrix.abs().max()))).cpu()


def decomposition(matrix: Tensor, directions: Tensor | None = None) -> Decomposition:
    """The diagonal blocks of a matrix as indices, each `scaled_to_one` and diagonalised where it has several rows.

    Columns of ``directions`` are thought to span the range of the matrix less a multiple of the identity.
    """
    scaled, one = scaled_to_one(matrix), power_of_two(float(matrix.abs().max()))
    rows = None if directions is None else directions.to(scaled)
    return [
        (block, decomposed(scaled[block][:, block], one, None if rows is None else rows[block]))
        for block in of_matrix(scaled)
    ]


def decomposed(A: Tensor, one: float, directions: Tensor | None = None) -> Part:
    """A matrix deflated or diagonalised, None for a number; ``one`` is what a 1 of the original matrix is in it."""
    if len(A) == 1:
        return None
    Q = None
    if directions is not None and len(A) >= _SMALLEST and 0 < directions.shape[1] <= _SHARE * len(A):
        Q = torch.linalg.qr(directions.double()).Q.T
    for shift in (one, 0.0) if len(A) >= _SMALLEST else ():
        if (found := _deflated(A, shift, Q)) is not None:
            return found
    return diagonalised(A.numpy())


def _deflated(A: Tensor, shift: float, expected: Tensor | None = None) -> Deflated | None:
    """The matrix with most copies of ``shift`` split off, None where it has few.

    Orthonormal rows ``expected`` are tried as Q^T first.
    """
    F = A.clone()
    F.diagonal().sub_(shift)
    if expected is not None and _is_seen_by(expected, F):
        split = _split_off(F, expected, norm(A))
        if split is not None:
            return _core_of(split, shift)
    pivots = torch.linalg.lu_factor_ex(F).LU.diagonal().abs()
    if int((pivots > _PIVOT * float(pivots.max())).sum()) > _SHARE * len(A):
        return None
    like, eps = torch.empty(0, len(A), dtype=torch.float64), torch.finfo(A.dtype).eps
    generator = torch.Generator().manual_seed(0)
    Q = range_basis(lambda X: (F @ X.to(F)).double(), like, int(_SHARE * len(A)), generator, eps)
    split = None if Q is None or not len(Q) else _split_off(F, Q, norm(A))
    return None if split is None else _core_of(split, shift)


class _Split(NamedTuple):
    """F = Q B but for ``rest``."""

    Q: Tensor
    B: Tensor
    rest: float


def _is_seen_by(Q: Tensor, F: Tensor) -> bool:
    """Whether the image of a random vector is in the span of the rows of Q, roughly."""
    x = torch.randn(len(F), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (F @ x.to(F)).double()
    return norm(y - (Q @ y) @ Q) <= _SEEN * norm(y)


def _split_off(F: Tensor, Q: Tensor, size: float) -> _Split | None:
    """F = Q B with the orthonormal rows of Q^T, None where that leaves out more than rounding of a matrix of a size."""
    narrow = Q.to(F)
    B = narrow @ F
    rest = _CERTAIN * _norm(torch.addmm(F, narrow.T, B, alpha=-1))
    return None if rest > _ROUNDING * torch.finfo(F.dtype).eps * size else _Split(Q, B.double(), rest)


def _core_of(split: _Split, shift: float) -> Deflated | None:
    core = (split.B @ split.Q.T).numpy()
    pairs = diagonalised(core + shift * np.eye(len(core)))
    return None if pairs is None else Deflated(shift, split.Q.numpy(), split.B.numpy(), core, pairs, split.rest)


def _norm(A: Tensor) -> float:
    """||A||_2 by power iteration."""
    x, size = torch.randn(A.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(A), 0.0
    for _ in range(_STEPS):
        y = A @ (x / (norm(x) or 1.0))
        size, x = norm(y), y @ A
    return size
