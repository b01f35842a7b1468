"""The sign function, counts, distributions, nonnormality, pseudo-inverses and slices against dense references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resdyn.errors import InputError
from resdyn.linalg import (
    DenseOperator,
    FunctionOperator,
    PseudoInverse,
    commutator,
    departure_from_normality,
    inertia,
    matrix_sign,
    numerical_abscissa,
    slice_eigenvalues,
    spectral_distribution,
)
from resdyn.linalg.sign import faster_method
from test_eig import grcar, jordan, pairs_and_reals, random, with_eigenvalues

DTYPES = [torch.float32, torch.float64]


def with_inertia(negative: int, zero: int, positive: int, nonnormal: float = 1.0) -> torch.Tensor:
    """A nonnormal matrix with prescribed numbers of eigenvalues left of, on, and right of the imaginary axis."""
    values = torch.cat([-torch.linspace(0.5, 2, negative), torch.zeros(zero), torch.linspace(0.5, 2, positive)])
    return with_eigenvalues([value[None, None].double() for value in values], nonnormal)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", ["sign", "eigenvalues"])
@pytest.mark.parametrize("counts", [(40, 0, 80), (0, 0, 60), (60, 0, 0), (1, 0, 99)])
def test_known_inertia_is_found(counts, method, dtype):
    found = inertia(with_inertia(*counts).to(dtype), method=method)
    assert (found.negative, found.zero, found.positive) == counts
    assert found.converged


def test_eigenvalues_within_the_guard_count_as_zero():
    matrix = with_inertia(10, 5, 20, nonnormal=0.2)
    for method in ("sign", "eigenvalues"):
        found = inertia(matrix, guard=0.1, method=method)
        assert (found.negative, found.zero, found.positive) == (10, 5, 20)


def test_the_sign_function_squares_to_one_commutes_and_is_the_matrix_of_signs():
    matrix = with_eigenvalues(pairs_and_reals(80))
    sign = matrix_sign(matrix)
    assert sign.converged
    torch.testing.assert_close(sign.sign @ sign.sign, torch.eye(80, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(sign.sign @ matrix, matrix @ sign.sign, atol=1e-9, rtol=0)
    values, vectors = torch.linalg.eig(matrix)
    exact = (vectors * values.real.sign() @ torch.linalg.inv(vectors)).real
    torch.testing.assert_close(sign.sign, exact, atol=1e-8, rtol=0)


@pytest.mark.parametrize("matrix", [torch.zeros(4, 4), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])], ids=["zero", "axis"])
def test_the_sign_of_a_matrix_with_eigenvalues_on_the_axis_does_not_claim_to_converge(matrix):
    assert not matrix_sign(matrix.double()).converged


def test_jordan_blocks_keep_their_side():
    matrix = torch.block_diag(jordan(6, -1.0), jordan(9, 2.0))
    for method in ("sign", "eigenvalues"):
        assert inertia(matrix, method=method).negative == 6


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 10))
def test_both_ways_to_the_inertia_agree(negative, positive, seed):
    if negative + positive == 0:
        return
    values = [torch.tensor([[s * v]]).double() for s, k in ((-1, negative), (1, positive)) for v in range(1, k + 1)]
    matrix = with_eigenvalues(values, nonnormal=0.5, seed=seed)
    assert inertia(matrix, method="sign").negative == inertia(matrix, method="eigenvalues").negative == negative


def test_the_faster_method_is_measured_once_and_the_same_for_good():
    assert faster_method("cpu", torch.float32, 96) == faster_method("cpu", torch.float32, 96)


def test_a_matrix_that_is_none_has_no_inertia():
    with pytest.raises(InputError, match="expected a square matrix"):
        inertia(torch.ones(3, 4))
    with pytest.raises(InputError, match="not finite"):
        matrix_sign(torch.full((3, 3), float("nan")))


@pytest.mark.parametrize("nonnormal", [0.0, 0.3])
def test_shares_below_thresholds_lie_within_their_errors(nonnormal):
    values = torch.cat([torch.full((80,), -1.0), torch.full((120,), 0.5), torch.full((200,), 2.0)]).double()
    operator = DenseOperator(with_eigenvalues([v[None, None] for v in values], nonnormal))
    found = spectral_distribution(operator, (-2.0, 0.0, 1.0, 3.0), num_probes=30)
    errors = 4 * found.standard_error + found.truncation + 1e-9
    assert (np.abs(found.below - [0.0, 0.2, 0.5, 1.0]) <= errors).all()
    assert abs(found.mean - float(values.mean())) <= 4 * found.mean_error + 1e-12
    assert abs(found.mean_square - float((values**2).mean())) <= 4 * found.mean_square_error + 1e-12
    assert (found.standard_error < 0.06).all()


def test_zeros_of_dead_coordinates_are_put_where_they_are():
    matrix = torch.zeros(300, 300, dtype=torch.float64)
    matrix[::3, ::3] = torch.diag(torch.linspace(1, 2, 100).double())
    found = spectral_distribution(DenseOperator(matrix), (0.0, 0.5, 3.0))
    np.testing.assert_allclose(found.below, [0, 2 / 3, 1], atol=1e-9)
    assert found.mean == pytest.approx(0.5, abs=1e-9)
    nothing = spectral_distribution(DenseOperator(torch.zeros(5, 5)), (0.0, 0.1))
    np.testing.assert_array_equal(nothing.below, [0, 1])


def test_the_numerical_abscissa_is_the_top_of_the_symmetric_part_and_above_every_eigenvalue():
    matrix = grcar(120)
    found = numerical_abscissa(DenseOperator(matrix))
    exact = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    ends = found.values.real
    torch.testing.assert_close(ends, exact[[-1, 0]], atol=1e-8, rtol=0)
    assert float(ends[0]) >= float(torch.linalg.eigvals(matrix).real.max())


def test_departure_from_normality_is_that_of_the_schur_form_and_zero_when_normal():
    T = random(50, 50).triu()
    Q = torch.linalg.qr(random(50, 50, seed=1))[0]
    found = departure_from_normality(Q @ T @ Q.T, torch.diagonal(T))
    assert found.value == pytest.approx(float(T.triu(1).norm() / T.norm()), rel=1e-9)
    normal = with_eigenvalues(pairs_and_reals(60), nonnormal=0.0)
    assert departure_from_normality(normal, torch.linalg.eigvals(normal)).value < 1e-6


def test_the_commutator_is_estimated_within_its_error_and_bounds_the_departure():
    matrix = with_eigenvalues(pairs_and_reals(200), nonnormal=2.0)
    exact = float((matrix @ matrix.T - matrix.T @ matrix).norm() / matrix.norm() ** 2)
    found = commutator(DenseOperator(matrix), num_probes=64)
    assert abs(found.value - exact) <= 4 * found.standard_error
    departure = departure_from_normality(matrix, torch.linalg.eigvals(matrix)).value
    assert departure**2 >= exact**2 / 6
    assert commutator(DenseOperator(torch.zeros(5, 5))).value == 0


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (20, 20)])
def test_a_pseudo_inverse_is_that_of_the_dense_matrix_also_without_full_rank(shape):
    full = random(*shape)
    deficient = random(shape[0], 5) @ random(5, shape[1], seed=3)
    for matrix in (full, deficient):
        operator, exact = PseudoInverse(DenseOperator(matrix), tol=1e-12), torch.linalg.pinv(matrix, rtol=1e-9)
        torch.testing.assert_close(operator.to_dense(), exact, atol=1e-6, rtol=0)
        torch.testing.assert_close(operator.T.to_dense(), exact.T, atol=1e-6, rtol=0)


def test_a_selection_of_coordinates_is_inverted_in_one_iteration():
    selection = DenseOperator(torch.eye(12, dtype=torch.float64)[::2])
    PseudoInverse(selection).matmat(torch.ones(6, 1, dtype=torch.float64))
    assert selection.num_matvecs <= 5


def conv_jacobian(channels_out: int, channels_in: int, size: int, stride: int = 1, seed: int = 0) -> torch.Tensor:
    """The Jacobian (C', H', W', C, H, W) of two 3x3 convolutions behind a ReLU mask, and the identity where it fits."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(channels_out, channels_in, 3, 3, generator=generator, dtype=torch.float64)
    second = torch.randn(channels_out, channels_out, 3, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(1, channels_in, size, size, generator=generator, dtype=torch.float64)

    def block(h):
        inner = torch.relu(torch.conv2d(h, first, stride=stride, padding=1))
        z = torch.conv2d(inner, second, padding=1)
        return torch.relu(z + h if stride == 1 and channels_in == channels_out else z)[0]

    return torch.func.jacrev(block)(x)[:, :, :, 0]


@pytest.mark.parametrize("case", [(3, 3, 12, 1), (4, 2, 12, 2), (3, 3, 4, 1)], ids=str)
def test_eigenvalues_of_slices_are_those_of_every_slice_decomposed(case):
    jacobian = conv_jacobian(*case)
    shape_out, shape_in = jacobian.shape[:3], jacobian.shape[3:]
    A = jacobian.reshape(int(np.prod(shape_out)), -1)
    operator = FunctionOperator(tuple(A.shape), A.dtype, "cpu", A.matmul, A.T.matmul)
    found = slice_eigenvalues(operator, tuple(shape_out), tuple(shape_in))
    exact = np.linalg.eigvals(jacobian.numpy()).ravel()
    assert found.num_values == exact.size
    ours = np.concatenate([found.values, np.zeros(found.num_values - len(found.values))])
    np.testing.assert_allclose(np.sort(ours.real), np.sort(exact.real), atol=1e-10)
    assert (found.errors >= 0).all()
    assert found.num_matvecs < len(A) + shape_out[1] * shape_out[2]


def test_slices_of_a_dense_map_are_exact_too_and_a_wrong_shape_is_refused():
    A = random(2 * 9, 3 * 9)
    found = slice_eigenvalues(DenseOperator(A), (2, 3, 3), (3, 3, 3))
    exact = np.linalg.eigvals(A.reshape(2, 3, 3, 3, 3, 3).numpy()).ravel()
    np.testing.assert_allclose(np.sort(found.values.real), np.sort(exact.real), atol=1e-10)
    with pytest.raises(InputError, match="expected \\(C', H', W'\\)"):
        slice_eigenvalues(DenseOperator(A), (2, 3, 3), (3, 3, 4))
