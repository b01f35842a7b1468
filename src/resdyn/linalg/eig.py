"""Eigenvalues of nonsymmetric operators: all of them, or those at the ends of the spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn import _checks as checks
from resdyn._numerics import full_precision
from resdyn.errors import ComputationError, InputError
from resdyn.linalg._compression import live_coordinates, near_one
from resdyn.linalg._dense_eig import PRODUCT_ROUNDING, all_values, all_with_ends, dense_ends, joined, pairs_of, picked
from resdyn.linalg._dense_eig import Values as _Values
from resdyn.linalg._eigen_result import EigenResult
from resdyn.linalg._ends import leading, ordered
from resdyn.linalg._growing import basis_for, growth_to
from resdyn.linalg._krylov_schur import Growth, Pairs, krylov_schur
from resdyn.linalg._structure import components, diagonal_blocks
from resdyn.linalg.operator import LinearOperator, check_operator

End = Literal["LR", "SR", "LM"]
EigMethod = Literal["auto", "dense", "krylov_schur"]
DENSE_BELOW = 200


@full_precision()
def eigenvalues(
    operator: LinearOperator,
    which: str | Sequence[str] = "all",
    k: int | Sequence[int] = 1,
    *,
    method: EigMethod = "auto",
    tol: float | None = None,
    seed: int = 0,
    basis_size: int | None = None,
    max_matvecs: int = 3000,
    conditions: bool = False,
    memory_limit: int = 2**30,
    reach: float | None = None,
) -> EigenResult:
    """Eigenvalues of a square operator, ``A x = lambda x``: all of them, or k at each requested end.

    Normality is assumed nowhere. The operator is first compressed exactly: a coordinate with a zero row or column (an
    output that a ReLU kills) is an eigenvalue 0, and the others are those of the principal submatrix on the live
    coordinates. The zeros count: they are the smallest real part where all other real parts are positive. Then it is
    split: where its zeros leave a block triangular form after a permutation of coordinates (causal attention, causal
    convolutions), its eigenvalues are those of the diagonal blocks, and so are residuals and conditions.

    A residual is a backward error, and ``converged`` says that it is small, not that the value is right. The forward
    error is about condition x residual x norm (``EigenResult.errors``), and the condition of an eigenvalue of a
    nonnormal matrix can be arbitrarily large: ask for ``conditions``.

    Methods:

    ``auto``
        ``dense`` for all values and up to 200 live coordinates, otherwise ``krylov_schur``.
    ``dense``
        LAPACK on the compressed matrix; for ends, eigenvectors and measured residuals too. Where all values are asked
        for together with ends, copies of the eigenvalues 0 and 1 are split off first, if they are three tenths or
        more of a matrix of at least 256 coordinates: A = c + Q B with orthonormal columns Q (n, r) has the eigenvalues
        of c + B Q (r, r), and n - r times c. The Jacobian of a block with an identity skip is of this kind, r the
        number of hidden units that are on.
    ``krylov_schur``
        Products only: one Krylov space for all ends, in real arithmetic, restarted with the Schur vectors nearest to
        the ends. One start vector holds one copy of a repeated value; so when all residuals are at most ``tol``, the
        space starts again from a random vector outside the computed subspace, until that brings no more values, or
        until ``max_matvecs``. Values that have not converged are returned and flagged.

    Args:
        operator: A (n, n), in float32 or float64, on any device.
        which: "all" (default), or one or several of "LR" (largest real part), "SR" (smallest real part) and "LM"
            (largest magnitude). With "all" among several, all come from one decomposition, with conditions if asked
            for; residuals of the ends are measured.
        k: number of values per end, 1 to n (default 1), or one number for each of ``which``; not used for "all". An end
            holds k + 1 where k would split a conjugate pair.
        method: "auto" (default), "dense", or for ends also "krylov_schur", see above.
        tol: backward error, relative to the norm, at which a value counts as converged; default eps^(2/3), 2.4e-5 in
            float32 and 3.7e-11 in float64.
        seed: of the start vector and of the vectors that detect the live coordinates.
        basis_size: vectors kept by ``krylov_schur``; default 20 + 3 for each value of an end, at least 40.
        max_matvecs: products that ``krylov_schur`` may spend (default 3000), those for the final residuals and
            conditions excluded.
        conditions: also measure the condition of every value at the ends (default False).
        memory_limit: bytes for the Krylov basis or the dense matrix (default 1 GiB).
        reach: a real part. Where ``krylov_schur`` finds the end "SR" of an operator without block structure, and its
            values suggest that no more than 64 are to the left of this, the list grows until it reaches beyond it;
            each grown value allows for 20 more products. Default: none.

    Returns:
        All values by descending real part; or the ends in the order asked for, each from its extreme inwards.

    Raises:
        InputError: an operator that is not square, a dtype other than float32 and float64, an unknown end or method,
            k out of range, or a matrix over the memory limit.
        ComputationError: a product with NaN or infinite values.

    Cost:
        ``dense``: ``num_live`` products. ``krylov_schur``: one per basis vector, at most ``max_matvecs``; twice that
        with ``conditions``. The split costs up to one product per coordinate for the ends of large operators that have
        a block triangular form, 6 for those that have none.

    Source:
        Stewart (2001), A Krylov-Schur algorithm for large eigenproblems; Bai and Demmel (1993), swapping of Schur
        blocks (LAPACK trsen); Trefethen and Embree (2005), section 52, on conditions.

    Example:
        >>> from resdyn.linalg import DenseOperator
        >>> eigenvalues(DenseOperator(torch.tensor([[0.0, 1.0], [0.0, 0.0]]) + torch.eye(2)), "SR").values.real
        tensor([1.])
    """
    ends = _ends(which)
    wanted = _check(operator, ends, k, method)
    tol = torch.finfo(operator.dtype).eps ** (2 / 3) if tol is None else checks.tolerance(tol)
    basis_size = checks.optional_whole("basis_size", basis_size, 1)
    max_matvecs = checks.whole("max_matvecs", max_matvecs, 1)
    memory_limit = checks.whole("memory_limit", memory_limit)
    conditions = checks.flag("conditions", conditions)
    reach = None if reach is None else checks.number("reach", reach, "a real number")
    generator = torch.Generator().manual_seed(checks.seed(seed))
    before = operator.num_matvecs
    try:
        scaled, factor = near_one(operator)
        live = live_coordinates(scaled, generator)
        inner = scaled if len(live) == operator.shape[0] else scaled.restricted(live, live) if len(live) else None
        dense = inner is None or "all" in ends or method == "dense" or (method == "auto" and len(live) <= DENSE_BELOW)
        num_blocks, matrix, known = 0, None, None
        if inner is None:
            by_end = {end: _zeros(0) for end in ends}
        elif ends == ("all",):
            matrix = _matrix(inner, memory_limit)
            part, num_blocks = all_values(matrix)
            by_end = {"all": part}
        elif "all" in ends:
            matrix = _matrix(inner, memory_limit)
            by_end, num_blocks, known = all_with_ends(matrix, wanted, getattr(inner, "directions", None))
        elif dense:
            by_end, num_blocks = dense_ends(_matrix(inner, memory_limit), wanted, conditions)
        else:
            basis = basis_for(wanted) if basis_size is None else basis_size
            _check_memory(basis, inner, memory_limit)
            settings = {"basis_size": basis, "tol": tol, "max_matvecs": max_matvecs}
            growth = None
            if reach is not None and "SR" in ends:
                fitting = memory_limit // (inner.shape[0] * inner.dtype.itemsize)
                growth = growth_to(reach * factor, inner.shape[0], fitting)
            by_end, num_blocks = _ends_of_blocks(inner, wanted, conditions, generator, settings, growth)
            wanted |= {end: len(part.values) for end, part in by_end.items() if len(part.values) > wanted[end] + 1}
    except ComputationError as error:
        raise ComputationError(f"eigenvalues of {operator!r} failed: {error}") from error
    by_end = {end: _at_operator_scale(part, operator.dtype, factor) for end, part in by_end.items()}
    spent, dead = operator.num_matvecs - before, operator.shape[0] - len(live)

    def result(parts: list[_Values]) -> EigenResult:
        found = _result(operator, by_end, parts, tol, len(live), spent, dense, conditions)
        meeting = np.concatenate(
            [np.ones(len(part.values)) if part.meeting is None else part.meeting for part in parts]
        )
        return replace(found, num_blocks=num_blocks, meeting=torch.from_numpy(meeting))

    whole = result([_with_zeros(part, end, wanted[end], dead) for end, part in by_end.items()])
    inside = None if "all" in ends else result(list(by_end.values()))
    return replace(whole, matrix=matrix, decomposition=known, live=inside)


def _ends_of_blocks(
    operator: LinearOperator,
    wanted: Mapping[str, int],
    conditions: bool,
    generator: torch.Generator,
    settings: dict[str, Any],
    growth: Growth | None,
) -> tuple[dict[str, _Values], int]:
    """The ends among the diagonal blocks of the operator, those of small blocks from all their eigenvalues."""

    def krylov(block: LinearOperator, growth: Growth | None = None) -> dict[str, _Values]:
        sizes = settings | {"basis_size": min(block.shape[0], settings["basis_size"])}
        fitting = {end: min(k, block.shape[0]) for end, k in wanted.items()}
        return _krylov_ends(block, fitting, conditions, generator, sizes, growth)

    blocks = components(operator, torch.Generator().manual_seed(generator.initial_seed()))
    if len(blocks) == 1:
        return krylov(operator, growth), 1
    small = [block for block in blocks if len(block) <= DENSE_BELOW]
    matrices = list(diagonal_blocks(operator, small))
    norms = [float(torch.linalg.matrix_norm(matrix.double(), 2)) for matrix in matrices]
    parts = [pairs_of(matrix, size, conditions) for matrix, size in zip(matrices, norms)]
    large = [krylov(operator.restricted(block, block)) for block in blocks if len(block) > DENSE_BELOW]
    by_end = {end: joined(parts + [part[end] for part in large]) for end in wanted}
    return {end: picked(part, end, wanted[end]) for end, part in by_end.items()}, len(blocks)


def _at_operator_scale(part: _Values, dtype: torch.dtype, factor: float) -> _Values:
    """At the operator's own scale, with no residual below the rounding error of its products."""
    residuals = np.maximum(part.residuals, PRODUCT_ROUNDING * torch.finfo(dtype).eps)
    return part._replace(values=part.values / factor, residuals=residuals, norm=part.norm / factor)


