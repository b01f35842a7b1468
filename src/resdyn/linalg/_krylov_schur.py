"""Extreme eigenvalues of a nonsymmetric operator by the Krylov-Schur method, in real arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn.linalg._ends import OUTWARDS, Complex, Converged, leading, without_rounding
from resdyn.linalg._krylov_space import KrylovSpace
from resdyn.linalg._norms import column_norms
from resdyn.linalg.operator import LinearOperator

_PER_VALUE = 20  # products that each value asked for later may take


class Pairs(NamedTuple):
    """Eigenvalues (k,), unit right vectors as columns (n, k), true residuals relative to ``norm``, and that norm.

    ``complete``: a search from a fresh random vector outside their span met none that belongs before them.
    """

    values: Complex
    vectors: Tensor
    residuals: NDArray[np.float64]
    norm: float
    complete: bool


class Request(NamedTuple):
    """How many values each end is to hold, and how many vectors the basis."""

    wanted: Mapping[str, int]
    basis_size: int


Growth = Callable[[Mapping[str, Complex], Complex, float], Request | None]  # of converged and all Ritz values, norm


def krylov_schur(
    operator: LinearOperator,
    wanted: Mapping[str, int],
    *,
    basis_size: int,
    tol: float,
    max_matvecs: int,
    generator: torch.Generator,
    start: Tensor | None = None,
    growth: Growth | None = None,
) -> dict[str, Pairs]:
    """For each end ("LR", "SR", "LM") its leading eigenpairs, as many as wanted, from one Krylov space for all ends.

    A V = V S + v b^T with orthonormal V, v and S quasi-triangular after a restart; the basis shrinks to the leading
    Schur vectors of every end, whose span loses nothing when converged (they stay in front, which locks them).

    The space of one vector holds one copy of a repeated eigenvalue, and rounding brings in the others late or never. So
    when the wanted pairs have converged they are kept and the space starts again from a random vector orthogonal to
    them, as it would for the operator deflated by them, until that changes none of the wanted values: for an end of one
    value one full basis of products, to reveal an end that the first vector did not contain; for more until the next
    value after the wanted ones has converged too, so that all copies are obtained. From a given ``start``, which is
    near to the vectors sought, nothing else is looked for. Before that ``growth`` may ask for more than was found: the
    space that holds the first values continues.
    """
    space = KrylovSpace(operator, basis_size, generator, start)
    ritz = _iterate(space, wanted, wanted, tol, max_matvecs)
    while growth is not None and ritz.converged and not space.is_invariant:
        larger = growth({end: ritz.values[rows] for end, rows in ritz.rows.items()}, ritz.everything, ritz.norm)
        if larger is None:
            break
        max_matvecs += _PER_VALUE * (sum(larger.wanted.values()) - sum(wanted.values()))
        wanted = larger.wanted
        space.enlarge(larger.basis_size)
        ritz = _iterate(space, wanted, wanted, tol, max_matvecs)
    more = {end: k if k == 1 else k + 1 for end, k in wanted.items()}
    complete = space.is_invariant
    while start is None and ritz.converged and not complete:
        space.restart_randomly(wanted, ritz.known)
        again = _iterate(space, wanted, more, tol, max_matvecs)
        complete = again.converged and _agree(ritz, again, tol)
        if complete or not again.converged:
            break
        ritz, complete = again, space.is_invariant
    return _with_residuals(operator, ritz, complete)


class _RitzPairs(NamedTuple):
    """Ritz pairs as they were when the space held them: for each end the rows of its leading values."""

    values: Complex
    vectors: Tensor
    rows: dict[str, list[int]]
    norm: float
    converged: bool
    known: Converged
    everything: Complex


def _iterate(
    space: KrylovSpace, wanted: Mapping[str, int], more: Mapping[str, int], tol: float, max_matvecs: int
) -> _RitzPairs:
    """Expand and restart until the wanted values of every end, and roughly ``more`` of them, have converged."""
    while True:
        spent = space.expand(max_matvecs)
        values, small = np.linalg.eig(space.projection)
        estimates = np.abs(space.spike @ small)
        size = float(np.linalg.norm(space.projection, 2))
        values = without_rounding(values, tol * size)
        # among values equal within the tolerance those that have converged come first
        known = Converged(values[estimates <= tol * size], tol * size)
        advance = known.advance(values)
        chosen, following = (
            {end: leading(values, end, min(k, len(values)), advance) for end, k in number.items()}
            for number in (wanted, more)
        )
        sought, next_ones = (np.unique(np.concatenate(list(rows.values()))) for rows in (chosen, following))
        converged = bool((estimates[sought] <= tol * size).all() and (estimates[next_ones] <= tol**0.5 * size).all())
        converged = (converged and space.is_full) or space.is_invariant
        if converged or spent + space.capacity // 2 > max_matvecs:
            place = {int(position): row for row, position in enumerate(sought)}
            rows = {end: [place[int(p)] for p in positions] for end, positions in chosen.items()}
            return _RitzPairs(values[sought], space.vectors(small[:, sought]), rows, size, converged, known, values)
        space.restart(more, known)


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
    rotating = X.imag.any(dim=0)
    columns = torch.cat([X.real, X.imag[:, rotating]], dim=1)
    images = operator.matmat(columns.to(operator.dtype)).double()
    count = X.shape[1]
    real, imaginary = images[:, :count], torch.zeros_like(images[:, :count])
    imaginary[:, rotating] = images[:, count:]
    defect = torch.complex(real, imaginary) - X * torch.from_numpy(ritz.values).to(X.device)
    lengths = column_norms(X)
    residuals = (column_norms(defect) / lengths / (ritz.norm or 1.0)).cpu().numpy()
    X = X / lengths
    return {
        end: Pairs(ritz.values[rows], X[:, rows], residuals[rows], ritz.norm, complete)
        for end, rows in ritz.rows.items()
    }
