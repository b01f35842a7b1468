"""On which side of the imaginary axis the eigenvalues of a matrix are, and for how many that is undecided.

An operator's products carry rounding errors of its dtype, so its eigenvalues are known as those of a matrix A + E with
||E|| <= delta. To first order E moves eigenvalue i by at most condition_i delta. Where several such discs meet (a
Jordan block of size m, perturbed, is a ring of radius delta^(1/m) and condition delta^(1/m - 1) / m), the m of them are
taken together, with m times the radius: Gershgorin's discs in the basis of eigenvectors (Bauer and Fike 1960,
theorem IV). A cluster is on one side if all its discs are, or the numerical range of A on its invariant subspace
plus ||projector|| delta. Matrices whose eigenvectors are too ill-conditioned to say even that get a random
perturbation of half of delta first, which bounds the conditions (Banks, Garza-Vargas, Kulkarni and Srivastava 2020).
Where the matrix's own precision does not do, vertical lines beside the axis that no perturbed eigenvalue crosses are
tried before discs, and for a matrix of which one eigenvalue has been split off they come first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from resdyn.linalg._axis import Iterated, beyond_lines
from resdyn.linalg._deflated import Decomposition, Deflated, Part, decomposed, scaled_to_one
from resdyn.linalg._diagonalised import Complex, Diagonalised, diagonalised
from resdyn.linalg._discs import MEETING, ROUNDING
from resdyn.linalg._norms import norm, power_of_two
from resdyn.linalg._resolvent import Resolvent
from resdyn.linalg._structure import of_matrix

Matrix = NDArray[np.floating]
Rows = NDArray[np.intp]

_QR = 3.0  # what the QR algorithm adds in its own precision
_FEW = 0.002  # share of eigenvalues that may stay undecided without a closer look
_MODERATE = 1024  # size up to which a matrix with copies of an eigenvalue is tried as a whole
_SEPARATED = 1e-2  # how far rounding may move zeros, relative to the norm, to be a null space rather than a cluster


class Sides(NamedTuple):
    """Numbers of eigenvalues left of the axis and undecided, and of undecided ones that are 0 to rounding."""

    negative: int
    undecided: int
    zero: int


def sides(matrix: Tensor, known: Decomposition | None = None) -> Sides:
    """The sides of all eigenvalues of a matrix (n, n), one diagonal block of its structure at a time."""
    eps = float(torch.finfo(matrix.dtype).eps)
    scaled, one = scaled_to_one(matrix), power_of_two(float(matrix.abs().max()))
    known = known or [(block, decomposed(scaled[block][:, block], one)) for block in of_matrix(scaled)]
    total = Sides(0, 0, 0)
    # an entry is as uncertain as its whole row: it may be the result of cancellation
    rows = scaled.abs().amax(dim=1).double()
    for block, pairs in known:
        inner = scaled[block][:, block]
        delta = ROUNDING * eps * max(norm(inner), float(rows[block].max()))
        counts = _one(float(inner), delta) if len(block) == 1 else _of_block(inner.numpy(), pairs, delta)
        total = Sides(*(a + b for a, b in zip(total, counts)))
    return total


def _one(value: float, delta: float) -> Sides:
    undecided = abs(value) <= delta and delta > 0
    return Sides(int(value < -delta), int(undecided), int(undecided))


def _of_block(A: Matrix, pairs: Part, delta: float) -> Sides:
    """First in the matrix's own precision, enough where little is near the axis and nothing ill-conditioned."""
    n = len(A)
    if isinstance(pairs, Deflated):
        counts = _of_deflated(pairs, delta)
        if counts.undecided - counts.zero <= _FEW * n or n > _MODERATE:
            return counts
        pairs = diagonalised(A)  # values near to the copies that share their vectors: as a whole they may be decided
    wide = delta * (1 + _QR / ROUNDING)
    if pairs is not None and _is_plain(pairs, wide, float(np.linalg.norm(A.astype(float)))):
        negative, positive = _counted(pairs, wide, pairs.conditions)
        if n - negative - positive <= _FEW * n:
            return Sides(negative, n - negative - positive, 0)
    A = A.astype(float)
    if pairs is not None and (np.abs(pairs.values) > n * wide * pairs.conditions).all():
        return _of_core(A, None, delta)  # no eigenvalue can be 0, so no direction is missing
    core, factor = full_rank(A, A, delta)
    return _of_core(A, None, delta) if len(core) == n else sides_of_product(core, factor, delta, n)


