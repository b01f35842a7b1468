"""Block Golub-Kahan-Lanczos bidiagonalisation with thick restarts."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resdyn.linalg._orthonormal import NEVER, Block, orthonormal_block, random_rows, to_small
from resdyn.linalg._triplets import Triplets, residual_norms
from resdyn.linalg.operator import LinearOperator


def block_lanczos(
    operator: LinearOperator,
    k: int,
    *,
    block_size: int,
    basis_size: int,
    tol: float,
    max_matvecs: int,
    generator: torch.Generator,
) -> Triplets:
    """The k largest triplets of an operator (m, n) with m >= n."""
    state = _Bidiagonalisation(operator, block_size, basis_size, generator)
    next_check: float = k if tol > 0 else math.inf
    before: _Progress | None = None
    while True:
        state.expand()
        width = state.next_block.shape[0]
        last = width == 0 or 2 * (state.total + width) > max_matvecs
        full = state.size + width > basis_size
        if state.size < next_check and not (last or full):
            continue
        ritz = state.ritz()
        if last or bool((ritz.residuals[:k] <= tol).all()):
            return state.triplets(ritz, k)
        if full:
            state.restart(ritz, keep=k + (state.size - k) // 3)
        now = _Progress(state.total, float(ritz.residuals[:k].max()))
        if tol > 0:
            next_check = state.size + min(_vectors_to_go(before, now, tol), max(block_size, state.size // 4))
        before = now


class _Progress(NamedTuple):
    """The worst residual after so many basis vectors."""

    total: int
    residual: float


def _vectors_to_go(before: _Progress | None, now: _Progress, tol: float) -> float:
    """Basis vectors that may pass before the next look: most of what a geometric fall of the residual needs."""
    if before is None or not 0 < now.residual < before.residual:
        return math.inf
    rate = math.log(before.residual / now.residual) / (now.total - before.total)
    return 0.7 * math.log(now.residual / tol) / rate


class _Ritz(NamedTuple):
    """The SVD of the projected matrix: ``B = left diag(values) right^T``, and residual norms relative to values[0]."""

    values: Tensor
    left: Tensor
    right: Tensor
    residuals: Tensor


class _Bidiagonalisation:
    """Bases with ``A V = U B`` and ``A^T U = V (B^T + drift) + next_block coupling``.

    Both are stored with vectors as rows, in memory taken once; the next block lies behind V already. ``coupling``
    touches the vectors of U from ``start`` on: the last block, or all of them right after a restart. ``drift`` holds
    what rounding, or an adjoint that is not one, adds: so residuals read off these small matrices are those of the
    products themselves.
    """

    def __init__(self, operator: LinearOperator, block_size: int, basis_size: int, generator: torch.Generator) -> None:
        m, n = operator.shape
        self._operator, self._generator = operator, generator
        width = min(block_size, basis_size)
        self._U = _memory(basis_size, m, operator)
        self._V = _memory(basis_size + width, n, operator)
        self._B = torch.zeros(basis_size, basis_size, dtype=torch.float64)
        self._drift = torch.zeros_like(self._B)
        self.size = self.total = self._start = 0
        start = random_rows(width, n, generator, self._V)
        self.next_block = _placed(orthonormal_block(start, self._V[:0], generator).Q, self._V[:width])
        self._coupling = torch.zeros(len(self.next_block), 0, dtype=torch.float64)
        self._U_overlaps = _Overlaps(self._U, generator)
        self._V_overlaps = _Overlaps(self._V, generator)

    def expand(self) -> None:
        """Take the next block into both bases: one product with A, one with A^T."""
        p, b = self.size, len(self.next_block)
        old, new, coupled = slice(0, p), slice(p, p + b), slice(self._start, p)
        Y = self._operator.matmat(self.next_block.T).T
        Y = torch.addmm(Y, self._coupling.to(Y), self._U[coupled], alpha=-1)
        left = self._U_overlaps.orthonormal(Y, self._U[old], self._V_overlaps.lost, self._U[new])
        Q = _placed(left.Q, self._U[new])
        self._U_overlaps.add(Q)
        self._B[coupled, new] = self._coupling.T
        self._B[old, new] += left.coefficients.T
        self._B[new, new] = left.L.T
        self._drift[new, old] = -left.coefficients
        Z = self._operator.rmatmat(Q.T).T
        Z = torch.addmm(Z, left.L.T.to(Z), self.next_block, alpha=-1)
        self._V_overlaps.add(self.next_block)
        after = self._V[p + b : p + 2 * b]
        right = self._V_overlaps.orthonormal(Z, self._V[: p + b], self._U_overlaps.lost, after)
        self._drift[: p + b, new] = right.coefficients.T
        self.next_block, self._coupling, self._start = _placed(right.Q, after), right.L.T, p
        self.size, self.total = p + b, self.total + b

    def ritz(self) -> _Ritz:
        """Ritz values, their coefficient vectors, and the norms of A^T u - s v (A v - s u is rounding only)."""
        p = self.size
        left, values, right = torch.linalg.svd(self._B[:p, :p])
        outside = self._coupling @ left[self._start : p]
        inside = self._drift[:p, :p] @ left
        return _Ritz(values, left, right.T, residual_norms(torch.cat([outside, inside]), values))

    def restart(self, ritz: _Ritz, keep: int) -> None:
        """Shrink both bases to the leading ``keep`` Ritz vectors."""
        p, left, right = self.size, ritz.left[:, :keep], ritz.right[:, :keep]
        self._coupling = self._coupling @ left[self._start : p]
        drift = right.T @ self._drift[:p, :p] @ left
        following = self.next_block.clone()
        _combine(self._U, left)
        _combine(self._V, right)
        self.next_block = _placed(following, self._V[keep:])
        self._B.zero_()
        self._drift.zero_()
        self._B[:keep, :keep] = ritz.values[:keep].diag()
        self._drift[:keep, :keep] = drift
        self._U_overlaps.reset(self._U[:keep])
        self._V_overlaps.reset(self._V[:keep])
        self.size, self._start = keep, 0

    def triplets(self, ritz: _Ritz, k: int) -> Triplets:
        """The leading k Ritz triplets, vectors as columns."""
        U = ritz.left[:, :k].T.to(self._U) @ self._U[: self.size]
        V = ritz.right[:, :k].T.to(self._V) @ self._V[: self.size]
        return Triplets(U.T, ritz.values[:k], V.T, ritz.residuals[:k])


class _Overlaps:
    """Orthonormalises new blocks, against all of a basis only where they have lost orthogonality to it.

    A sketch tells: a sum of the basis vectors with random signs has with q a product whose mean square is the squared
    norm of the overlaps of q with the basis. A block that lost it (``lost``) takes the next block of the other basis
    with it: cleaned alone, it would inherit the loss again from its neighbours in the recurrence (Simon 1984).
    """

    def __init__(self, basis: Tensor, generator: torch.Generator, sketches: int = 8) -> None:
        most, size = basis.shape
        self._generator = generator
        self._signs = (torch.randint(2, (sketches, most), generator=generator) * 2 - 1).to(basis)
        self._sums = basis.new_zeros(sketches, size)
        self._members = 0
        self._eps = torch.finfo(basis.dtype).eps
        self.lost = False

    def add(self, rows: Tensor) -> None:
        """Count these rows as members of the basis."""
        first, self._members = self._members, self._members + len(rows)
        self._sums.addmm_(self._signs[:, first : self._members], rows)

    def reset(self, rows: Tensor) -> None:
        """Let the basis be these rows."""
        self._sums.zero_()
        self._members = 0
        self.add(rows)

    def orthonormal(self, X: Tensor, basis: Tensor, neighbour_lost: bool, out: Tensor) -> Block:
        """X split as by ``orthonormal_block``; the recurrence makes it orthogonal to the basis up to rounding."""
        block = orthonormal_block(X, basis, self._generator, project_from=NEVER, out=out)
        overlap = float((block.Q @ self._sums.T).norm()) / len(self._sums) ** 0.5
        self.lost = overlap > 30 * self._eps
        if not self.lost and not neighbour_lost:
            return block
        if overlap > 0.1 * self._eps**0.5:
            again = orthonormal_block(block.Q, basis, self._generator, first=1)
        else:  # what is taken out leaves the rows orthonormal, up to its square
            inside = block.Q @ basis.T
            rest = torch.addmm(block.Q, inside, basis, alpha=-1)
            again = Block(rest, torch.eye(len(rest), dtype=torch.float64), to_small(inside))
        return Block(again.Q, block.L @ again.L, block.coefficients + block.L @ again.coefficients)


def _memory(rows: int, size: int, operator: LinearOperator) -> Tensor:
    """Room for a basis: on a CPU from NumPy, which asks for large pages, since small ones cost time to touch first."""
    if operator.device.type != "cpu":
        return torch.empty(rows, size, dtype=operator.dtype, device=operator.device)
    return torch.from_numpy(np.empty((rows, size), dtype=torch.empty(0, dtype=operator.dtype).numpy().dtype))


def _placed(rows: Tensor, memory: Tensor) -> Tensor:
    """The rows where the memory begins, copied if they are not there already."""
    if rows.data_ptr() != memory.data_ptr():
        memory[: len(rows)] = rows
    return memory[: len(rows)]


def _combine(rows: Tensor, coefficients: Tensor, chunk: int = 4096) -> None:
    """Replace the leading rows by their combinations, in place, a chunk of columns at a time."""
    p, keep = coefficients.shape
    mixing = coefficients.T.to(rows)
    for columns in rows.split(chunk, dim=1):
        columns[:keep] = mixing @ columns[:p]
