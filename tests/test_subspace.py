"""Subspaces: orthonormal bases, angles that are known, alignment."""

from __future__ import annotations

import pytest
import torch

from cases import with_spectrum
from resdyn.errors import ComputationError, InputError
from resdyn.linalg import align, orthonormalise, principal_angles

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6])
def test_orthonormalise_gives_an_orthonormal_basis_that_holds_the_columns(condition, dtype):
    values = torch.logspace(0, -float(torch.tensor(condition).log10()), 8).double()
    X = with_spectrum(100, 8, values, dtype)
    Q = orthonormalise(X)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(Q.T @ Q, torch.eye(8, dtype=dtype), rtol=0, atol=20 * eps)
    torch.testing.assert_close(Q @ (Q.T @ X), X, rtol=0, atol=50 * eps)


@pytest.mark.parametrize("X", [torch.zeros(9, 4), torch.ones(9, 4), torch.eye(4), torch.eye(9)[:, [0, 0, 1]]])
def test_what_deficient_columns_lack_is_filled(X):
    Q = orthonormalise(X)
    torch.testing.assert_close(Q.T @ Q, torch.eye(X.shape[1]), rtol=0, atol=1e-5)
    torch.testing.assert_close(Q @ (Q.T @ X), X, rtol=0, atol=1e-5)
    assert torch.equal(Q, orthonormalise(X))


def test_orthonormalise_refuses_wide_and_infinite_input():
    with pytest.raises(InputError, match="k <= n"):
        orthonormalise(torch.ones(2, 3))
    with pytest.raises(ComputationError, match="NaN"):
        orthonormalise(torch.full((3, 2), float("inf")))


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-4, 0.5, 1.5])
def test_a_principal_angle_is_accurate_however_small(angle):
    turned = torch.zeros(5, 2, dtype=torch.float64)
    turned[0, 0], turned[2, 0] = torch.cos(torch.tensor(angle).double()), torch.sin(torch.tensor(angle).double())
    turned[1, 1] = 1
    plane = torch.eye(5, dtype=torch.float64)[:, :2]
    angles = principal_angles(plane, turned)
    torch.testing.assert_close(angles, torch.tensor([0, angle]).double(), rtol=1e-6, atol=1e-15)
    torch.testing.assert_close(principal_angles(plane[:, :1], turned), angles[1:], rtol=1e-6, atol=1e-15)


def test_alignment_undoes_a_rotation_of_the_basis():
    generator = torch.Generator().manual_seed(0)
    X = orthonormalise(torch.randn(20, 4, generator=generator, dtype=torch.float64))
    R = orthonormalise(torch.randn(4, 4, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(align(X @ R, X), X)
    with pytest.raises(InputError, match="equal shapes"):
        align(X, X[:, :2])


def test_parameters_are_orthonormalised_like_any_other_columns():
    X = torch.nn.Parameter(torch.randn(20, 4, dtype=torch.float64))
    Q = orthonormalise(X)
    assert not Q.requires_grad
    torch.testing.assert_close(Q.T @ Q, torch.eye(4, dtype=torch.float64))
