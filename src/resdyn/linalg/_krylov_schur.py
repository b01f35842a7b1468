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
Order = Callable[[Complex], NDArray[np.intp]]

ORDERS: dict[str, Order] = {
    "LR": lambda values: np.argsort(-values.real, kind="stable"),
    "SR": lambda values: np.argsort(values.real, kind="stable"),
    "LM": lambda values: np.argsort(-np.abs(values), kind="stable"),
}


class Pairs(NamedTuple):
    """Eigenvalues (k,), unit right vectors as columns (n, k), true residuals relative to ``norm``, and that norm."""

    values: Complex
    vectors: Tensor
    residuals: NDArray[np.float64]
    norm: float


def leading(values: Complex, which: str, k: int) -> NDArray[np.intp]:
    """Positions of the k first values in an order, and of one more where that would part a conjugate pair."""
    order = ORDERS[which](values)
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
    """
    space = _Space(operator, basis_size, generator)
    while True:
        spent = space.expand(max_matvecs)
        values, small = np.linalg.eig(space.projection)
        estimates = np.abs(space.spike @ small)
        size = float(np.linalg.norm(space.projection, 2))
        chosen = {end: leading(values, end, min(k, len(values))) for end in ends}
        wanted = np.unique(np.concatenate(list(chosen.values())))
        settled = bool((estimates[wanted] <= tol * size).all()) and space.is_full
        if settled or spent + basis_size // 2 > max_matvecs or space.is_invariant:
            break
        space.restart(ends, k)
    pairs = space.pairs(values[wanted], small[:, wanted], size)
    place = {int(position): row for row, position in enumerate(wanted)}
    return {end: _taken(pairs, [place[int(p)] for p in positions]) for end, positions in chosen.items()}


def arnoldi(operator: LinearOperator, start: Tensor, degree: int, generator: torch.Generator) -> NDArray[np.float64]:
    """The Hessenberg matrix V^T A V (degree, degree) of the Krylov space that starts at a vector."""
    space = _Space(operator, degree, generator, start)
    space.expand(degree)
    return space.projection.copy()


def _taken(pairs: Pairs, rows: list[int]) -> Pairs:
    return Pairs(pairs.values[rows], pairs.vectors[:, rows], pairs.residuals[rows], pairs.norm)


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
        self._size, self._capacity, self._spent = 0, basis_size, 0

    @property
    def projection(self) -> NDArray[np.float64]:
        """S = V^T A V."""
        return self._H[: self._size, : self._size]

    @property
    def spike(self) -> NDArray[np.float64]:
        """b, of which residuals are made."""
        return self._H[self._size, : self._size]

    @property
    def is_full(self) -> bool:
        return self._size == self._capacity

    @property
    def is_invariant(self) -> bool:
        """Whether the basis spans the whole space."""
        return self._size == self._V.shape[1]

    def expand(self, max_matvecs: int) -> int:
        """Fill the basis, one product a vector, as far as the budget goes; return what was spent so far."""
        while self._size < self._capacity and self._spent < max_matvecs:
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
            # what keeps its length was orthogonal already; what keeps losing is rounding noise of the basis itself
            if repeat and length > 0.5 * last and length > 10 * torch.finfo(w.dtype).eps * before:
                return w / length, inside.numpy(), length
        return self._fresh(count), inside.numpy(), 0.0

    def _fresh(self, count: int) -> Tensor:
        """A random unit vector orthogonal to the basis, where the Krylov space has come to its end."""
        basis = self._V[:count]
        w = random_rows(1, basis.shape[1], self._generator, basis)[0]
        for _ in range(3):
            w = w - (basis @ w) @ basis
            w = w / max(norm(w), torch.finfo(w.dtype).tiny)
        return w

    def restart(self, ends: tuple[str, ...], k: int) -> None:
        """Shrink the basis to the Schur vectors nearest to the ends: about half of it."""
        p = self._size
        T, Q = scipy.linalg.schur(self.projection, output="real")
        values = _diagonal_values(T, Q)
        kept = _kept(values, ends, k, room=p // 2)
        T, Q, *_, count = _reordered(T, Q, kept)
        spike = self.spike @ Q[:, :count]
        leading_rows = torch.from_numpy(np.ascontiguousarray(Q[:, :count].T)).to(self._V) @ self._V[:p]
        self._V[count] = self._V[p].clone()
        self._V[:count] = leading_rows
        self._H[:] = 0
        self._H[:count, :count] = T[:count, :count]
        self._H[count, :count] = spike
        self._size = count

    def pairs(self, values: Complex, small: Complex, size: float) -> Pairs:
        """Ritz pairs with residuals from products made for them."""
        V = self._V[: self._size].T
        real, imaginary = (V @ torch.tensor(part).to(V) for part in (small.real, small.imag))
        images = self._operator.matmat(torch.cat([real, imaginary], dim=1)).double()
        X = torch.complex(real.double(), imaginary.double())
        count = X.shape[1]
        defect = torch.complex(images[:, :count], images[:, count:]) - X * torch.from_numpy(values).to(X.device)
        lengths = column_norms(X)
        residuals = column_norms(defect) / lengths / (size or 1.0)
        return Pairs(values, X / lengths, residuals.cpu().numpy(), size)


def _kept(values: Complex, ends: tuple[str, ...], k: int, room: int) -> NDArray[np.bool_]:
    """The wanted values of every end and, end by end in turn, those behind them, up to ``room``; pairs together."""
    kept = np.zeros(len(values), bool)
    for extra in range(len(values)):
        for end in ends:
            more = kept.copy()
            more[leading(values, end, min(k + extra, len(values)))] = True
            if extra and more.sum() > room:
                return kept
            kept = more
    return kept


def _diagonal_values(T: NDArray[np.float64], Q: NDArray[np.float64]) -> Complex:
    """Eigenvalues in the order in which they stand on the diagonal of a real Schur form."""
    return _reordered(T, Q, np.zeros(len(T), bool))[2]


def _reordered(
    T: NDArray[np.float64], Q: NDArray[np.float64], select: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], Complex, int]:
    """The Schur form with the selected eigenvalues in front, all eigenvalues in order, and how many are in front."""
    trsen = scipy.linalg.get_lapack_funcs("trsen", dtype=np.float64)
    size = len(T)
    # info = 1 says that two values were too close to be swapped; the form is valid, only the order is not perfect
    T, Q, real, imaginary, count, *_ = trsen(
        select.astype(np.int32), T, Q, job=b"N", lwork=max(1, size), liwork=max(1, size)
    )
    inside_a_pair = 0 < count < size and T[count, count - 1] != 0
    return T, Q, real + 1j * imaginary, int(count) + int(inside_a_pair)