def _of_deflated(found: Deflated, delta: float) -> Sides:
    """By lines beside the axis, which copies of an eigenvalue do not make harder."""
    n, wide = len(found.values), delta + found.rest
    if not found.shift:
        return sides_of_product(found.core, found.factor, wide, n)
    left, right = beyond_lines(found.resolvent, wide, found.copies, found.shift)
    if n - left - right > _FEW * n:
        more = _of_core(found.core + found.shift * np.eye(len(found.Q)), found.factor, wide, found.copies, found.shift)
        left, right = max(left, more.negative), max(right, n - more.negative - more.undecided)
    return Sides(left, n - left - right, 0)


def full_rank(core: Matrix, factor: Matrix, delta: float) -> tuple[Matrix, Matrix]:
    """B Q and L of a product without the directions of Q whose singular values are rounding."""
    U, S, _ = np.linalg.svd(factor)
    U = U[:, : int((delta < S).sum())]
    return U.T @ core @ U, U.T @ factor


def sides_of_product(core: Matrix, factor: Matrix, delta: float, n: int) -> Sides:
    """Of A = Q B (n, n) without full rank: core B Q (r, r), and a factor L (r, m) with L L^T = B B^T.

    The others are undecided; zeros to rounding, where they are well separated from the rest by the norm of their
    projector I - Q (B Q)^-1 B.
    """
    rest = n - len(core)
    if not len(core):
        return Sides(0, n, n)
    try:
        projector = float(np.linalg.norm(np.linalg.solve(core, factor), 2))
    except np.linalg.LinAlgError:
        projector = np.inf
    counts = _of_core(core, factor, delta)
    separated = projector * delta <= _SEPARATED * float(np.linalg.norm(factor, 2))
    return Sides(counts.negative, counts.undecided + rest, rest if separated else 0)


def _of_core(core: Matrix, factor: Matrix | None, delta: float, copies: int = 0, shift: float = 0.0) -> Sides:
    """Of A, or of c + Q B without ``copies`` of c, c the ``shift``, where the core c + B Q has a factor; 0 as c."""
    noise = np.random.default_rng(0).standard_normal(core.shape) / (2 * len(core) ** 0.5)
    core = core + 0.5 * delta * noise
    n, pairs = len(core) + copies, diagonalised(core)
    if pairs is None:
        return Sides(0, n, 0)
    resolvent = Resolvent(pairs, factor, shift)
    negative, positive = beyond_lines(resolvent, 1.5 * delta, copies, shift)
    if negative + positive < n:
        conditions = pairs.conditions
        if factor is not None:  # conditions in all of A: the left vectors reach into the null space
            lifted = resolvent.lengths[1] / np.maximum(np.abs(pairs.values - shift), np.finfo(float).tiny)
            conditions = np.maximum(conditions, lifted)
        if copies:  # all in one: the norm of their projector
            conditions = np.append(conditions, 1 + resolvent.norms(np.array([shift + 0j])))
        left, right = _counted(pairs, 1.5 * delta, conditions, copies, shift)
        negative, positive = max(negative, left), max(positive, right)
    if n - negative - positive > _FEW * n:
        left, right = beyond_lines(Iterated(core, factor, shift), 1.5 * delta, copies, shift)
        negative, positive = max(negative, left), max(positive, right)
    return Sides(negative, n - negative - positive, 0)


def _is_plain(pairs: Diagonalised, delta: float, size: float) -> bool:
    """Whether few conditions are beyond that of a defective pair at distance delta, and few values near the axis."""
    radii = pairs.conditions * delta
    doubtful = (radii >= (delta * size) ** 0.5) | (np.abs(pairs.values.real) <= radii)
    return bool(doubtful.mean() <= _FEW)


