"""The truncated SVD: one contract over spectra, dtypes and methods; then what is particular."""

from __future__ import annotations

import pytest
import torch

from cases import SPECTRA, with_spectrum
from contracts import check_solver, true_residuals
from resdyn.errors import ComputationError, InputError
from resdyn.linalg import DenseOperator, FunctionOperator, svd
from resdyn.linalg._orthonormal import orthonormal_block

DTYPES = [torch.float32, torch.float64]
METHODS = ["lanczos", "randomized", "dense"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("method", METHODS)
def test_solver_contract(method, name, dtype):
    matrix = SPECTRA[name](dtype)
    smallest = min(matrix.shape)
    for k in sorted({1, min(10, smallest), smallest}):
        check_solver(DenseOperator(matrix), matrix, k, method)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SPECTRA)
def test_lanczos_converges_on_every_spectrum(name, dtype):
    matrix = SPECTRA[name](dtype)
    result = svd(DenseOperator(matrix), min(10, *matrix.shape), "lanczos")
    assert bool(result.converged.all())
    exact = torch.linalg.svdvals(matrix.double())
    error = (result.S.double() - exact[: len(result.S)]).abs().max()
    assert error <= 100 * torch.finfo(dtype).eps * exact[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_repeats_the_result_exactly(method):
    matrix = SPECTRA["flat"](torch.float32)
    first, second = (svd(DenseOperator(matrix), 5, method, seed=3) for _ in range(2))
    assert torch.equal(first.U, second.U)
    assert torch.equal(first.S, second.S)
    assert torch.equal(first.V, second.V)


def test_small_operators_are_decomposed_densely_unless_a_limit_of_lanczos_is_set():
    small, large = DenseOperator(torch.randn(300, 80)), DenseOperator(torch.randn(300, 81))
    assert svd(small, 3).method == svd(large, 11).method == "dense"
    assert svd(large, 3).method == svd(small, 3, max_matvecs=200).method == "lanczos"


def test_beyond_the_rank_values_are_zero_and_residuals_small():
    matrix = SPECTRA["rank-deficient"](torch.float64)
    result = svd(DenseOperator(matrix), 20, "lanczos")
    assert float(result.S[5:].max()) < 1e-13
    assert float(result.residuals.max()) < 1e-13


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_restarts_reach_the_same_values_as_a_large_basis(dtype):
    matrix = with_spectrum(300, 250, 1 / (1 + 0.02 * torch.arange(250).double()), dtype)
    result = svd(DenseOperator(matrix), 6, block_size=3, basis_size=18)
    assert bool(result.converged.all())
    assert result.num_matvecs > 2 * 18
    torch.testing.assert_close(result.S, torch.linalg.svdvals(matrix)[:6], rtol=1e-5, atol=0)


def test_what_has_not_converged_is_flagged_and_still_the_best_estimate():
    matrix = SPECTRA["flat"](torch.float64)
    result = svd(DenseOperator(matrix), 8, max_matvecs=48)
    assert result.num_matvecs <= 48
    assert not bool(result.converged.all())
    torch.testing.assert_close(result.residuals, true_residuals(matrix, result), rtol=1e-6, atol=1e-14)
    torch.testing.assert_close(result.S, torch.linalg.svdvals(matrix)[:8], rtol=0.1, atol=0)


def test_algorithm_971_costs_1640_products_for_its_range_40_to_project_and_30_for_residuals():
    assert svd(DenseOperator(torch.eye(60)), 30, "randomized", tol=0).num_matvecs == 1640 + 40 + 30


def test_an_error_of_a_value_is_quadratic_in_its_residual():
    matrix = with_spectrum(200, 200, torch.linspace(2, 1, 200).double(), torch.float64)
    exact = torch.linalg.svdvals(matrix)
    result = svd(DenseOperator(matrix), 5, tol=1e-3)
    assert bool(result.converged.all())
    assert float((result.S - exact[:5]).abs().max()) < 20 * 1e-6 / 0.005


def test_sketching_without_power_iterations_is_wrong_on_a_flat_spectrum_and_says_so():
    matrix = with_spectrum(400, 400, torch.linspace(1, 0.5, 400).double(), torch.float32)
    sketch = svd(DenseOperator(matrix), 10, "randomized", power_iterations=0)
    assert float(sketch.S[0]) < 0.9
    assert not bool(sketch.converged.any())


def test_an_orthonormal_block_of_a_deficient_one_gives_it_back_to_rounding():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(16, 11, generator=generator, dtype=torch.float64) @ torch.randn(
        11, 200, generator=generator, dtype=torch.float64
    )
    block = orthonormal_block(X, X[:0], generator)
    assert float((X - block.L @ block.Q).norm()) < 1e-14 * float(X.norm())
    torch.testing.assert_close(block.Q @ block.Q.T, torch.eye(16).double())


def test_an_adjoint_that_is_none_never_counts_as_converged():
    A = SPECTRA["decaying"](torch.float64)[:70]
    wrong = FunctionOperator((70, 70), A.dtype, "cpu", lambda X: A @ X, lambda Y: 1.01 * A.T @ Y)
    assert not bool(svd(wrong, 3, "lanczos").converged.any())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_from_an_operator_are_an_error_that_names_it(method, value):
    operator = DenseOperator(torch.full((6, 5), value))
    with pytest.raises(ComputationError, match=r"DenseOperator\(6 x 5.*NaN or infinite"):
        svd(operator, 2, method)


def test_impossible_requests_are_refused():
    operator = DenseOperator(torch.ones(6, 5))
    for k in (True, 2.0, "2", None):
        with pytest.raises(InputError, match="expected a whole number"):
            svd(operator, k)
    with pytest.raises(InputError, match=r"got k=6 .* expected 1 <= k <= 5"):
        svd(operator, 6)
    with pytest.raises(InputError, match="expected one of auto, lanczos, randomized, dense"):
        svd(operator, 2, "qr")
    with pytest.raises(InputError, match="expected float32 or float64"):
        svd(DenseOperator(torch.ones(6, 5, dtype=torch.float16)), 2)
    with pytest.raises(InputError, match="expected at least"):
        svd(operator, 4, max_matvecs=3)
    with pytest.raises(InputError, match="k \\+ 2 blocks"):
        svd(DenseOperator(torch.ones(90, 90)), 10, basis_size=11)


@pytest.mark.parametrize("method", ["lanczos", "randomized", "dense"])
def test_an_operator_made_of_parameters_is_decomposed_like_any_other(method):
    weight = torch.nn.Parameter(torch.randn(30, 20, dtype=torch.float64))
    result = svd(DenseOperator(weight), 3, method, power_iterations=60)
    torch.testing.assert_close(result.S, torch.linalg.svdvals(weight.detach())[:3])
    assert not result.U.requires_grad
