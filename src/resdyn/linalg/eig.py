"""Eigenvalues of nonsymmetric operators: all of them, or those at the ends of the spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn._html import table
from resdyn.errors import ComputationError, InputError
from resdyn.linalg._compression import live_coordinates
from resdyn.linalg._krylov_schur import ORDERS, Complex, Pairs, krylov_schur, leading
from resdyn.linalg.operator import LinearOperator

End = Literal["LR", "SR", "LM"]
EigMethod = Literal["auto", "dense", "krylov_schur"]
DENSE_BELOW = 200


@dataclass(frozen=True)
class EigenResult:
    """Eigenvalues of a real n x n operator, ``A x = lambda x``, with a backward error for each.

    Attributes:
        values: (m,) complex. All of them by descending real part; or the ends one after the other, each
            from its extreme inwards, conjugate pairs whole (so an end may hold k + 1).
        ends: which end each value belongs to, "all" where all were asked for.
        residuals: (m,) ||A x - lambda x|| / (norm ||x||): each lambda is an exact eigenvalue of a matrix A + E with
            ||E|| = residual x norm. Measured, but for "all", where it is the ``backward_error`` of the QR algorithm.
        converged: (m,) residuals <= tol.
        norm: the estimate of ||A||_2 (a lower bound; for dense matrices the Frobenius norm).
        num_live: coordinates left by compression; n - num_live eigenvalues are exactly 0.
        num_matvecs: products that were spent.
        conditions: (m,) 1 / |y^H x| for unit right and left eigenvectors (to first order in E, lambda moves by at most
            condition x residual x norm); None unless asked for.
        method: "dense" or "krylov_schur".
    """

    values: Tensor
    ends: tuple[str, ...]
    residuals: Tensor
    converged: Tensor
    norm: float
    num_live: int
    num_matvecs: int
    method: str
    conditions: Tensor | None = None

    def _repr_html_(self) -> str:
        shown = min(len(self.values), 50)
        rows = [
            (self.ends[k], f"{complex(self.values[k]):.6g}", f"{float(self.residuals[k]):.1e}",
             "yes" if self.converged[k] else "no")
            for k in range(shown)
        ]  # fmt: skip
        more = f"{len(self.values) - shown} more; " if shown < len(self.values) else ""
        note = f"{more}{self.method}, {self.num_matvecs} products, norm {self.norm:.4g}"
        return table(
            f"{len(self.values)} eigenvalues", ("end", "eigenvalue", "backward error", "converged"), rows, note
        )

    def end(self, which: str) -> EigenResult:
        """The values of one end alone. Raises InputError if it was not asked for."""
        rows = [row for row, end in enumerate(self.ends) if end == which]
        if not rows:
            raise InputError(f"got end {which!r}; this result holds {', '.join(dict.fromkeys(self.ends))}")
        picked = None if self.conditions is None else self.conditions[rows]
        return replace(
            self, values=self.values[rows], ends=(which,) * len(rows), residuals=self.residuals[rows],
            converged=self.converged[rows], conditions=picked,
        )  # fmt: skip


def eigenvalues(
    operator: LinearOperator,
    which: str | Sequence[str] = "all",
    k: int = 1,
    *,
    method: EigMethod = "auto",
    tol: float | None = None,
    seed: int = 0,
    basis_size: int | None = None,
    max_matvecs: int = 3000,
    conditions: bool = False,
    memory_limit: int = 2**30,
) -> EigenResult:
    """Eigenvalues of a square operator: all, or k at each end asked for; normality is assumed nowhere.

    Ends: "LR" largest real part, "SR" smallest real part, "LM" largest magnitude; several may be asked for at once.

    First the operator is compressed exactly: a coordinate with a zero row or column (an output that a ReLU
    kills) is an eigenvalue 0, and the others are those of the principal submatrix on the live coordinates. The zeros
    count: they are the smallest real part where all other real parts are positive.

    ``dense``: LAPACK on the compressed matrix, from ``num_live`` products; for ends, eigenvectors and measured
    residuals too. ``krylov_schur``: products only, one Krylov space for all ends, real arithmetic, restarted with the
    Schur vectors nearest to the ends; stops when all residuals are at most ``tol`` or at ``max_matvecs``. What has not
    converged is returned and flagged. ``auto``: dense for all values and up to 200 live coordinates.

    A residual is a backward error. The forward error is about condition x residual x norm, and the condition of an
    eigenvalue of a nonnormal matrix can be anything: ask for ``conditions`` (doubles the cost of ``krylov_schur``).

    Args:
        operator: square, float32 or float64, on any device.
        which, k: see above.
        tol: backward error at which a value counts as converged; default eps^(2/3), 2.4e-5 in float32 and
            3.7e-11 in float64.
        seed: of the start vector and of the vectors that find the live coordinates.
        basis_size: vectors kept by ``krylov_schur``; default 20 + 3 k for each end, at least 40.
        max_matvecs: products that ``krylov_schur`` may spend, those for the last residuals and conditions excluded.
        conditions: also measure the condition of every value at the ends.
        memory_limit: bytes for the Krylov basis or the dense matrix.

    Raises:
        InputError: an operator that is not square, a dtype other than float32 and float64, an unknown end or method,
            k out of range, a matrix over the memory limit.
        ComputationError: the operator gave NaN or infinite values.

    Sources: Stewart (2001), A Krylov-Schur algorithm for large eigenproblems; Bai and Demmel (1993), swapping of Schur
    blocks (LAPACK trsen); Trefethen and Embree (2005), section 52, on conditions.

    >>> from resdyn.linalg import DenseOperator
    >>> eigenvalues(DenseOperator(torch.tensor([[0.0, 1.0], [0.0, 0.0]]) + torch.eye(2)), "SR").values.real
    tensor([1.])
    """
    ends = _ends(which)
    _check(operator, ends, k, method)
    tol = torch.finfo(operator.dtype).eps ** (2 / 3) if tol is None else tol
    generator = torch.Generator().manual_seed(seed)
    before = operator.num_matvecs
    try:
        live = live_coordinates(operator, generator)
        inner = operator if len(live) == operator.shape[0] else operator.restricted(live, live) if len(live) else None
        dense = (
            inner is None or ends == ("all",) or method == "dense" or (method == "auto" and len(live) <= DENSE_BELOW)
        )
        if inner is None:
            found = {end: _zeros(0) for end in ends}
        elif ends == ("all",):
            found = {"all": _all_values(_matrix(inner, memory_limit))}
        elif dense:
            found = _dense_ends(_matrix(inner, memory_limit), ends, k, conditions)
        else:
            basis = max(40, 20 + 3 * k * len(ends)) if basis_size is None else basis_size
            _check_memory(basis, inner, memory_limit)
            settings = {"basis_size": min(len(live), basis), "tol": tol, "max_matvecs": max_matvecs}
            found = _krylov_ends(inner, ends, k, conditions, generator, settings)
    except ComputationError as error:
        raise ComputationError(f"eigenvalues of {operator!r} failed: {error}") from error
    dead = operator.shape[0] - len(live)
    parts = [_with_zeros(part, end, k, dead) for end, part in found.items()]
    return _result(operator, found, parts, tol, len(live), operator.num_matvecs - before, dense, conditions)


def backward_error(matrix: Tensor) -> float:
    """How far the QR algorithm may be from a matrix, relative to its Frobenius norm: sqrt(n) eps.

    The proven constant grows faster with n; what is measured stays below this one.
    """
    return float(len(matrix) ** 0.5 * torch.finfo(matrix.dtype).eps)


class _Values(NamedTuple):
    """Eigenvalues with residuals relative to the norm, and conditions (NaN where unknown)."""

    values: Complex
    residuals: NDArray[np.float64]
    conditions: NDArray[np.float64]
    norm: float


def _zeros(count: int) -> _Values:
    """Eigenvalues 0 of the coordinates that compression took out."""
    return _Values(np.zeros(count, complex), np.zeros(count), np.full(count, np.nan), 0.0)


def _all_values(matrix: Tensor) -> _Values:
    values = torch.linalg.eigvals(matrix).cpu().numpy().astype(complex)
    norm = float(torch.linalg.matrix_norm(matrix.double()))
    error = abs(values.sum() - float(matrix.double().trace())) / (norm or 1.0) / len(values) ** 0.5
    residuals = np.full(len(values), max(backward_error(matrix), float(error)))
    return _Values(values, residuals, np.full(len(values), np.nan), norm)


def _dense_ends(matrix: Tensor, ends: tuple[str, ...], k: int, conditions: bool) -> dict[str, _Values]:
    """Ends of the full decomposition, with measured residuals; left vectors are the rows of the inverse."""
    values, vectors = torch.linalg.eig(matrix.double())
    norm = float(torch.linalg.matrix_norm(matrix.double(), 2))
    residuals = torch.linalg.vector_norm(matrix.to(vectors) @ vectors - vectors * values, dim=0) / (norm or 1.0)
    known = torch.full_like(residuals, float("nan"))
    if conditions:
        left, info = torch.linalg.inv_ex(vectors)
        known = torch.linalg.vector_norm(left, dim=1) if not int(info) else torch.full_like(residuals, float("inf"))
    found, errors, conditions_ = (column.cpu().numpy() for column in (values, residuals, known))
    chosen = {end: leading(found, end, min(k, len(found))) for end in ends}
    return {end: _Values(found[rows], errors[rows], conditions_[rows], norm) for end, rows in chosen.items()}


def _krylov_ends(
    operator: LinearOperator, ends: tuple[str, ...], k: int, conditions: bool, generator: torch.Generator,
    settings: dict[str, Any],
) -> dict[str, _Values]:  # fmt: skip
    right = krylov_schur(operator, ends, k, generator=generator, **settings)
    if not conditions:
        return {end: _Values(p.values, p.residuals, np.full(len(p.values), np.nan), p.norm) for end, p in right.items()}
    left = krylov_schur(operator.adjoint, ends, k, generator=generator, **settings)
    return {end: _Values(p.values, p.residuals, _conditions(p, left[end]), p.norm) for end, p in right.items()}


def _conditions(right: Pairs, left: Pairs) -> NDArray[np.float64]:
    """1 / |y^T x| with y the vector of A^T whose eigenvalue is nearest, and no less than the gap between the two tells.

    Both values are exact for matrices no further from A than their residuals, so they differ by no more than what the
    condition makes of that.
    """
    gaps = np.abs(right.values[:, None] - left.values[None])
    nearest = gaps.argmin(axis=1)
    overlaps = (right.vectors * left.vectors[:, torch.from_numpy(nearest)]).sum(dim=0).abs()
    angles = (1 / overlaps.clamp_min(torch.finfo(overlaps.dtype).tiny)).cpu().numpy()
    apart = (right.residuals + left.residuals[nearest]) * max(right.norm, left.norm)
    told = gaps.min(axis=1) / np.maximum(apart, np.finfo(float).tiny)
    return np.asarray(np.where(told > 10, np.maximum(angles, told), angles))


def _with_zeros(part: _Values, end: str, k: int, dead: int) -> _Values:
    """The eigenvalues 0 that compression took out, put in their places."""
    zeros = _zeros(dead if end == "all" else min(k, dead))
    values, residuals, conditions = (np.concatenate([a, b]) for a, b in zip(part[:3], zeros[:3]))
    rows = ORDERS["LR"](values) if end == "all" else leading(values, end, min(k, len(values)))
    return _Values(values[rows], residuals[rows], conditions[rows], part.norm)


def _result(
    operator: LinearOperator, found: dict[str, _Values], parts: list[_Values], tol: float, num_live: int, spent: int,
    dense: bool, conditions: bool,
) -> EigenResult:  # fmt: skip
    values, residuals, known = (np.concatenate(column) for column in list(zip(*parts))[:3])
    dtype, device = operator.dtype, operator.device
    errors = torch.tensor(residuals, dtype=dtype, device=device)
    return EigenResult(
        values=torch.tensor(values, device=device).to(torch.complex128 if dtype == torch.float64 else torch.complex64),
        ends=tuple(end for end, part in zip(found, parts) for _ in part.values),
        residuals=errors,
        converged=errors <= tol,
        norm=max(part.norm for part in parts),
        num_live=num_live,
        num_matvecs=spent,
        method="dense" if dense else "krylov_schur",
        conditions=torch.tensor(known, dtype=dtype, device=device) if conditions else None,
    )


def _ends(which: str | Sequence[str]) -> tuple[str, ...]:
    ends = (which,) if isinstance(which, str) else tuple(dict.fromkeys(which))
    if ends != ("all",) and (not ends or set(ends) - set(get_args(End))):
        raise InputError(f"got which={which!r}; expected 'all', or one or several of {', '.join(get_args(End))}")
    return ends


def _check(operator: LinearOperator, ends: tuple[str, ...], k: int, method: str) -> None:
    m, n = operator.shape
    if m != n:
        raise InputError(
            f"got {operator!r}, which has no eigenvalues; expected a square operator; singular values are what it has"
        )
    if operator.dtype not in (torch.float32, torch.float64):
        raise InputError(f"got {operator!r}; expected float32 or float64; convert the model with .float()")
    if method not in get_args(EigMethod) or (ends == ("all",) and method == "krylov_schur"):
        raise InputError(f"got method={method!r}; expected auto or dense, or for ends also krylov_schur")
    if not 1 <= k <= n:
        raise InputError(f"got k={k} for {operator!r}; expected 1 <= k <= {n}")


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
            f"got basis_size={basis} for {operator!r}; expected at least 10 vectors that fit into "
            f"{memory_limit / 2**30:.1f} GiB; change basis_size or memory_limit"
        )
