"""Singular values of a product of many operators, each to its own size: by QR along the chain."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import lapack
from torch import Tensor

from resdyn import _checks as checks
from resdyn._display import Displayed, Table, table
from resdyn._numerics import full_precision
from resdyn.errors import InputError
from resdyn.linalg.operator import ComposedOperator, LinearOperator, check_operator
from resdyn.linalg.singular import svd

Matrix = NDArray[np.float64]
ALL_LIMIT = 2048  # columns up to which all singular values are computed
DENSE_LIMIT = 512  # columns up to which all are computed although fewer are asked for
SWEEPS = 2  # there and back, after which the frames are sorted
FLOORS = tuple(10.0**-p for p in range(2, 31, 4))  # relative sizes below which rows are lumped together
EPS = float(np.finfo(np.float64).eps)
ROUNDING = 8  # eps per column and step: products and QR, with room to spare
MEASURED = 4  # times the difference between products and transposed products: what either may be off


@dataclass(frozen=True, repr=False)
class ChainSpectrum(Displayed):
    """Logarithms of the largest singular values of a product of operators, with intervals that hold them.

    Attributes:
        logs: (k,) float64, natural logarithms, descending: middles of the intervals. NaN where the interval has no
            lower end: the value is too small, relative to the rounding of the products, to be told from zero.
        lower: (k,) lower ends; -inf where nothing is known.
        upper: (k,) upper ends.
        failure_probability: Of the intervals, over random vectors; 0 where all values were computed.
        num_matvecs: Products with the operators plus products with their transposes.
    """

    logs: Tensor
    lower: Tensor
    upper: Tensor
    failure_probability: float
    num_matvecs: int

    def _table(self) -> Table:
        rows = zip(*(column.tolist() for column in (self.logs, self.lower, self.upper)), strict=True)
        failure = self.failure_probability
        certainty = f"intervals fail with probability {failure:.0e}" if failure else "intervals are not random"
        return table(
            f"{len(self.logs)} logarithms of singular values of a product",
            ("k", "log s", "from", "to"),
            [(k, *(f"{value:.6g}" for value in row)) for k, row in enumerate(rows, 1)],
            f"{self.num_matvecs} products; {certainty}",
        )


@full_precision()
def chain_singular_values(factors: Sequence[LinearOperator], k: int | None = None, *, seed: int = 0) -> ChainSpectrum:
    """``log s_1 >= ... >= log s_k`` of the product ``A_L ... A_2 A_1``, from products with each A_l.

    Where all singular values are wanted, or there are at most 512 columns, orthonormal frames are carried along the
    chain, ``A_l Q_{l-1} = Q_l R_l``, there and back until they are sorted, so that small values do not drown in large
    ones: the product of the R_l, its rows scaled, is decomposed by one-sided Jacobi rotations. The intervals follow
    from multiplicative perturbation bounds, in which the error of a product is taken as four times the difference
    between a factor by its products and by its transposed products, plus rounding in double precision. About fourteen
    decades below s_1 nothing can be told from zero, in single precision seven at most.

    Fewer values of a larger chain are those of `svd` on the composed operator: what is small beside s_1 is then known
    to an absolute error alone.

    Args:
        factors: A_1 first, each of the columns of the last one's rows; float32 or float64.
        k: How many; None: all, for square factors of at most 2048 columns.
        seed: Of the first frame, and of `svd`.

    Returns:
        The logarithms with their intervals. The intervals are about the product of the operators as their products
        give it: what is lost where a model computes in single precision, the difference of the two kinds of products
        shows, on which they rest.

    Raises:
        InputError: For no factors, factors that do not fit, other values of k, and all values of a chain that is too
            large or not square.

    Cost: 2 n products per factor and (4 SWEEPS + 3) QR decompositions of n columns, or those of `svd`.

    Source: Benettin et al. (1980), QR along a trajectory; Demmel and Veselic (1992), Jacobi's relative accuracy;
        Eisenstat and Ipsen (1995), theorem 3.1, multiplicative perturbations.

    Example:
        >>> from resdyn.linalg import DenseOperator
        >>> A = DenseOperator(torch.diag(torch.tensor([10.0, 0.1], dtype=torch.float64)))
        >>> chain_singular_values([A] * 5).logs.div(math.log(10)).round(decimals=6).tolist()
        [5.0, -5.0]
    """
    factors, n, square = _checked(factors)
    least = min(min(factor.shape) for factor in factors)
    count = least if k is None else checks.whole("k", k, 1, least)
    if square and n <= (ALL_LIMIT if k is None else DENSE_LIMIT):
        found = _all(factors, seed)
        return ChainSpectrum(found.logs[:count], found.lower[:count], found.upper[:count], 0.0, found.num_matvecs)
    if k is None:
        raise InputError(
            f"got factors of shapes {[tuple(f.shape) for f in factors][:4]} and k=None, expected square ones of at "
            f"most {ALL_LIMIT} columns; ask for fewer, k=10"
        )
    return _largest(factors, count, seed)


def _checked(factors: Sequence[LinearOperator]) -> tuple[list[LinearOperator], int, bool]:
    factors = list(factors)
    if not factors:
        raise InputError("got no factors, expected one or more operators")
    for factor in factors:
        check_operator(factor)
    for first, second in itertools.pairwise(factors):
        if first.shape[0] != second.shape[1]:
            raise InputError(f"got factors of shapes {first.shape} and {second.shape} in a row, which do not fit")
    n = factors[0].shape[1]
    return factors, n, all(factor.shape == (n, n) for factor in factors)


def _largest(factors: list[LinearOperator], k: int, seed: int) -> ChainSpectrum:
    composed = reduce(lambda product, factor: ComposedOperator(factor, product), factors)
    found = svd(composed, k, seed=seed)
    S, eps = found.S.double().cpu(), torch.finfo(found.S.dtype).eps
    slack = 64 * eps * len(factors) + found.residuals.double().cpu() ** 2
    sure = found.converged.cpu()
    lower = torch.where(sure, (S - slack * S[0]).clamp_min(0).log(), -torch.inf)
    upper = torch.where(sure, (S + (found.bounds.double().cpu() + slack) * S[0]).log(), torch.inf)
    matvecs = found.num_matvecs * len(factors)
    return ChainSpectrum(_middle(lower, upper), lower, upper, found.failure_probability, matvecs)


def _middle(lower: Tensor, upper: Tensor) -> Tensor:
    return torch.where(lower.isfinite() & upper.isfinite(), (lower + upper) / 2, torch.nan)


def _all(factors: list[LinearOperator], seed: int) -> ChainSpectrum:
    n = factors[0].shape[1]
    pairs = [_explicit(factor) for factor in factors]
    errors = [MEASURED * off + ROUNDING * n * EPS * float(np.linalg.norm(A)) for A, off in pairs]
    triangles = _triangles([A for A, _ in pairs], seed)
    lower, upper = np.full(n, -np.inf), np.full(n, np.inf)
    for floor in FLOORS:
        low, high = _interval(triangles, errors, floor)
        lower, upper = np.maximum(lower, low), np.minimum(upper, high)
    ends = torch.from_numpy(lower), torch.from_numpy(upper)
    return ChainSpectrum(_middle(*ends), *ends, 0.0, 2 * n * len(factors))


def _explicit(factor: LinearOperator) -> tuple[Matrix, float]:
    """A factor in double precision, and the norm of its difference from that by transposed products."""
    eye = torch.eye(factor.shape[0], dtype=factor.dtype, device=factor.device)
    one, other = factor.matmat(eye).double().cpu().numpy(), factor.rmatmat(eye).T.double().cpu().numpy()
    return (one + other) / 2, float(np.linalg.norm(one - other))


def _triangles(matrices: list[Matrix], seed: int) -> list[Matrix]:
    """R_1, ..., R_L of the frames that sweeps there and back have sorted."""
    n = len(matrices[0])
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    for _ in range(SWEEPS):
        for A in matrices:
            Q = np.linalg.qr(A @ Q)[0]
        for A in reversed(matrices):
            Q = np.linalg.qr(A.T @ Q)[0]
    triangles = []
    for A in matrices:
        Q, R = np.linalg.qr(A @ Q)
        triangles.append(R)
    return triangles


def _interval(triangles: list[Matrix], errors: list[float], floor: float) -> tuple[Matrix, Matrix]:
    """Ends of intervals for the logarithms, from rows scaled by their own size but not below `floor` of the largest.

    With S the scales and X = S^-1 R_l ... R_1, the true product is S (X + E), |E| <= W entry by entry. The rows above
    the floor, S_1 (X_1 + E_1) = S_1 X_1 (I + X_1^+ E_1), have the singular values of S_1 X_1 up to a factor within
    1 -+ |E_1| / s_min(X_1); the others add at most their squared norm to each squared value.
    """
    n = len(triangles[0])
    size, scale = np.zeros(n), np.zeros(n)  # natural logarithms
    X, W = np.eye(n), np.zeros((n, n))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore", under="ignore"):
        for R, error in zip(triangles, errors, strict=True):
            size = size + np.log(np.abs(np.diag(R)))
            new = np.maximum(size, size.max() + math.log(floor))
            ratio = np.exp(scale[None, :] - new[:, None])
            Y = R * ratio
            W = np.abs(Y) @ W + (error * ratio) @ (np.abs(X) + W) + 2 * n * EPS * np.abs(Y) @ np.abs(X)
            X, scale = Y @ X, new
        nothing = np.full(n, -np.inf), np.full(n, np.inf)
        if not (np.isfinite(X).all() and np.isfinite(W).all() and np.isfinite(scale).all()):
            return nothing
        top = size >= scale
        least = np.linalg.svd(X[top], compute_uv=False) if top.any() else np.zeros(1)
        shift = float(np.linalg.norm(W[top])) / least[-1] if least[-1] > 0 else np.inf
        if not shift < 0.5:
            return nothing
        jacobi = ROUNDING * n * EPS * float(least[0] / least[-1])
        values = _graded(X[top], scale[top])
        if np.isnan(values).any():
            return nothing
        rest = -np.inf
        if not top.all():
            rest = float(scale[~top].max() + np.log(np.linalg.norm(X[~top]) + np.linalg.norm(W[~top])))
        lower, upper = nothing
        upper = np.full(n, rest)
        lower[: len(values)] = values + math.log1p(-shift) - jacobi
        upper[: len(values)] = np.logaddexp(2 * (values + math.log1p(shift) + jacobi), 2 * rest) / 2
    return lower, upper


def _graded(X: Matrix, scale: Matrix) -> Matrix:
    """Logarithms of the singular values of ``diag(exp(scale)) X``, each to a relative error, descending."""
    largest = float(scale.max())
    columns = X.T * np.exp(scale - largest)
    sva, _, _, work, _, info = lapack.dgejsv(columns, joba=0, jobu=3, jobv=3, jobr=0)
    if info != 0:
        return np.full(len(X), np.nan)
    return np.asarray(np.log(np.sort(sva)[::-1]) + math.log(work[0] / work[1]) + largest, dtype=np.float64)
