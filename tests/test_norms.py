"""Norms that certify something: long vectors, extreme scales, every dtype."""

from __future__ import annotations

import math

import pytest
import torch

from resdyn.linalg._norms import column_norms, norm, power_of_two


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_long_vector_has_the_norm_of_its_entries(dtype):
    length = 2**23 + 1
    assert norm(torch.ones(length, dtype=dtype)) == pytest.approx(length**0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float32, s) for s in (1e-40, 1e-30, 1.0, 1e30, 1e38)]
    + [(torch.float64, s) for s in (1e-300, 1e-170, 1.0, 1e170, 1e300)],
    ids=str,
)
def test_no_scale_leaves_the_dtype(dtype, scale):
    columns = torch.tensor([[3.0, 0.0, 1.0], [4.0, 0.0, 1.0]], dtype=dtype) * (scale / 4)
    exact = [5 * scale / 4, 0.0, math.sqrt(2) * scale / 4]
    assert column_norms(columns).tolist() == pytest.approx(exact, rel=1e-4 if scale == 1e-40 else 1e-6)
    assert norm(columns) == pytest.approx(math.hypot(*exact), rel=1e-4 if scale == 1e-40 else 1e-6)


def test_complex_columns_wide_blocks_and_nothing_at_all():
    X = torch.complex(torch.tensor([[3.0, 0.0]]), torch.tensor([[4.0, 1.0]]))
    assert column_norms(X).tolist() == [5.0, 1.0]
    wide = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(column_norms(wide.T), wide.double().square().sum(dim=1).sqrt())
    assert column_norms(torch.zeros(0, 2)).tolist() == [0.0, 0.0]
    assert math.isnan(norm(torch.tensor([1.0, math.nan])))
    assert norm(torch.tensor([1.0, math.inf])) == math.inf


def test_a_power_of_two_brings_any_size_near_one():
    for size in (1e-300, 3.0, 1e38, 1e300):
        assert 0.5 <= size * power_of_two(size) < 1
    assert power_of_two(0.0) == power_of_two(math.inf) == power_of_two(math.nan) == 1.0