def _zeros(count: int) -> _Values:
    """Eigenvalues 0 of the coordinates that compression removed."""
    return _Values(np.zeros(count, complex), np.zeros(count), np.full(count, np.nan), 0.0)


def _krylov_ends(
    operator: LinearOperator,
    wanted: Mapping[str, int],
    conditions: bool,
    generator: torch.Generator,
    settings: dict[str, Any],
    growth: Growth | None,
) -> dict[str, _Values]:
    right = krylov_schur(operator, wanted, generator=generator, growth=growth, **settings)
    if not conditions:
        unknown = {end: np.full(len(p.values), np.nan) for end, p in right.items()}
        return {
            end: _Values(p.values, p.residuals, unknown[end], p.norm, complete=p.complete) for end, p in right.items()
        }
    # left vectors have a part along the right ones, the larger the better conditioned their value is
    vectors = torch.cat([p.vectors for p in right.values()], dim=1)
    start = (vectors.real + vectors.imag).sum(dim=1).to(operator.dtype)
    if growth is not None:
        wanted = {end: max(k, len(right[end].values)) for end, k in wanted.items()}
        settings = settings | {"basis_size": min(operator.shape[0], max(settings["basis_size"], basis_for(wanted)))}
    left = krylov_schur(operator.adjoint, wanted, generator=generator, start=start, **settings)
    known = {end: _conditions(p, left[end]) for end, p in right.items()}
    return {end: _Values(p.values, p.residuals, known[end], p.norm, complete=p.complete) for end, p in right.items()}


