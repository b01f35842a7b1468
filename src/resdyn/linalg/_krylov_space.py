"""Krylov decompositions of an operator, in real arithmetic, restarted with Schur vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn.errors import ComputationError
from resdyn.linalg._ends import Complex, Converged, leading
from resdyn.linalg._norms import norm
from resdyn.linalg._orthonormal import random_rows
from resdyn.linalg._overlaps import Overlaps
from resdyn.linalg.operator import LinearOperator

_MEMORY = 1 << 28  # bytes of bases that grow in step
_RECENT = 2  # vectors that a product overlaps with most
# Norm of a new vector's overlaps with the basis, in sqrt(eps), above which they are removed once more. The
# decomposition holds whatever they are; up to sqrt(eps) its Ritz values are those of an orthonormal basis (Simon 1984).
_OVERLAP = 0.03


def arnoldi(
    operator: LinearOperator, starts: Tensor, degree: int, generator: torch.Generator
) -> Iterator[NDArray[np.float64]]:
    """The Hessenberg matrix V^T A V (degree, degree) of the Krylov space of each row of ``starts``.

    Spaces grow in step, since one product with several vectors costs little more than with one.
    """
    together = max(1, _MEMORY // ((degree + 1) * starts.shape[1] * starts.element_size()))
    for some in starts.split(together):
        spaces = [KrylovSpace(operator, degree, generator, start) for start in some]
        for _ in range(degree):
            images = operator.matmat(torch.stack([space.last for space in spaces], dim=1)).T.contiguous()
            for space, image in zip(spaces, images):
                space.take(image)
        yield from (space.projection.copy() for space in spaces)


class KrylovSpace:
    """The Krylov decomposition A V = V S + v b^T; rows of ``_V`` are basis vectors, the last of them is v."""

    def __init__(
        self, operator: LinearOperator, basis_size: int, generator: torch.Generator, start: Tensor | None = None
    ) -> None:
        self._operator, self._generator = operator, generator
        n = operator.shape[1]
        self._V = torch.empty(basis_size + 1, n, dtype=operator.dtype, device=operator.device)
        start = random_rows(1, n, generator, self._V)[0] if start is None else start
        self._V[0] = start / norm(start)
        self._overlaps = Overlaps(self._V, torch.Generator().manual_seed(0))
        self._overlaps.add(self._V[:1])
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

    @property
    def last(self) -> Tensor:
        """v, the vector whose product comes next."""
        return self._V[self._size]

    def enlarge(self, basis_size: int) -> None:
        """Let the basis hold more vectors."""
        V, H, size = self._V, self._H, self._size
        self._V, self._H = V.new_empty(basis_size + 1, V.shape[1]), np.zeros((basis_size + 1, basis_size))
        self._V[: size + 1], self._H[: len(H), : H.shape[1]] = V[: size + 1], H
        self._overlaps = Overlaps(self._V, torch.Generator().manual_seed(0))
        self._overlaps.add(self._V[: size + 1])
        self.capacity = basis_size

    def expand(self, max_matvecs: int) -> int:
        """Fill the basis, one product per vector, within the budget; return the products spent so far."""
        while self._size < self.capacity and self._spent < max_matvecs:
            image = self._operator.matmat(self.last[:, None])[:, 0]
            self._spent += 1
            self.take(image)
        return self._spent

    def take(self, image: Tensor) -> None:
        """Take ``last`` into the basis, whose product is known."""
        j = self._size
        self._V[j + 1], self._H[: j + 1, j], self._H[j + 1, j] = self._orthogonal(image, j + 1)
        self._overlaps.add(self._V[j + 1 : j + 2])
        self._size = j + 1

    def _orthogonal(self, w: Tensor, count: int) -> tuple[Tensor, NDArray[np.float64], float]:
        """w split into its part in the first ``count`` vectors and the length of the rest, which is normalised."""
        before = norm(w)
        if not before < float("inf"):
            raise ComputationError("a product holds NaN or infinite values")
        inside = w.new_zeros(count)
        # without its largest part, what rounding leaves of the others is small beside the rest
        w = _without(w, self._V[max(0, count - _RECENT) : count], inside[-_RECENT:])
        eps = torch.finfo(w.dtype).eps
        for repeat in range(4):
            w = _without(w, self._V[:count], inside)
            length = norm(w)
            if length > 10 * eps * before:  # what is less is rounding noise of the basis
                unit = w / length
                if self._overlaps.of(unit[None]) <= _OVERLAP * eps**0.5:
                    return unit, inside.cpu().double().numpy(), length
            elif repeat:
                break
        return self._fresh(count), inside.cpu().double().numpy(), 0.0

    def _fresh(self, count: int) -> Tensor:
        """A random unit vector orthogonal to the basis, for when the Krylov space is exhausted."""
        basis = self._V[:count]
        w = random_rows(1, basis.shape[1], self._generator, basis)[0]
        for _ in range(3):
            w = w - (basis @ w) @ basis
            w = w / max(norm(w), torch.finfo(w.dtype).tiny)
        return w

    def restart(self, wanted: Mapping[str, int], known: Converged) -> None:
        """Shrink the basis to the Schur vectors nearest to the ends: about half of it."""
        self._shrink(wanted, known, limit=self._size // 2)

    def _shrink(self, wanted: Mapping[str, int], known: Converged, limit: int) -> None:
        p = self._size
        T, Q = scipy.linalg.schur(self.projection, output="real")
        values = _diagonal_values(T, Q)
        kept = _kept(values, wanted, known.advance(values), limit)
        T, Q, *_, count = _reordered(T, Q, kept)
        spike = self.spike @ Q[:, :count]
        leading_rows = torch.from_numpy(np.ascontiguousarray(Q[:, :count].T)).to(self._V) @ self._V[:p]
        self._V[count] = self._V[p].clone()
        self._V[:count] = leading_rows
        self._H[:] = 0
        self._H[:count, :count] = T[:count, :count]
        self._H[count, :count] = spike
        self._overlaps.reset(self._V[: count + 1])
        self._size = count

    def restart_randomly(self, wanted: Mapping[str, int], known: Converged) -> None:
        """Keep only the leading Schur vectors of every end, and continue from a random vector orthogonal to them.

        Their distance from invariance is dropped; the residuals returned are measured by products.
        """
        self._shrink(wanted, known, limit=0)
        self._V[self._size] = self._fresh(self._size)
        self._overlaps.reset(self._V[: self._size + 1])
        self._H[self._size] = 0

    def vectors(self, small: Complex) -> Tensor:
        """Combinations of the basis vectors as columns (n, k), complex128."""
        V = self._V[: self._size].T
        real, imaginary = (V @ torch.tensor(part).to(V) for part in (small.real, small.imag))
        return torch.complex(real.double(), imaginary.double())


def _without(w: Tensor, rows: Tensor, inside: Tensor) -> Tensor:
    """w less its projection on some rows, whose coefficients are added to ``inside``."""
    part = rows @ w
    inside += part
    return torch.addmv(w, rows.T, part, alpha=-1)


def _kept(values: Complex, wanted: Mapping[str, int], advance: NDArray[np.float64], limit: int) -> NDArray[np.bool_]:
    """The wanted values of every end and, end by end in turn, those after them, up to ``limit``; pairs together."""
    kept = np.zeros(len(values), bool)
    for extra in range(len(values)):
        for end, k in wanted.items():
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
