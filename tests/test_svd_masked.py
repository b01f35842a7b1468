"""Jacobians behind a ReLU: dead rows are exactly zero, so the left vectors run out before the columns do."""

from __future__ import annotations

import pytest
import torch

import resdyn
from resdyn.linalg import DenseOperator


def masked(seed: int, live: float, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(64, generator=generator) < live
    inner = (torch.rand(64, generator=generator) < 0.5).to(dtype)
    first, second = (torch.randn(64, 64, generator=generator, dtype=dtype) for _ in range(2))
    return rows[:, None] * (second * inner @ first) / 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("live", [0.05, 0.35, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_dead_rows_do_not_stop_the_solver(seed, live, dtype):
    matrix = masked(seed, live, dtype)
    found = resdyn.svd(DenseOperator(matrix), 10, "lanczos")
    expected = torch.linalg.svdvals(matrix.double())[:10].to(dtype)
    assert found.converged.all()
    torch.testing.assert_close(found.S, expected, rtol=1e-3, atol=1e-4 * float(expected[0]))
    torch.testing.assert_close(found.U.T @ found.U, torch.eye(10, dtype=dtype), rtol=0, atol=1e-4)
