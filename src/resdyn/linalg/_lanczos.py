"""Block Golub-Kahan-Lanczos bidiagonalisation with thick restarts."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resdyn.linalg._completeness import Confidence, certify, num_converged
from resdyn.linalg._orthonormal import orthonormal_block, random_rows
from resdyn.linalg._overlaps import Overlaps
from resdyn.linalg._triplets import Triplets, residual_norms
from resdyn.linalg.operator import LinearOperator

_RESERVE = 64  # products reserved for the search, where that is a small part of the budget
_CLUSTER = 1e-4  # values closer than this, relative to the largest, may be copies


def block_lanczos(
    operator: LinearOperator,
    k: int,
    *,
    block_size: int,
    basis_size: int,
    tol: float,
    max_matvecs: int,
    confidence: Confidence,
    generator: torch.Generator,
) -> Triplets:
    """The k largest triplets of an operator (m, n) with m >= n, and bounds from a search for what was missed."""
    state = _Bidiagonalisation(operator, block_size, basis_size, generator)
    reserve = _RESERVE if tol > 0 and max_matvecs >= 8 * _RESERVE else 0
    searches = searched = 0
    while True:
        ritz = _converge(state, k, tol, max_matvecs - reserve)
        count = num_converged(ritz.residuals[:k], tol)
        if not count or state.spans_all:
            bounds = torch.zeros_like(ritz.values) if state.spans_all else torch.full_like(ritz.values, float("inf"))
            return state.triplets(ritz, k, bounds, searched)
        may_grow = state.spent + 2 * (len(state.next_block) + state.num_starts) <= max_matvecs - reserve
        known = _num_known(ritz, count, confidence.delta)
        if may_grow and _may_hide_copies(ritz.values[:count], state.num_starts, tol):
            state.widen(ritz, min(state.size, 2 * k + 16))
            continue
        searches, before = searches + 1, state.spent
        certificate = certify(
            operator,
            state.right(ritz, known),
            ritz.values[:known],
            ritz.defect[:, :known],
            count,
            tol * float(ritz.values[0]),
            confidence.of_search(searches),
            generator,
            spent=state.spent,
            max_matvecs=max_matvecs,
        )
        searched += state.spent - before
        if not len(certificate.missed) or not may_grow:
            return state.triplets(ritz, k, certificate.bounds, searched)
        state.widen(ritz, min(state.size, 2 * k + 16), certificate.missed)


def _converge(state: _Bidiagonalisation, k: int, tol: float, max_matvecs: int) -> _Ritz:
    """Expand and restart until the first k residuals are at most tol, or the products are used up."""
    next_check: float = state.size + 1 if tol > 0 else math.inf
    before: _Progress | None = None
    while True:
        state.expand()
        width = state.next_block.shape[0]
        last = state.spans_all or state.spent + 2 * width > max_matvecs
        full = state.size + width > state.capacity
        if state.size < max(k, next_check) and not (last or full):
            continue
        ritz = state.ritz()
        if last or bool((ritz.residuals[:k] <= tol).all()):
            return ritz
        if full:
            state.restart(ritz, keep=k + (state.size - k) // 3)
        now = _Progress(state.total, float(ritz.residuals[:k].max()))
        if tol > 0:
            next_check = state.size + min(_vectors_to_go(before, now, tol), max(width, state.size // 4))
        before = now


def _num_known(ritz: _Ritz, count: int, delta: float) -> int:
    """How many leading Ritz vectors a search may leave out: those after the converged ones lower what is left.

    Their residuals must not blur the bounds, and they cost time, so there are hardly more of them than of the others.
    """
    allowed = 1.0 * delta**2 * float(ritz.values[count - 1] / ritz.values[0]) ** 2
    return count + int((ritz.residuals[count : 2 * count + 16].square().cumsum(0) <= allowed).sum())


def _may_hide_copies(values: Tensor, num_starts: int, tol: float) -> bool:
    """Whether as many values are equal, or nearly so, as a Krylov space of that many random vectors can tell apart."""
    if len(values) < num_starts:
        return False
    first, last = values[: len(values) - num_starts + 1], values[num_starts - 1 :]
    nearly_equal = first - last <= max(10 * tol, _CLUSTER) * values[0]
    return bool((nearly_equal & (first > 10 * tol * values[0])).any())


class _Progress(NamedTuple):
    """The worst residual after so many basis vectors."""

    total: int
    residual: float


def _vectors_to_go(before: _Progress | None, now: _Progress, tol: float) -> float:
    """Basis vectors until the next check: most of what a geometric decay of the residual needs."""
    if before is None or not 0 < now.residual < before.residual:
        return math.inf
    rate = math.log(before.residual / now.residual) / (now.total - before.total)
    return 0.7 * math.log(now.residual / tol) / rate


class _Ritz(NamedTuple):
    """The SVD of the projected matrix, ``B = left diag(values) right^T``, and what the triplets lack.

    ``defect`` is A^T U left - V right diag(values) in an orthonormal basis, ``residuals`` its column norms relative to
    values[0].
    """

    values: Tensor
    left: Tensor
    right: Tensor
    defect: Tensor
    residuals: Tensor


class _Bidiagonalisation:
    """Bases with ``A V = U B`` and ``A^T U = V (B^T + drift) + next_block coupling``.

    Both are stored with vectors as rows, in preallocated memory; the next block is stored after V already. ``coupling``
    touches the vectors of U from ``start`` on: the last block, or all of them right after a restart. ``drift`` holds
    what rounding, or an inexact adjoint, adds: so residuals read off these small matrices are those of the
    products themselves.
    """

    def __init__(self, operator: LinearOperator, block_size: int, basis_size: int, generator: torch.Generator) -> None:
        m, n = operator.shape
        self._operator, self._generator = operator, generator
        self._before = operator.num_matvecs
        width = self.num_starts = min(block_size, basis_size)
        self._U = _memory(basis_size, m, operator)
        self._V = _memory(basis_size + width, n, operator)
        self._B = torch.zeros(basis_size, basis_size, dtype=torch.float64)
        self._drift = torch.zeros_like(self._B)
        self.size = self.total = self._start = self._restarts = 0
        start = random_rows(width, n, generator, self._V)
        self.next_block = _placed(orthonormal_block(start, self._V[:0], generator).Q, self._V[:width])
        self._coupling = torch.zeros(len(self.next_block), 0, dtype=torch.float64)
        self._U_overlaps = Overlaps(self._U, generator)
        self._V_overlaps = Overlaps(self._V, generator)

    @property
    def spent(self) -> int:
        """Products that the operator has made since the beginning, those of others included."""
        return self._operator.num_matvecs - self._before

    @property
    def capacity(self) -> int:
        """Vectors that a basis can hold."""
        return len(self._U)

    @property
    def spans_all(self) -> bool:
        """Whether the basis spans the whole space."""
        return len(self.next_block) == 0

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
        defect = torch.cat([outside, inside])
        return _Ritz(values, left, right.T, defect, residual_norms(defect, values))

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
        self.size, self._start, self._restarts = keep, 0, self._restarts + 1

    def widen(self, ritz: _Ritz, keep: int, rows: Tensor | None = None) -> None:
        """Restart with the leading Ritz vectors, and let blocks grow by given rows and ``num_starts`` random ones.

        New rows are orthogonal to what is kept, and A has not been applied to them: the decomposition stays what it is.
        """
        self.restart(ritz, keep)
        following, kept = len(self.next_block), keep + len(self.next_block)
        fresh = random_rows(self.num_starts, self._V.shape[1], self._generator, self._V)
        fresh = fresh if rows is None else torch.cat([rows, fresh])
        fresh = orthonormal_block(fresh, self._V[:kept], self._generator).Q
        self.num_starts += len(fresh)
        width = following + len(fresh)
        size = min(max(self.capacity, keep + 3 * width), self._V.shape[1])
        U, V = self._U[:keep], self._V[:kept]
        self._U, self._V = _memory(size, U.shape[1], self._operator), _memory(size + width, V.shape[1], self._operator)
        self._U[:keep], self._V[:kept], self._V[kept : kept + len(fresh)] = U, V, fresh
        self.next_block = self._V[keep : keep + width]
        self._coupling = torch.cat([self._coupling, self._coupling.new_zeros(len(fresh), keep)])
        self._B, self._drift = (_enlarged(small, size) for small in (self._B, self._drift))
        self._U_overlaps = Overlaps(self._U, self._generator)
        self._V_overlaps = Overlaps(self._V, self._generator)
        self._U_overlaps.add(self._U[:keep])
        self._V_overlaps.add(self._V[:keep])

    def right(self, ritz: _Ritz, count: int) -> Tensor:
        """The leading right Ritz vectors, as rows."""
        return ritz.right[:, :count].T.to(self._V) @ self._V[: self.size]

    def triplets(self, ritz: _Ritz, k: int, bounds: Tensor, search_matvecs: int) -> Triplets:
        """The leading k Ritz triplets, vectors as columns; nothing is known of values that have no bound."""
        U = ritz.left[:, :k].T.to(self._U) @ self._U[: self.size]
        unknown = bounds.new_full((max(k - len(bounds), 0),), math.inf)  # the search knew fewer than k vectors
        bounds = torch.cat([bounds[:k], unknown]) / torch.where(ritz.values[0] > 0, ritz.values[0], 1.0)
        V, residuals = self.right(ritz, k), ritz.residuals[:k]
        return Triplets(U.T, ritz.values[:k], V.T, residuals, bounds, search_matvecs, self._restarts)


def _memory(rows: int, size: int, operator: LinearOperator) -> Tensor:
    """Memory for a basis: on a CPU from NumPy, which requests huge pages; small ones are slow to touch first."""
    if operator.device.type != "cpu":
        return torch.empty(rows, size, dtype=operator.dtype, device=operator.device)
    return torch.from_numpy(np.empty((rows, size), dtype=torch.empty(0, dtype=operator.dtype).numpy().dtype))


def _placed(rows: Tensor, memory: Tensor) -> Tensor:
    """The rows at the start of the memory, copied unless they are there already."""
    if rows.data_ptr() != memory.data_ptr():
        memory[: len(rows)] = rows
    return memory[: len(rows)]


def _enlarged(small: Tensor, size: int) -> Tensor:
    """A square matrix padded with zeros."""
    large = small.new_zeros(size, size)
    large[: len(small), : len(small)] = small
    return large


def _combine(rows: Tensor, coefficients: Tensor, chunk: int = 4096) -> None:
    """Replace the leading rows by their combinations, in place, a chunk of columns at a time."""
    p, keep = coefficients.shape
    mixing = coefficients.T.to(rows)
    for columns in rows.split(chunk, dim=1):
        columns[:keep] = mixing @ columns[:p]
