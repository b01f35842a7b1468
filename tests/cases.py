"""Matrices of known spectrum, and operators of known matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from resdyn.linalg import DenseOperator, FunctionOperator, LinearOperator


def with_spectrum(m: int, n: int, values: Tensor, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """A matrix (m, n) with these singular values and otherwise zeros."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(size, len(values), generator=generator, dtype=torch.float64) for size in (m, n))
    return ((torch.linalg.qr(left)[0] * values) @ torch.linalg.qr(right)[0].T).to(dtype)


def _behind_a_mask(m: int, n: int, values: Tensor, dtype: torch.dtype) -> Tensor:
    return with_spectrum(m, n, values, dtype) * (torch.arange(m) % 5 == 0)[:, None]


ones = torch.ones
SPECTRA: dict[str, Callable[[torch.dtype], Tensor]] = {
    "decaying": lambda dtype: with_spectrum(90, 70, 0.7 ** torch.arange(70).double(), dtype),
    "flat": lambda dtype: with_spectrum(80, 80, 1 / (1 + 0.01 * torch.arange(80).double()), dtype),
    "all equal": lambda dtype: with_spectrum(60, 60, ones(60).double(), dtype),
    "clustered": lambda dtype: with_spectrum(
        60, 80, torch.cat([ones(4), 0.5 * ones(9), 0.1 * ones(40)]).double(), dtype
    ),
    "rank-deficient": lambda dtype: with_spectrum(90, 60, torch.linspace(2, 1, 5).double(), dtype),
    "masked": lambda dtype: _behind_a_mask(70, 70, torch.linspace(2, 1, 50).double(), dtype),
    "zero": lambda dtype: torch.zeros(40, 30, dtype=dtype),
    "tall": lambda dtype: with_spectrum(200, 12, torch.linspace(3, 1, 12).double(), dtype),
    "wide": lambda dtype: with_spectrum(12, 200, torch.linspace(3, 1, 12).double(), dtype),
    "row": lambda dtype: torch.arange(1, 8, dtype=dtype)[None],
    "one by one": lambda dtype: torch.full((1, 1), -3.0, dtype=dtype),
    "huge": lambda dtype: with_spectrum(50, 40, 1e25 * 0.8 ** torch.arange(40).double(), dtype),
    "tiny": lambda dtype: with_spectrum(50, 40, 1e-25 * 0.8 ** torch.arange(40).double(), dtype),
}


def _random(m: int, n: int, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _function(A: Tensor) -> LinearOperator:
    return FunctionOperator((A.shape[0], A.shape[1]), A.dtype, "cpu", lambda X: A @ X, lambda Y: A.T @ Y)


def operators(dtype: torch.dtype) -> dict[str, tuple[LinearOperator, Tensor]]:
    """Every kind of operator, with the matrix that it must equal."""
    A, B, C = _random(9, 6, dtype, 0), _random(6, 8, dtype, 1), _random(9, 6, dtype, 2)
    a, b, c = DenseOperator(A), _function(B), _function(C)
    rows, mask = torch.tensor([7, 0, 3]), torch.arange(6) % 2 == 0
    return {
        "dense": (a, A),
        "function": (b, B),
        "adjoint": (a.adjoint, A.T.contiguous()),
        "adjoint of the adjoint": (b.T.T, B),
        "composed": (a @ b, A @ B),
        "sum": (a + c, A + C),
        "difference": (a - c, A - C),
        "scaled": (2.5 * a, 2.5 * A),
        "negated": (-b, -B),
        "restricted by index": (a.restricted(rows=rows), A[rows]),
        "restricted by mask and slice": (a.restricted(slice(2, 7), mask), A[2:7][:, mask]),
        "adjoint of a composition of restrictions": (
            (a.restricted(rows) @ b.restricted(cols=slice(0, 2))).T,
            (A[rows] @ B[:, :2]).T.contiguous(),
        ),
        "one by one": (DenseOperator(A[:1, :1]), A[:1, :1]),
    }