def _counted(
    pairs: Diagonalised, delta: float, conditions: NDArray[np.float64], copies: int = 0, shift: float = 0.0
) -> tuple[int, int]:
    """(left, right): eigenvalues that no perturbation of size delta moves across the axis.

    Where there are ``copies`` of an eigenvalue ``shift`` besides, they have one disc together, the last one.
    """
    values = np.append(pairs.values, shift) if copies else pairs.values
    radii, number = conditions * delta, np.ones(len(values), int)
    number[len(pairs.values) :] = copies
    if (radii * len(values) < np.abs(values.real)).all():  # decided whatever meets
        return int(number[values.real < 0].sum()), int(number[values.real > 0].sum())
    distance = np.abs(values[:, None] - values[None])
    meeting = distance <= MEETING * (radii[:, None] + radii[None])
    known: dict[bytes, int] = {}
    while True:
        count, labels = connected_components(csr_array(meeting), directed=False)
        clusters = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
        # the widest disc times the number of discs as wide as it
        reach = [float(radii[rows].sum()) for rows in clusters]
        for rows, width in zip(clusters, reach):
            if rows.tobytes() not in known:
                known[rows.tobytes()] = _side(pairs, values, rows, width, delta)
        placed = [known[rows.tobytes()] for rows in clusters]
        for rows, side, width in zip(clusters, placed, reach):
            if side == 0 and len(rows) > 1:  # an undecided cluster absorbs those it may stem from
                meeting[rows[0]] |= (distance[rows] <= width).any(axis=0)
        if connected_components(csr_array(meeting), directed=False)[0] == count:
            left, right = (
                sum(number[rows].sum() for rows, on in zip(clusters, placed) if on == side) for side in (-1, 1)
            )
            return int(left), int(right)


def _side(pairs: Diagonalised, values: Complex, rows: Rows, width: float, delta: float) -> int:
    """-1 or 1 for a cluster of eigenvalues that is certainly left or right of the axis, otherwise 0."""
    real = values.real[rows]
    if real.max() < -width:
        return -1
    if real.min() > width:
        return 1
    if len(rows) == 1 or real.min() - delta <= 0 <= real.max() + delta or rows.max() >= len(pairs.values):
        return 0  # the numerical range holds the eigenvalues, a projector has at least the norm 1
    side = 1 if real.min() > 0 else -1
    return side if _is_beyond(*pairs.basis(rows), side * pairs.T, delta) else 0


def _is_beyond(V: Any, U: Any, T: Matrix, delta: float) -> bool:
    """Whether x^T T x > ||P|| delta for all unit x in the span of V, with P = V U the projector onto it along the rest.

    Both sides as forms in the coefficients of V, by a Cholesky factorisation of their difference.
    """
    V, U = (part.astype(np.result_type(part.dtype, float)) for part in (V, U))
    form, gram = V.conj().T @ (T.astype(float) @ V), V.conj().T @ V
    form = (form + form.conj().T) / 2
    dual = U @ U.conj().T
    # P is [[1, Z], [0, 0]] in an orthonormal basis, so ||P||^2 = 1 + ||Z||^2 is at most 1 + ||P||_F^2 - rank
    above = 1 + max(0.0, float((gram * dual.conj()).real.sum()) - len(U))
    if _is_positive(form - above**0.5 * delta * gram):
        return True
    if not _is_positive(form - delta * gram):
        return False
    try:
        root = np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        return False
    exact = float(np.linalg.eigvalsh(root.conj().T @ dual @ root)[-1].clip(min=0))
    return _is_positive(form - exact**0.5 * delta * gram)


def _is_positive(form: Any) -> bool:
    """Whether a Hermitian matrix is positive definite beyond the rounding of its factorisation."""
    rounding = 10 * len(form) * np.finfo(float).eps * float(np.abs(form).max())
    try:
        np.linalg.cholesky(form - rounding * np.eye(len(form)))
    except np.linalg.LinAlgError:
        return False
    return True