def _conditions(right: Pairs, left: Pairs) -> NDArray[np.float64]:
    """``1 / |y^T x|`` with y the vector of A^T whose eigenvalue is nearest, and at least what their gap implies.

    Both values are exact for matrices no further from A than their residuals, so they differ by at most the
    condition times that.
    """
    gaps = np.abs(right.values[:, None] - left.values[None])
    nearest = gaps.argmin(axis=1)
    overlaps = (right.vectors * left.vectors[:, torch.from_numpy(nearest)]).sum(dim=0).abs()
    angles = (1 / overlaps.clamp_min(torch.finfo(overlaps.dtype).tiny)).cpu().numpy()
    apart = (right.residuals + left.residuals[nearest]) * max(right.norm, left.norm)
    implied = gaps.min(axis=1) / np.maximum(apart, np.finfo(float).tiny)
    return np.asarray(np.where(implied > 10, np.maximum(angles, implied), angles))


def _with_zeros(part: _Values, end: str, k: int, dead: int) -> _Values:
    """The values with the zeros that compression removed, in order."""
    zeros = _zeros(dead if end == "all" else min(k, dead))
    values, residuals, conditions = (np.concatenate([a, b]) for a, b in zip(part[:3], zeros[:3]))
    rows = ordered(values, "LR") if end == "all" else leading(values, end, min(k, len(values)))
    own = np.ones(len(part.values)) if part.meeting is None else part.meeting
    meeting = np.concatenate([own, np.ones(len(zeros.values))])
    return _Values(values[rows], residuals[rows], conditions[rows], part.norm, meeting[rows], part.complete)


