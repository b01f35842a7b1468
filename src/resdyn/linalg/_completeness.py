"""Whether a Krylov space has missed a singular value: a search from fresh random vectors, and what follows from it.

A block Krylov space sees no more copies of a repeated singular value than it had random vectors to start from, and the
residuals of its Ritz vectors do not show what it missed. Only vectors that are independent of the space can.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.special
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn.errors import ComputationError
from resdyn.linalg._orthonormal import random_rows
from resdyn.linalg.operator import LinearOperator

_RUNS = 1  # in step: more of them exclude the same with fewer steps and more products
_BELOW = np.array([0.9, 0.97, 0.99])  # of the last wanted value: where all above is excluded, bounds are tight
_CANCELLED = 0.1  # share of a new vector's norm below which what is left of it is reorthogonalised
_SPARE = 0.14  # of the products spent so far: what a search may take to show more than it must


@dataclass(frozen=True)
class Confidence:
    """The resolution and the probability of failure of a completeness certificate."""

    delta: float
    failure_probability: float

    def of_search(self, number: int) -> Confidence:
        """What search 1, 2, 3, ... may claim, so that all of them together fail no more often than stated."""
        return Confidence(self.delta, self.failure_probability / 2**number)


class Certificate(NamedTuple):
    """How far every singular value may be above the Ritz value in its place, and what a search met instead.

    bounds (p,) are infinite where nothing was shown; missed (r, n) are directions of larger values, if any were met.
    """

    bounds: Tensor
    missed: Tensor


def certify(
    operator: LinearOperator,
    known: Tensor,
    values: Tensor,
    defect: Tensor,
    count: int,
    slack: float,
    confidence: Confidence,
    generator: torch.Generator,
    *,
    spent: int,
    max_matvecs: int,
) -> Certificate:
    """Bounds of the singular values of A from Ritz triplets, the first ``count`` of which have converged.

    Random vectors in the complement of the known ones look for larger values there (`_Runs`), until one is met, until
    all of the complement is seen to be below 0.97 of the last value sought, or until the bounds are within delta and
    a share ``_SPARE`` of the products spent before is used up: more of them make better bounds.

    Args:
        operator: A.
        known: (p, n) right Ritz vectors v as rows, p >= count.
        values: (p,) float64, descending.
        defect: (b, p) float64, with the Gram matrix of the vectors A^T u - s v, where A v = s u.
        count, slack: values that are no more than slack above the last converged one do not count as missed.
        spent, max_matvecs: products spent before, and how many there may be in all.
    """
    sought = float(values[count - 1])
    nothing = Certificate(torch.full_like(values, float("inf")), known[:0])
    dimension = known.shape[1] - len(known)
    if not dimension:
        return Certificate(torch.zeros_like(values), known[:0])
    scale = sought + slack or 1.0
    levels = np.append(_BELOW * sought, (1 + 0.5 * confidence.delta) * sought + 0.5 * slack)
    within = (1 + 0.95 * confidence.delta) * sought + slack  # well above the last level, or _bounds divides by nothing
    runs = _Runs(operator, known, min(_RUNS, dimension), scale, generator)
    needed = 1 / _overlap(dimension, confidence.failure_probability ** (1 / runs.count)) ** 2
    best, ceiling = nothing, float("inf")
    while spent + runs.num_matvecs + 2 * runs.count <= max_matvecs:
        largest, vectors = runs.step()
        above = largest > 1.0
        if above.any():
            return Certificate(nothing.bounds, runs.directions(vectors, above))
        exhausted = runs.steps == dimension or runs.vanished
        lower = (
            float(largest.max(initial=0.0) ** 0.5) * scale
            if exhausted
            else runs.ceiling(levels / scale, needed) * scale
        )
        if lower < ceiling:
            ceiling = lower
            floors = (sought, within) if lower <= _BELOW[-1] * sought else (within,)
            bounds = [_bounds(values, defect, ceiling, floor) for floor in floors]
            best = Certificate(torch.stack(bounds).amin(dim=0), known[:0])
        enough = bool((best.bounds[:count] <= confidence.delta * values[:count] + slack).all())
        if exhausted or (enough and (ceiling <= levels[1] or runs.num_matvecs > _SPARE * spent)):
            break
    return best


def num_converged(residuals: Tensor, tol: float) -> int:
    """How many of the leading residuals are at most tol."""
    return int((residuals <= tol).cumprod(0).sum())


def _bounds(values: Tensor, defect: Tensor, ceiling: float, floor: float) -> Tensor:
    """How far singular values may be above Ritz values, where none outside their span is above the ceiling.

    In a basis of p right Ritz vectors and their complement A^T A is [[T, C^T], [C, D]] with T = diag(values^2), and D
    is at most ceiling^2. For tau > ceiling^2, by the inertia of the Schur complement, A^T A has no more eigenvalues
    above tau than T + C^T C / (tau - ceiling^2), which falls with tau. So with nu the eigenvalues of that matrix at
    tau = floor^2, the j-th singular value is at most max(sqrt(nu_j), floor).
    """
    scale = float(values[0]) or 1.0
    theta, C = (values / scale).numpy(), (defect * values / scale**2).numpy()
    gap = (floor - ceiling) * (floor + ceiling) / scale**2 or np.inf
    nu = scipy.linalg.eigvalsh(np.diag(theta**2) + C.T @ C / gap)[::-1]
    upper = np.maximum(np.sqrt(nu.clip(min=0)) * scale, floor)
    return (torch.from_numpy(upper) - values).clamp_min(0)


def _overlap(dimension: int, probability: float) -> float:
    """The t that ``|<g, x>|`` is below with this probability, g uniform on the unit sphere and x fixed."""
    if dimension == 1:
        return 1.0
    return math.sqrt(scipy.special.betaincinv(0.5, (dimension - 1) / 2, probability))


class _Runs:
    """Lanczos runs in step for D / scale^2, D = P A^T A P, with P the projector away from known vectors.

    Steps from a uniformly random unit vector g build the orthonormal polynomials q_i of D and g. A unit eigenvector x
    of D for its largest eigenvalue lambda has the coordinates q_i(lambda) <g, x> in the Lanczos basis, so
    <g, x>^2 sum_i q_i(lambda)^2 <= 1, and the sum grows with lambda above all Ritz values. ``|<g, x>|`` is below t with
    a probability given by the Beta distribution. So sum_i q_i(z)^2 > 1 / t^2 shows that lambda < z, except with that
    probability, at whichever step it becomes true. The bound of Kuczynski and Wozniakowski, 1.648 sqrt(N) exp(-sqrt(d)
    (2 m - 1)) after m steps, is that of the worst spectrum; this one uses the spectrum that the steps have met.
    Independent runs share calls, each with a root of the failure probability, and all must agree.

    Sources: Hochstenbach (2013), Probabilistic upper bounds for the matrix two-norm, who uses the last of the
    polynomials alone; Kuczynski and Wozniakowski (1992), theorem 4.2.
    """

    def __init__(
        self, operator: LinearOperator, known: Tensor, count: int, scale: float, generator: torch.Generator
    ) -> None:
        self._operator, self._known, self._scale = operator, known, scale
        self.count, self.steps = count, 0
        self.largest = np.zeros(count)
        self._rows = known.new_empty(16, count, known.shape[1])
        self._generator = generator
        self._rows[0] = self._next(random_rows(count, known.shape[1], generator, known))[0]
        self._diagonal: list[NDArray[np.float64]] = []
        self._beside: list[NDArray[np.float64]] = []
        self._polynomials: NDArray[np.float64] | None = None

    @property
    def num_matvecs(self) -> int:
        return 2 * self.count * self.steps

    @property
    def vanished(self) -> bool:
        """Whether D took every start to 0: with probability one D itself is 0."""
        return not (self._diagonal[0].any() or self._beside[0].any())

    def step(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """One step of every run; the largest Ritz value of each, and its coefficients (steps, count)."""
        row = self._rows[self.steps]
        image = self._operator.matmat(row.T) / self._scale
        back = self._operator.rmatmat(image).T / self._scale
        if not bool(torch.isfinite(back).all()):
            raise ComputationError("a product holds NaN or infinite values")
        self._diagonal.append((row.double() * back.double()).sum(dim=1).cpu().numpy())
        self.steps += 1
        if self.steps == len(self._rows):
            self._rows = torch.cat([self._rows, torch.empty_like(self._rows)])
        self._rows[self.steps], lengths = self._next(back)
        self._beside.append(lengths.cpu().numpy())
        diagonal, beside = np.array(self._diagonal), np.array(self._beside)
        last = (self.steps - 1, self.steps - 1)
        eigenpairs = [
            scipy.linalg.eigh_tridiagonal(d, b, select="i", select_range=last)
            for d, b in zip(diagonal.T, beside[:-1].T)
        ]
        self.largest = np.array([values[0] for values, _ in eigenpairs])
        return self.largest, np.stack([vectors[:, 0] for _, vectors in eigenpairs], axis=1)

    def ceiling(self, levels: NDArray[np.float64], needed: float) -> float:
        """The lowest level above which every run excludes eigenvalues, infinite if there is none."""
        points = levels**2
        total = np.ones((len(points), self.count))
        before, now = np.zeros_like(total), total.copy()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for index, (diagonal, beside) in enumerate(zip(self._diagonal, self._beside)):
                reach = self._beside[index - 1] if index else 0.0
                before, now = now, ((points[:, None] - diagonal) * now - reach * before) / beside
                total += now**2
        grown = np.nan_to_num(total, nan=np.inf) > needed
        above = points[:, None] > self.largest  # below a Ritz value the polynomials say nothing
        return float(np.min(levels[(grown & above).all(axis=1)], initial=np.inf))

    def directions(self, coefficients: NDArray[np.float64], chosen: NDArray[np.bool_]) -> Tensor:
        """The largest Ritz vectors of the chosen runs."""
        weights = torch.from_numpy(coefficients).to(self._rows)
        vectors = torch.einsum("jr,jrn->rn", weights, self._rows[: self.steps])
        return vectors[torch.from_numpy(chosen).to(vectors.device)]

    def _next(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rows outside of the known vectors and of their own runs, and how much of the given ones was outside."""
        _, before = _unit(rows)
        rows, lengths = _unit(self._outside(rows))
        if bool((lengths < _CANCELLED * before).any()):  # the rest is dominated by rounding of what was removed
            empty = lengths == 0
            rows[empty] = random_rows(int(empty.sum()), rows.shape[1], self._generator, rows)
            rows, _ = _unit(self._outside(self._outside(rows)))
        return rows, lengths

    def _outside(self, rows: Tensor) -> Tensor:
        """Their own run is projected out twice, since errors would grow from step to step; the known vectors last."""
        past = self._rows[: self.steps]
        for _ in range(2):
            rows = rows - torch.einsum("jr,jrn->rn", torch.einsum("jrn,rn->jr", past, rows), past)
        return torch.addmm(rows, rows @ self._known.T, self._known, alpha=-1)


def _unit(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of unit length, and the lengths that they had, in float64."""
    lengths = torch.linalg.vector_norm(rows.double(), dim=1)
    return (rows.double() / lengths.clamp_min(torch.finfo(torch.float64).tiny)[:, None]).to(rows), lengths
