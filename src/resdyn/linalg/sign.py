"""The matrix sign function, and by it the inertia of a matrix: how many eigenvalues are on each side of a line."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from resdyn._numerics import full_precision
from resdyn.errors import InputError
from resdyn.linalg._dense_eig import backward_error
from resdyn.linalg._discs import ROUNDING
from resdyn.linalg._norms import norm, power_of_two
from resdyn.linalg._sides import sides

InertiaMethod = Literal["auto", "eigenvalues", "sign"]
MAX_ITERATIONS = 60


class MatrixSign(NamedTuple):
    """The sign X of a matrix, ``X^2 = I`` up to the residual.

    Attributes:
        sign: X (n, n).
        residual: ``||X^2 - I||_F / sqrt(n)``.
        converged: whether the residual is at most sqrt(eps).
        iterations: steps taken, Newton and Newton-Schulz together.
    """

    sign: Tensor
    residual: float
    converged: bool
    iterations: int


@dataclass(frozen=True)
class Inertia:
    """Numbers of eigenvalues with negative, (nearly) zero and positive real part; together n.

    Attributes:
        negative: those with ``Re < -guard``.
        zero: those with ``|Re| <= guard``; where no guard was asked for, all whose side rounding decides.
        positive: those with ``Re > guard``.
        guard: half the width of the strip around the imaginary axis.
        residual: how far the traces of both sign functions were from integers of the right parity, and their squares
            from the identity (0 for ``eigenvalues``).
        converged: the counts can be trusted up to the guard; otherwise they are the nearest integers.
        method: "eigenvalues" or "sign".
    """

    negative: int
    zero: int
    positive: int
    guard: float
    residual: float
    converged: bool
    method: str


@full_precision()
def matrix_sign(matrix: Tensor, max_iterations: int = MAX_ITERATIONS) -> MatrixSign:
    """The matrix sign function ``sign(A) = A (A^2)^(-1/2)``, for A without eigenvalues on the imaginary axis.

    Newton's iteration ``X <- (mu X + (mu X)^-1) / 2`` with the norm scaling ``mu^2 = ||X^-1||_F / ||X||_F`` until X
    changes by less than one in the Frobenius norm, then Newton-Schulz steps ``X <- X (3 I - X^2) / 2``, which need
    products only, until ``X^2 = I`` to rounding. For an A that is singular to rounding, or that has eigenvalues on the
    axis, the last iterate is returned as not converged.

    Args:
        matrix: A (n, n), finite, in float32 or float64, on any device.
        max_iterations: of Newton's iteration (default 60).

    Returns:
        The sign with its residual.

    Raises:
        InputError: a tensor that is not a square matrix of finite float32 or float64 values.

    Cost:
        A Newton step is an inverse, 2 n^3 flops; 8 to 15 are usual, more with eigenvalues near the axis (about
        ``log2(||A|| / distance)``).

    Source:
        Higham (2008), Functions of Matrices, sections 5.3 and 5.5.

    Example:
        >>> matrix_sign(torch.tensor([[2.0, 5.0], [0.0, -3.0]]).double()).sign.round(decimals=6)
        tensor([[ 1.,  2.],
                [ 0., -1.]], dtype=torch.float64)
    """
    n = _size(matrix)
    # sign(c A) = sign(A) for c > 0
    X = matrix * power_of_two(float(matrix.abs().max()))
    unit = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    steps, change = 0, float("inf")
    while change > 1 and steps < max_iterations:
        inverse, info = torch.linalg.inv_ex(X)
        if int(info):
            break
        scale = (norm(inverse) / norm(X)) ** 0.5
        new = 0.5 * (scale * X + inverse / scale)
        size = norm(new)
        if not 0 < size < float("inf"):
            break
        # convergence is quadratic: ||X^2 - I|| is about half the square of this after the step
        change = norm(new - X)
        X, steps = new, steps + 1
    X, residual, polished = _polished(X, unit)
    relative = residual / n**0.5
    return MatrixSign(X, relative, relative <= torch.finfo(matrix.dtype).eps ** 0.5, steps + polished)


def _polished(X: Tensor, unit: Tensor) -> tuple[Tensor, float, int]:
    """X after Newton-Schulz steps until ||X^2 - I||_F stops falling, that distance, and the number of steps."""
    best, least, steps = X, float("inf"), 0
    while True:
        square = X @ X
        distance = norm(square - unit)
        if not distance < least:
            return best, least, steps
        best, least, steps = X, distance, steps + 1
        if distance >= 1 or steps > MAX_ITERATIONS:
            return best, least, steps
        X = 1.5 * X - 0.5 * X @ square


@full_precision()
def inertia(matrix: Tensor, guard: float | None = None, method: InertiaMethod = "auto") -> Inertia:
    """How many eigenvalues of A have negative, zero and positive real part.

    Methods:

    ``auto``
        ``eigenvalues`` on the CPU; elsewhere whichever is faster on that device, timed once on a random matrix of
        dimension 1024.
    ``eigenvalues``
        LAPACK, and counting.
    ``sign``
        No eigenvalue is computed: ``n - trace(sign(A + g I))`` is twice the number of ``Re < -g``, and
        ``n + trace(sign(A - g I))`` twice that of ``Re > g``; inverses and products only. The sign function of a matrix
        with eigenvalues at a distance d from the axis loses digits as d falls; where it does not converge, the result
        says so.

    Args:
        matrix: A (n, n), finite, in float32 or float64, on any device.
        guard: eigenvalues with ``|Re| <= guard`` count as zero. Without one (default), an eigenvalue counts as zero
            where rounding decides its side: for ``eigenvalues`` by the condition of each; for ``sign`` those nearer to
            the axis than ``10 sqrt(n) eps ||A||_F``, ten times the backward error of the QR algorithm, and those that
            change sides when A is perturbed at random by as much as its own rounding.
        method: "auto" (default), "eigenvalues" or "sign", see above.

    Returns:
        The three counts, which add up to n.

    Raises:
        InputError: a tensor that is not a square matrix of finite float32 or float64 values, or an unknown method.

    Cost:
        ``eigenvalues``: one eigenvalue decomposition. ``sign``: two sign functions, four where no guard is given.

    Source:
        Higham (2008), section 2.5 (counting by the trace); Roberts (1980).

    Example:
        >>> inertia(torch.diag(torch.tensor([-1.0, 0.0, 2.0, 3.0]).double()), method="sign").negative
        1
    """
    n = _size(matrix)
    if method not in get_args(InertiaMethod):
        raise InputError(f"got method={method!r}; expected one of {', '.join(get_args(InertiaMethod))}")
    strip = 10 * backward_error(matrix) * norm(matrix) if guard is None else guard
    if method == "auto":
        method = "eigenvalues" if matrix.device.type == "cpu" else faster_method(str(matrix.device), matrix.dtype)
    if method == "eigenvalues" and guard is None:
        counts = sides(matrix)
        positive = n - counts.negative - counts.undecided
        return Inertia(counts.negative, counts.undecided, positive, strip, 0.0, True, method)
    if method == "eigenvalues":
        real = torch.linalg.eigvals(matrix).real
        negative, positive = int((real < -strip).sum()), int((real > strip).sum())
        return Inertia(negative, n - negative - positive, positive, strip, 0.0, True, method)
    factor = power_of_two(float(matrix.abs().max()))
    scaled = matrix * factor
    plain = _by_signs(scaled, strip * factor)
    if guard is not None:
        return _agreed(n, [plain], strip)
    noise = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(scaled)
    size = ROUNDING * torch.finfo(matrix.dtype).eps * norm(scaled)
    return _agreed(n, [plain, _by_signs(scaled + noise * (size / (2 * n**0.5)), strip * factor)], strip)


class _Signs(NamedTuple):
    """Numbers of eigenvalues beyond the strip by two sign functions, their distance from integers, and convergence."""

    negative: int
    positive: int
    residual: float
    converged: bool


def _by_signs(matrix: Tensor, strip: float) -> _Signs:
    n = len(matrix)
    unit = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    below, above = matrix_sign(matrix + strip * unit), matrix_sign(matrix - strip * unit)
    negative, first = _halved(n - float(below.sign.diagonal().double().sum()))
    positive, second = _halved(n + float(above.sign.diagonal().double().sum()))
    residual = max(first, second, below.residual, above.residual)
    good = below.converged and above.converged and residual < 0.1 and negative + positive <= n
    return _Signs(negative, positive, residual, good)


def _agreed(n: int, runs: list[_Signs], strip: float) -> Inertia:
    """What all runs agree on."""
    negative, positive = min(run.negative for run in runs), min(run.positive for run in runs)
    residual, good = max(run.residual for run in runs), all(run.converged for run in runs)
    return Inertia(negative, n - negative - positive, positive, strip, residual, good, "sign")


@cache
def faster_method(device: str, dtype: torch.dtype, size: int = 1024) -> Literal["eigenvalues", "sign"]:
    """Which method for the inertia is faster on a device, by timing both once."""
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device, dtype)
    seconds: dict[str, float] = {}
    for name, run in (("eigenvalues", torch.linalg.eigvals), ("sign", matrix_sign)):
        run(matrix[:64, :64])  # libraries load on the first call
        _wait(device)
        start = time.perf_counter()
        run(matrix)
        _wait(device)
        seconds[name] = time.perf_counter() - start
    # an inertia takes two sign functions
    return "sign" if 2 * seconds["sign"] < seconds["eigenvalues"] else "eigenvalues"


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _halved(twice: float) -> tuple[int, float]:
    """The integer nearest to half of a value, and the distance to it."""
    return round(twice / 2), abs(twice / 2 - round(twice / 2))


def _size(matrix: Tensor) -> int:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise InputError(f"got a tensor of shape {tuple(matrix.shape)}; expected a square matrix (n, n)")
    if matrix.dtype not in (torch.float32, torch.float64) or not bool(torch.isfinite(matrix).all()):
        raise InputError(f"got {matrix.dtype}, or values that are not finite; expected finite float32 or float64")
    return int(matrix.shape[0])