def _result(
    operator: LinearOperator,
    by_end: dict[str, _Values],
    parts: list[_Values],
    tol: float,
    num_live: int,
    spent: int,
    dense: bool,
    conditions: bool,
) -> EigenResult:
    values, residuals, known = (np.concatenate(column) for column in list(zip(*parts))[:3])
    dtype, device = operator.dtype, operator.device
    errors = torch.tensor(residuals, dtype=dtype, device=device)
    complete = np.concatenate([np.full(len(part.values), part.complete) for part in parts])
    return EigenResult(
        values=torch.tensor(values, device=device).to(torch.complex128 if dtype == torch.float64 else torch.complex64),
        ends=tuple(end for end, part in zip(by_end, parts) for _ in part.values),
        residuals=errors,
        converged=(errors <= tol) & torch.tensor(complete, device=device),
        norm=max(part.norm for part in parts),
        num_live=num_live,
        num_matvecs=spent,
        method="dense" if dense else "krylov_schur",
        conditions=torch.tensor(known, dtype=dtype, device=device) if conditions else None,
    )


def _ends(which: str | Sequence[str]) -> tuple[str, ...]:
    ends = (which,) if isinstance(which, str) or not np.iterable(which) else tuple(dict.fromkeys(which))
    if not ends or set(ends) - {"all", *get_args(End)}:
        raise InputError(f"got which={which!r}; expected 'all', or one or several of {', '.join(get_args(End))}")
    return ends


def _check(operator: LinearOperator, ends: tuple[str, ...], k: int | Sequence[int], method: str) -> dict[str, int]:
    """How many values each end is to hold."""
    check_operator(operator)
    m, n = operator.shape
    if m != n:
        raise InputError(
            f"got {operator!r}, which has no eigenvalues; expected a square operator; see svd for its singular values"
        )
    if operator.dtype not in (torch.float32, torch.float64):
        raise InputError(f"got {operator!r}; expected float32 or float64; convert the model with .float()")
    if method not in get_args(EigMethod) or ("all" in ends and method == "krylov_schur"):
        raise InputError(f"got method={method!r}; expected auto or dense, or for ends also krylov_schur")
    numbers = [k] * len(ends) if isinstance(k, int) or not np.iterable(k) else list(k)
    if len(numbers) != len(ends):
        raise InputError(f"got k={k!r} for {len(ends)} ends; expected one number, or one for each of {', '.join(ends)}")
    wanted = {end: checks.whole("k", number) for end, number in zip(ends, numbers)}
    if not all(1 <= number <= n for number in wanted.values()):
        raise InputError(f"got k={k} for {operator!r}; expected 1 <= k <= {n}")
    return wanted


def _matrix(operator: LinearOperator, memory_limit: int) -> Tensor:
    n = operator.shape[0]
    needed = 3 * n * n * operator.dtype.itemsize
    if needed > memory_limit:
        raise InputError(
            f"all eigenvalues of {operator!r} need about {needed / 2**30:.1f} GiB, the limit is "
            f"{memory_limit / 2**30:.1f}; ask for the ends of the spectrum, or raise memory_limit"
        )
    matrix = operator.to_dense()
    if not bool(torch.isfinite(matrix).all()):
        raise ComputationError("a product holds NaN or infinite values")
    return matrix


def _check_memory(basis: int, operator: LinearOperator, memory_limit: int) -> None:
    needed = basis * operator.shape[0] * operator.dtype.itemsize
    if basis < 10 or needed > memory_limit:
        raise InputError(
            f"got basis_size={basis} for {operator!r}; expected at least 10 vectors that fit in "
            f"{memory_limit / 2**30:.1f} GiB; change basis_size or memory_limit"
        )
