"""Extreme eigenvalues of a nonsymmetric operator by the Krylov-Schur method, in real arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn.errors import ComputationError
from resdyn.linalg._norms import column_norms, norm
from resdyn.linalg._orthonormal import random_rows
from resdyn.linalg.operator import LinearOperator

Complex = NDArray[np.complex128]

OUTWARDS: dict[str, Callable[[Complex], NDArray[np.float64]]] = {
    "LR": lambda values: values.real,
    "SR": lambda values: -values.real,
    "LM": lambda values: np.abs(values),
}


def ordered(values: Complex, which: str, advance: NDArray[np.float64] | float = 0.0) -> NDArray[np.intp]:
    """Positions of the values of an end from its extreme inwards, each moved outwards by its advance."""
    return np.argsort(-(OUTWARDS[which](values) + advance), kind="stable")


class Pairs(NamedTuple):
    """Eigenvalues (k,), unit right vectors as columns (n, k), true residuals relative to ``norm``, and that norm.

    ``complete``: a search from a fresh random vector outside their span met none that belongs before them.
    """

    values: Complex
    vectors: Tensor
    residuals: NDArray[np.float64]
    norm: float
    complete: bool


def without_rounding(values: Complex, slack: float) -> Complex:
    """Values without the imaginary parts that rounding has given to copies of a real eigenvalue."""
    return np.where(np.abs(values.imag) <= slack, values.real + 0j, values)


def leading(values: Complex, which: str, k: int, advance: NDArray[np.float64] | float = 0.0) -> NDArray[np.intp]:
    """Positions of the k first values in an order, and one more where that would split a conjugate pair."""
    order = ordered(values, which, advance)
    chosen = order[:k]
    last = values[chosen[-1]]
    split = last.imag != 0 and np.sum(values[chosen] == last) > np.sum(values[chosen] == last.conj())
    return order[: k + 1] if split else chosen


def krylov_schur(
    operator: LinearOperator,
    ends: tuple[str, ...],
    k: int,
    *,
    basis_size: int,
    tol: float,
    max_matvecs: int,
    generator: torch.Generator,
) -> dict[str, Pairs]:
    """For each end ("LR", "SR", "LM") its k leading eigenpairs, from one Krylov space that serves all ends.

    A V = V S + v b^T with orthonormal V, v and S quasi-triangular after a restart; the basis shrinks to the leading
    Schur vectors of every end, whose span loses nothing when converged (they stay in front, which locks them).

    The space of one vector holds one copy of a repeated eigenvalue, and rounding brings in the others late or never. So
    when the wanted pairs have converged they are kept and the space starts again from a random vector orthogonal to
    them, as it would for the operator deflated by them, until that changes none of the wanted values: for k = 1 one
    full basis of products, to reveal an end that the first vector did not contain; for more until the next value
    after the wanted ones has converged too, so that all copies are obtained.
    """
    space = _Space(operator, basis_size, generator)
    ritz = _iterate(space, ends, k, 0, tol, max_matvecs)
    complete = space.is_invariant
    while ritz.converged and not complete:
        space.restart_randomly(ends, k, ritz.known)
        again = _iterate(space, ends, k, 0 if k == 1 else 1, tol, max_matvecs)
        complete = again.converged and _agree(ritz, again, tol)
        if complete or not again.converged:
            break
        ritz, complete = again, space.is_invariant
    return _with_residuals(operator, ritz, complete)


class Converged(NamedTuple):
    """Values that have converged, and the distance within which another one counts as the same."""

    values: Complex
    distance: float

    def advance(self, values: Complex) -> NDArray[np.float64]:
        """How far values are moved outwards before they are ordered: ten distances for those that have converged."""
        if not len(self.values):
            return np.zeros(len(values))
        apart = np.abs(values[:, None] - self.values[None]).min(axis=1)
        return np.where(apart <= self.distance, 10 * self.distance, 0.0)


class _RitzPairs(NamedTuple):
    """Ritz pairs as they were when the space held them: for each end the rows of its leading values."""

    values: Complex
    vectors: Tensor
    rows: dict[str, list[int]]
    norm: float
    converged: bool
    known: Converged


def _iterate(space: _Space, ends: tuple[str, ...], k: int, extra: int, tol: float, max_matvecs: int) -> _RitzPairs:
    """Expand and restart until the leading k values of every end, and roughly ``extra`` more, have converged."""
    while True:
        spent = space.expand(max_matvecs)
        values, small = np.linalg.eig(space.projection)
        estimates = np.abs(space.spike @ small)
        size = float(np.linalg.norm(space.projection, 2))
        values = without_rounding(values, tol * size)
        # among values equal within the tolerance those that have converged come first
        known = Converged(values[estimates <= tol * size], tol * size)
        chosen = {end: leading(values, end, min(k, len(values)), known.advance(values)) for end in ends}
        following = [leading(values, end, min(k + extra, len(values)), known.advance(values)) for end in ends]
        wanted, next_ones = (np.unique(np.concatenate(list(rows))) for rows in (chosen.values(), following))
        converged = bool((estimates[wanted] <= tol * size).all() and (estimates[next_ones] <= tol**0.5 * size).all())
        converged = (converged and space.is_full) or space.is_invariant
        if converged or spent + space.capacity // 2 > max_matvecs:
            place = {int(position): row for row, position in enumerate(wanted)}
            rows = {end: [place[int(p)] for p in positions] for end, positions in chosen.items()}
            return _RitzPairs(values[wanted], space.vectors(small[:, wanted]), rows, size, converged, known)
        space.restart(ends, k + extra, known)


def _agree(before: _RitzPairs, after: _RitzPairs, tol: float) -> bool:
    """Whether no value of an end has moved outwards."""
    slack = 10 * tol * max(before.norm, after.norm)
    for end, rows in before.rows.items():
        old, new = before.values[rows], after.values[after.rows[end]]
        size = min(len(old), len(new))
        if (OUTWARDS[end](new[:size]) > OUTWARDS[end](old[:size]) + slack).any():
            return False
    return True


def _with_residuals(operator: LinearOperator, ritz: _RitzPairs, complete: bool) -> dict[str, Pairs]:
    """The pairs with residuals from products with their vectors."""
    X = ritz.vectors
    images = operator.matmat(torch.cat([X.real, X.imag], dim=1).to(operator.dtype)).double()
    count = X.shape[1]
    defect = torch.complex(images[:, :count], images[:, count:]) - X * torch.from_numpy(ritz.values).to(X.device)
    lengths = column_norms(X)
    residuals = (column_norms(defect) / lengths / (ritz.norm or 1.0)).cpu().numpy()
    X = X / lengths
    return {
        end: Pairs(ritz.values[rows], X[:, rows], residuals[rows], ritz.norm, complete)
        for end, rows in ritz.rows.items()
    }


def arnoldi(operator: LinearOperator, start: Tensor, degree: int, generator: torch.Generator) -> NDArray[np.float64]:
    """The Hessenberg matrix V^T A V (degree, degree) of the Krylov space that starts at a vector."""
    space = _Space(operator, degree, generator, start)
    space.expand(degree)
    return space.projection.copy()


class _Space:
    """The Krylov decomposition A V = V S + v b^T; rows of ``_V`` are basis vectors, the last of them is v."""

    def __init__(
        self, operator: LinearOperator, basis_size: int, generator: torch.Generator, start: Tensor | None = None
    ) -> None:
        self._operator, self._generator = operator, generator
        n = operator.shape[1]
        self._V = torch.empty(basis_size + 1, n, dtype=operator.dtype, device=operator.device)
        start = random_rows(1, n, generator, self._V)[0] if start is None else start
        self._V[0] = start / norm(start)
        self._H = np.zeros((basis_size + 1, basis_size))
        self._size, self.capacity, self._spent = 0, basis_size, 0

    @property
    def projection(self) -> NDArray[np.float64]:
        """S = V^T A V."""
        return self._H[: self._size, : self._size]

    @property
    def spike(self) -> NDArray[np.float64]:
        """b, which gives the residuals."""
        return self._H[self._size, : self._size]

    @property
    def is_full(self) -> bool:
        return self._size == self.capacity

    @property
    def is_invariant(self) -> bool:
        """Whether the basis spans the whole space."""
        return self._size == self._V.shape[1]

    def expand(self, max_matvecs: int) -> int:
        """Fill the basis, one product per vector, within the budget; return the products spent so far."""
        while self._size < self.capacity and self._spent < max_matvecs:
            j = self._size
            image = self._operator.matmat(self._V[j][:, None])[:, 0]
            self._spent += 1
            self._V[j + 1], self._H[: j + 1, j], self._H[j + 1, j] = self._orthogonal(image, j + 1)
            self._size = j + 1
        return self._spent

    def _orthogonal(self, w: Tensor, count: int) -> tuple[Tensor, NDArray[np.float64], float]:
        """w split into its part in the first ``count`` vectors and the length of the rest, which is normalised."""
        basis = self._V[:count]
        before = norm(w)
        if not before < float("inf"):
            raise ComputationError("a product holds NaN or infinite values")
        inside = torch.zeros(count, dtype=torch.float64)
        length = before
        for repeat in range(4):
            part = basis @ w
            w = w - part @ basis
            inside += part.cpu().double()
            last, length = length, norm(w)
            # what keeps its length was orthogonal already; what keeps shrinking is rounding noise of the basis
            if repeat and length > 0.5 * last and length > 10 * torch.finfo(w.dtype).eps * before:
                return w / length, inside.numpy(), length
        return self._fresh(count), inside.numpy(), 0.0

    def _fresh(self, count: int) -> Tensor:
        """A random unit vector orthogonal to the basis, for when the Krylov space is exhausted."""
        basis = self._V[:count]
        w = random_rows(1, basis.shape[1], self._generator, basis)[0]
        for _ in range(3):
            w = w - (basis @ w) @ basis
            w = w / max(norm(w), torch.finfo(w.dtype).tiny)
        return w

    def restart(self, ends: tuple[str, ...], k: int, known: Converged) -> None:
        """Shrink the basis to the Schur vectors nearest to the ends: about half of it."""
        self._shrink(ends, k, known, limit=self._size // 2)

    def _shrink(self, ends: tuple[str, ...], k: int, known: Converged, limit: int) -> None:
        p = self._size
        T, Q = scipy.linalg.schur(self.projection, output="real")
        values = _diagonal_values(T, Q)
        kept = _kept(values, ends, k, known.advance(values), limit)
        T, Q, *_, count = _reordered(T, Q, kept)
        spike = self.spike @ Q[:, :count]
        leading_rows = torch.from_numpy(np.ascontiguousarray(Q[:, :count].T)).to(self._V) @ self._V[:p]
        self._V[count] = self._V[p].clone()
        self._V[:count] = leading_rows
        self._H[:] = 0
        self._H[:count, :count] = T[:count, :count]
        self._H[count, :count] = spike
        self._size = count

    def restart_randomly(self, ends: tuple[str, ...], k: int, known: Converged) -> None:
        """Keep only the leading Schur vectors of every end, and continue from a random vector orthogonal to them.

        Their distance from invariance is dropped; the residuals returned are measured by products.
        """
        self._shrink(ends, k, known, limit=0)
        self._V[self._size] = self._fresh(self._size)
        self._H[self._size] = 0

    def vectors(self, small: Complex) -> Tensor:
        """Combinations of the basis vectors as columns (n, k), complex128."""
        V = self._V[: self._size].T
        real, imaginary = (V @ torch.tensor(part).to(V) for part in (small.real, small.imag))
        return torch.complex(real.double(), imaginary.double())


def _kept(
    values: Complex, ends: tuple[str, ...], k: int, advance: NDArray[np.float64], limit: int
) -> NDArray[np.bool_]:
    """The wanted values of every end and, end by end in turn, those after them, up to ``limit``; pairs together."""
    kept = np.zeros(len(values), bool)
    for extra in range(len(values)):
        for end in ends:
            more = kept.copy()
            more[leading(values, end, min(k + extra, len(values)), advance)] = True
            if extra and more.sum() > limit:
                return kept
            kept = more
    return kept


def _diagonal_values(T: NDArray[np.float64], Q: NDArray[np.float64]) -> Complex:
    """Eigenvalues in their order on the diagonal of a real Schur form."""
    return _reordered(T, Q, np.zeros(len(T), bool))[2]


def _reordered(
    T: NDArray[np.float64], Q: NDArray[np.float64], select: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], Complex, int]:
    """The Schur form with the selected eigenvalues in front, all eigenvalues in order, and how many are in front."""
    trsen = scipy.linalg.get_lapack_funcs("trsen", dtype=np.float64)
    size = len(T)
    # info = 1: two values were too close to be swapped; the form is valid, only the order is imperfect
    T, Q, real, imaginary, count, *_ = trsen(
        select.astype(np.int32), T, Q, job=b"N", lwork=max(1, size), liwork=max(1, size)
    )
    inside_a_pair = 0 < count < size and T[count, count - 1] != 0
    return T, Q, real + 1j * imaginary, int(count) + int(inside_a_pair)
