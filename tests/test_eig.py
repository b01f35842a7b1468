"""Eigenvalues of nonsymmetric operators: prescribed spectra, defective and nonnormal matrices, ends and counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from resdyn.errors import ComputationError, InputError
from resdyn.linalg import DenseOperator, FunctionOperator, count_negative, eigenvalues

ENDS = ("LR", "SR", "LM")
DTYPES = [torch.float32, torch.float64]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_eigenvalues(blocks: list[Tensor], nonnormal: float = 1.0, seed: int = 0) -> Tensor:
    """An orthogonal similarity of a block triangular matrix: these blocks on the diagonal, anything above."""
    T = torch.block_diag(*blocks)
    inside = torch.block_diag(*(torch.ones_like(block) for block in blocks)).bool()
    T = T + nonnormal * random(*T.shape, seed=seed).triu().masked_fill(inside, 0.0) / len(T) ** 0.5
    Q = torch.linalg.qr(random(*T.shape, seed=seed + 1))[0]
    return Q @ T @ Q.T


def pairs_and_reals(n: int, seed: int = 0) -> list[Tensor]:
    """Half of the eigenvalues in conjugate pairs a +- bi, half real."""
    a, b = random(n // 4, seed=seed), random(n // 4, seed=seed + 5)
    rotations = [torch.tensor([[x, y], [-y, x]]) for x, y in zip(a.tolist(), b.tolist())]
    return [*(block.double() for block in rotations), *(value[None, None] for value in random(n // 2, seed=seed + 9))]


def jordan(n: int, value: float) -> Tensor:
    return value * torch.eye(n, dtype=torch.float64) + torch.diag(torch.ones(n - 1, dtype=torch.float64), 1)


def grcar(n: int) -> Tensor:
    ones = torch.ones(n, n, dtype=torch.float64)
    return ones.triu().tril(3) - ones.tril(-1).triu(-1)


MATRICES = {
    "random": random(250, 250),
    "pairs and reals, nonnormal": with_eigenvalues(pairs_and_reals(240)),
    "normal": with_eigenvalues(pairs_and_reals(240), nonnormal=0.0),
    "dead rows": random(260, 260) * (torch.arange(260) % 3 > 0)[:, None],
    "dead rows and columns": random(260, 260) * (torch.arange(260) % 3 > 0)[:, None] * (torch.arange(260) % 5 > 0),
    "symmetric": random(250, 250) + random(250, 250).T,
    "skew": random(250, 250) - random(250, 250).T,
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MATRICES)
def test_the_ends_agree_with_the_dense_spectrum_up_to_condition_times_residual(name, dtype):
    matrix = MATRICES[name].to(dtype)
    result = eigenvalues(DenseOperator(matrix), ENDS, 2, method="krylov_schur", conditions=True)
    assert bool(result.converged.all())
    exact = torch.linalg.eigvals(matrix.double())
    for end, key in (("LR", -exact.real), ("SR", exact.real), ("LM", -exact.abs())):
        part = result.end(end)
        nearest = (part.values.to(exact)[:, None] - exact).abs().min(dim=1).values
        reach = 2 * part.conditions.double().nan_to_num(1.0) * float(torch.finfo(dtype).eps) ** (2 / 3) * result.norm
        assert bool((nearest <= reach).all())
        best = exact[key.argsort()][: len(part.values)]
        measure = {"LR": lambda v: v.real, "SR": lambda v: v.real, "LM": lambda v: v.abs()}[end]
        assert bool((measure(part.values.to(exact)) - measure(best)).abs().max() <= reach.max())


def test_a_residual_is_the_backward_error():
    matrix = MATRICES["pairs and reals, nonnormal"]
    result = eigenvalues(DenseOperator(matrix), "LR", 1, method="krylov_schur", tol=1e-4)
    value = complex(result.values[0])
    smallest = torch.linalg.svdvals(matrix.to(torch.complex128) - value * torch.eye(len(matrix)))[-1]
    assert float(smallest) <= float(result.residuals[0]) * result.norm * (1 + 1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_all_eigenvalues_of_a_compressed_matrix_count_the_zeros(dtype):
    matrix = MATRICES["dead rows and columns"].to(dtype)
    result = eigenvalues(DenseOperator(matrix))
    live = int(((matrix != 0).any(0) & (matrix != 0).any(1)).sum())
    assert result.num_live == live
    assert int((result.values == 0).sum()) == len(matrix) - live
    exact = np.sort(torch.linalg.eigvals(matrix.double()).real.numpy())[::-1]
    np.testing.assert_allclose(result.values.real.numpy(), exact, atol=1e4 * torch.finfo(dtype).eps)


def test_compression_goes_on_until_nothing_more_falls_out():
    chain = torch.diag(torch.ones(49, dtype=torch.float64), 1)  # row 49 is zero; without it row 48 is, and so on
    result = eigenvalues(DenseOperator(chain))
    assert result.num_live == 0
    assert bool((result.values == 0).all())
    assert bool(result.converged.all())


def test_zeros_of_dead_coordinates_are_the_smallest_real_part_where_all_others_are_positive():
    matrix = torch.eye(300, dtype=torch.float64) + 0.1 * random(300, 300) / 300**0.5
    matrix[::2] = 0
    smallest = eigenvalues(DenseOperator(matrix), "SR", method="krylov_schur")
    assert complex(smallest.values[0]) == 0
    assert float(smallest.residuals[0]) == 0


def test_a_jordan_block_has_a_tiny_residual_and_a_large_condition_and_an_error_between_them():
    matrix = with_eigenvalues([jordan(4, 3.0), *pairs_and_reals(200)], nonnormal=0.0)
    result = eigenvalues(DenseOperator(matrix), "LR", 4, conditions=True, method="krylov_schur")
    error = abs(result.values.numpy() - 3).max()
    assert float(result.residuals.max()) < 1e-10
    assert float(result.conditions.max()) > 1e6
    assert 1e-6 < error < 1e-1  # eps^(1/4): a backward error of rounding moves a block of 4 that far


@pytest.mark.parametrize("method", ["dense", "krylov_schur"])
def test_grcar_eigenvalues_come_with_the_warning_that_they_mean_little(method):
    matrix = grcar(220)
    found = eigenvalues(DenseOperator(matrix), "LR", conditions=True, method=method)
    value = complex(found.values[0])
    smallest = torch.linalg.svdvals(matrix.to(torch.complex128) - value * torch.eye(len(matrix)))[-1]
    assert float(smallest) <= float(found.residuals[0]) * found.norm * (1 + 1e-6) + 1e-14
    assert float(found.conditions[0]) > 1e8


def test_the_condition_of_a_normal_matrix_is_one_and_that_of_a_triangle_is_known():
    normal = eigenvalues(DenseOperator(MATRICES["normal"]), "LR", conditions=True, method="krylov_schur")
    assert float(normal.conditions[0]) == pytest.approx(1.0, abs=1e-6)
    triangle = torch.tensor([[2.0, 7.0], [0.0, 1.0]]).double()
    turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]]).double() / 2**0.5
    turned = eigenvalues(DenseOperator(turn @ triangle @ turn.T), "LR", conditions=True, method="dense")
    assert float(turned.conditions[0]) == pytest.approx(50**0.5)
    # with its zero in place it is block triangular: no perturbation of its nonzeros moves its diagonal more than itself
    assert float(eigenvalues(DenseOperator(triangle), "LR", conditions=True).conditions[0]) == 1


def test_what_has_not_converged_is_flagged_and_still_there():
    result = eigenvalues(DenseOperator(random(600, 600)), ("LR", "SR"), 3, max_matvecs=60, basis_size=40)
    assert not bool(result.converged.all())
    assert len(result.values) >= 6
    assert float(result.values[0].real) > 0.5 * 600**0.5


def test_a_seed_repeats_the_result_exactly_and_products_are_counted():
    operator = DenseOperator(MATRICES["random"])
    before = operator.num_matvecs
    first = eigenvalues(operator.restricted(), "LM", 2, method="krylov_schur", seed=3)
    second = eigenvalues(operator, "LM", 2, method="krylov_schur", seed=3)
    assert torch.equal(first.values, second.values)
    assert operator.num_matvecs - before == second.num_matvecs


def test_eigenvalues_of_multiplicity_and_invariant_spaces_do_not_break_it():
    identity = eigenvalues(DenseOperator(torch.eye(300, dtype=torch.float64)), ENDS, method="krylov_schur")
    assert bool(identity.converged.all())
    torch.testing.assert_close(identity.values.real, torch.ones(3, dtype=torch.float64))
    rank_one = torch.outer(random(300), random(300, seed=2))
    found = eigenvalues(DenseOperator(rank_one), "LM", method="krylov_schur")
    assert complex(found.values[0]) == pytest.approx(float(rank_one.trace()), rel=1e-8)


@pytest.mark.parametrize("share", [0.005, 0.02, 0.06])
def test_few_negative_eigenvalues_are_counted_from_the_left(share):
    n = 600
    values = torch.linspace(0.2, 2.0, n, dtype=torch.float64)
    values[: int(share * n)] *= -1
    matrix = torch.zeros(2 * n, 2 * n, dtype=torch.float64)  # half of the coordinates dead, as behind a ReLU
    matrix[::2, ::2] = with_eigenvalues([value[None, None] for value in values], nonnormal=0.1)
    count = count_negative(DenseOperator(matrix))
    assert (count.negative, count.error, count.method) == (int(share * n), 0.0, "leftmost")


def test_many_negative_eigenvalues_are_estimated_with_an_error():
    values = torch.cat([torch.linspace(-2, -1, 300), torch.linspace(1, 2, 700)]).double()
    operator = DenseOperator(with_eigenvalues([v[None, None] for v in values], nonnormal=0.1))
    count = count_negative(operator)
    assert count.method == "estimate"
    assert abs(count.negative - 300) <= 4 * count.error
    assert count.error < 50
    exact = count_negative(operator, by_inertia=True)
    assert (exact.negative, exact.error, exact.method) == (300, 0.0, "inertia")


def test_impossible_requests_are_refused():
    operator = DenseOperator(torch.ones(6, 6))
    with pytest.raises(InputError, match="has no eigenvalues; expected a square operator"):
        eigenvalues(DenseOperator(torch.ones(6, 5)))
    with pytest.raises(InputError, match="expected 'all', or one or several of LR, SR, LM"):
        eigenvalues(operator, "LI")
    with pytest.raises(InputError, match=r"got k=7 .* expected 1 <= k <= 6"):
        eigenvalues(operator, "LR", 7)
    with pytest.raises(InputError, match="expected auto or dense"):
        eigenvalues(operator, "all", method="krylov_schur")
    with pytest.raises(InputError, match="expected float32 or float64"):
        eigenvalues(DenseOperator(torch.ones(6, 6, dtype=torch.float16)))
    with pytest.raises(InputError, match="ask for the ends of the spectrum"):
        eigenvalues(DenseOperator(random(300, 300)), memory_limit=1000)
    with pytest.raises(InputError, match="holds LR"):
        eigenvalues(operator, "LR").end("SR")


@pytest.mark.parametrize("which", ["all", "LR"])
def test_nan_from_an_operator_is_an_error_that_names_it(which):
    size = 300
    operator = FunctionOperator((size, size), torch.float64, "cpu", lambda X: X * float("nan"), lambda Y: Y)
    with pytest.raises(ComputationError, match=r"FunctionOperator\(300 x 300.*NaN or infinite"):
        eigenvalues(operator, which)


def test_each_end_may_hold_another_number_of_values():
    matrix = with_eigenvalues(pairs_and_reals(260, 3), 0.3, 3)
    real = torch.linalg.eigvals(matrix).real.sort().values
    found = eigenvalues(DenseOperator(matrix), ("LR", "SR"), (1, 8), method="krylov_schur", conditions=True)
    assert found.converged.all()
    assert len(found.end("LR").values) in (1, 2)
    assert len(found.end("SR").values) in (8, 9)
    torch.testing.assert_close(found.end("SR").values.real[:8], real[:8], atol=1e-8, rtol=0)
    for k in ((1, 2, 3), (1,), (0, 1), (1, 2.0), "11"):
        with pytest.raises(InputError, match="got k="):
            eigenvalues(DenseOperator(matrix), ("LR", "SR"), k)
