"""The k values that `svd` calls converged are the k largest, with their multiplicities, each within its bound."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import resdyn
from cases import with_spectrum
from resdyn.errors import InputError
from resdyn.linalg import DenseOperator, FunctionOperator, svd
from resdyn.linalg._completeness import _bounds, _overlap

ROUNDING = 64
lanczos = partial(svd, method="lanczos")


def check(matrix: Tensor, k: int, **settings) -> resdyn.SVDResult:
    """No value counts as converged that is not the true one in its place, and bounds hold for all of them."""
    result = svd(DenseOperator(matrix), k, **({"method": "lanczos"} | settings))
    exact = torch.linalg.svdvals(matrix.double())[:k]
    eps = torch.finfo(matrix.dtype).eps
    lacking = (exact - result.S.double()) / exact[0]
    tol = settings.get("tol") or eps**0.5
    assert float(lacking.min()) >= -ROUNDING * eps
    assert bool((lacking <= result.bounds.double()).all())
    assert bool((lacking.abs()[result.converged] <= max(tol, ROUNDING * eps)).all())
    return result


CLUSTER = st.tuples(
    st.integers(2, 40), st.floats(0.2, 2.0), st.one_of(st.just(0.0), st.floats(-16, -2).map(lambda x: 10**x))
)
TAIL = st.sampled_from(["random", "geometric", "power", "linear", "equal", "nothing"])


def spectrum(tail: str, start: float, clusters, n: int, seed: int) -> Tensor:
    """Values of a tail, the first of them replaced by clusters (how many, where, how wide)."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(n).double()
    values = {
        "random": torch.rand(n, generator=generator, dtype=torch.float64),
        "geometric": start**index,
        "power": (1 + index) ** (-2 * start),
        "linear": torch.linspace(1, start, n).double(),
        "equal": torch.full((n,), start).double(),
        "nothing": torch.zeros(n).double(),
    }[tail]
    place = 0
    for count, center, width in clusters:
        members = values[place : place + count]
        members.copy_(center * (1 + width * torch.rand(len(members), generator=generator, dtype=torch.float64)))
        place += count
    return values.sort(descending=True).values


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    TAIL,
    st.floats(0.3, 0.999),
    st.lists(CLUSTER, min_size=1, max_size=3),
    st.integers(30, 150),
    st.integers(1, 25),
    st.sampled_from([None, 1e-4, 1e-6]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 2**20),
)
def test_no_value_of_a_clustered_spectrum_is_converged_and_wrong(tail, start, clusters, n, k, tol, dtype, seed):
    values = spectrum(tail, start, clusters, n, seed)
    check(with_spectrum(n + seed % 50, n, values, dtype, seed), k, tol=tol, seed=seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("copies", [8, 9, 12, 40, 100])
@pytest.mark.parametrize("width", [0.0, 1e-6, 1e-5])
def test_more_copies_than_a_block_is_wide_are_found_whole(copies, width, dtype):
    near = 2 * (1 + width * torch.linspace(1, 0, copies).double())
    matrix = with_spectrum(170, 150, torch.cat([near, torch.linspace(1.9, 1, 150 - copies).double()]), dtype)
    result = check(matrix, min(copies + 2, 30))
    assert bool(result.converged.all())


def test_copies_that_hide_below_larger_values_are_found_though_fewer_than_a_block_are_asked_for():
    values = torch.cat([torch.tensor([3.0, 2.9, 2.8]), torch.full((15,), 2.0), torch.full((60,), 0.5)]).double()
    for k in range(3, 19):
        assert bool(check(with_spectrum(100, 90, values, torch.float64), k).converged.all())


def test_bounds_are_near_rounding_where_the_last_value_is_separated_and_delta_where_it_is_repeated():
    separated = with_spectrum(
        300, 300, torch.cat([torch.linspace(2, 1, 10), torch.full((290,), 0.7)]).double(), torch.float64
    )
    assert float(lanczos(DenseOperator(separated), 10).bounds.max()) < 1e-12
    repeated = with_spectrum(300, 300, torch.cat([torch.linspace(2, 1, 10), torch.ones(290)]).double(), torch.float64)
    result = lanczos(DenseOperator(repeated), 20)
    assert bool(result.converged.all())
    assert float(result.bounds[:9].max()) < 1e-6
    assert 0.01 < float(result.bounds[-1]) <= 0.025  # delta, relative to s_1


def test_a_smaller_delta_takes_more_products_and_gives_smaller_bounds():
    values = torch.cat([torch.linspace(2, 1, 10), torch.linspace(1, 0, 990)]).double()
    matrix = with_spectrum(1000, 1000, values, torch.float64)
    coarse, fine = (lanczos(DenseOperator(matrix), 10, tol=1e-4, delta=delta) for delta in (0.5, 1e-3))
    assert bool(coarse.converged.all())
    assert bool(fine.converged.all())
    assert float(fine.bounds.max()) <= 1e-3 < float(coarse.bounds.max())
    assert fine.num_matvecs > coarse.num_matvecs
    assert (fine.delta, fine.failure_probability) == (1e-3, 1e-6)


def test_without_products_left_for_the_search_nothing_is_converged():
    values = torch.cat([torch.tensor([5.0, 4.0]), torch.linspace(1, 0.5, 198)]).double()
    matrix = with_spectrum(200, 200, values, torch.float64)
    assert bool(lanczos(DenseOperator(matrix), 2, tol=1e-3).converged.all())
    searched = lanczos(DenseOperator(matrix), 2, tol=1e-3, max_matvecs=22)
    assert float(searched.residuals.max()) <= 1e-3
    assert not bool(searched.converged.any())
    assert bool(torch.isinf(searched.bounds).all())


def test_what_has_converged_when_products_run_out_is_certified_and_the_rest_is_not():
    values = torch.cat([torch.tensor([9.0, 7.0, 5.0]), torch.linspace(1, 0.9, 597)]).double()
    result = check(with_spectrum(600, 600, values, torch.float64), 100, max_matvecs=520, tol=1e-6)
    assert result.converged[:3].all()
    assert not bool(result.converged[3:].any())
    assert bool(torch.isinf(result.bounds[-1:]).all())


@pytest.mark.parametrize("size", [3, 3000])
def test_an_operator_that_is_zero_is_known_to_be_after_a_handful_of_products(size):
    zero = FunctionOperator((size, size), torch.float32, "cpu", torch.zeros_like, torch.zeros_like)
    for k in (1, 3):
        result = svd(zero, k)
        assert not bool(result.S.any())
        assert bool(result.converged.all())
        assert result.num_matvecs < 20


@pytest.mark.parametrize("values", [[3.0, 2.0, 1.0], [5.0], [2.0] * 20], ids=["three", "one", "equal"])
def test_more_values_than_the_rank_are_known_after_few_products(values):
    diagonal = torch.cat([torch.tensor(values), torch.zeros(2000 - len(values))])[:, None]
    operator = FunctionOperator((2000, 2000), torch.float32, "cpu", diagonal.mul, diagonal.mul)
    result = svd(operator, 25)
    assert bool(result.converged.all())
    assert float(result.bounds.max()) < 1e-3
    assert result.num_matvecs < 200
    torch.testing.assert_close(result.S[: len(values)], torch.tensor(values))


def test_values_that_converged_before_the_products_ran_out_are_returned_beside_those_that_did_not():
    matrix = with_spectrum(60, 60, torch.cat([torch.full((5,), 2.0), torch.linspace(1, 0, 55)]).double(), torch.float32)
    result = check(matrix, 20, tol=1e-2, max_matvecs=50)
    assert result.bounds.shape == (20,)
    assert not bool(result.converged.all())


def test_bounds_hold_after_hundreds_of_restarts_of_a_small_basis():
    matrix = with_spectrum(600, 150, 0.9 ** torch.arange(150).double(), torch.float64)
    for seed in range(3):
        result = svd(DenseOperator(matrix), 10, block_size=2, basis_size=14, seed=seed)
        exact = torch.linalg.svdvals(matrix)[:10]
        assert bool((exact <= result.S + result.bounds * result.S[0]).all())


def test_the_search_costs_at_most_a_seventh_where_nothing_is_repeated():
    matrix = with_spectrum(800, 700, 1 / (1 + 0.01 * torch.arange(700)).double(), torch.float32)
    complete = lanczos(DenseOperator(matrix), 20)
    assert bool(complete.converged.all())
    assert 0 < complete.search_matvecs <= 0.15 * (complete.num_matvecs - complete.search_matvecs)


def test_dense_results_are_complete_without_a_search():
    result = check(with_spectrum(60, 50, torch.ones(50).double(), torch.float64), 7, method="dense")
    assert bool(result.converged.all())
    assert result.failure_probability == 0


def test_the_probability_of_a_small_overlap_is_that_of_a_uniform_unit_vector():
    drawn = torch.randn(200_000, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    overlaps = (drawn[:, 0] / drawn.norm(dim=1)).abs()
    assert abs(float((overlaps < _overlap(30, 0.1)).double().mean()) - 0.1) < 0.003
    expected = 1e-6 * np.sqrt(np.pi / 2) / np.sqrt(16384)  # from the density at 0
    np.testing.assert_allclose(_overlap(16384, 1e-6), expected, rtol=1e-3)
    assert scipy.special.betainc(0.5, 29 / 2, _overlap(30, 1e-6) ** 2) == pytest.approx(1e-6)


def test_bounds_of_ritz_values_hold_for_any_subspace_of_any_matrix():
    """The inertia argument alone, with the norm outside of a subspace known exactly."""
    generator = torch.Generator().manual_seed(0)
    for trial in range(50):
        values = torch.rand(40, generator=generator, dtype=torch.float64) ** (1 + trial % 4)
        A = with_spectrum(60, 40, values, torch.float64, seed=trial)
        V = torch.linalg.qr(torch.randn(40, 12, generator=generator, dtype=torch.float64) + 4 * torch.eye(40)[:, :12])[
            0
        ]
        U, S, Vh = torch.linalg.svd(A @ V, full_matrices=False)
        V = V @ Vh.T
        outside = torch.linalg.qr(V, mode="complete")[0][:, 12:]
        ceiling = float(torch.linalg.matrix_norm(A @ outside, 2))
        bounds = _bounds(S, A.T @ U - V * S, ceiling, 1.01 * ceiling)
        assert bool((torch.linalg.svdvals(A)[:12] <= S + bounds + 1e-12).all())


class Bottleneck(nn.Module):
    """h + B relu(A h): all but a few singular values of the block are exactly 1."""

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, inside), nn.Linear(inside, width)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.up(torch.relu(self.down(h)))


def test_the_block_of_a_bottleneck_has_as_many_unit_singular_values_as_its_matrix():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 128), Bottleneck(128, 10), Bottleneck(128, 10), nn.Linear(128, 5)).eval()
    x = torch.randn(2, 20)
    stream = resdyn.find_stream(model, x)
    jacobian = stream.jacobian(1, stream.states(x[:1]), kind="block")
    result = check(jacobian.to_dense(), 20, tol=1e-4)
    torch.testing.assert_close(svd(jacobian, 20, tol=1e-4).S, result.S, rtol=1e-5, atol=0)
    assert bool(result.converged.all())


@pytest.mark.parametrize("name", ["delta", "failure_probability"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "0.1", True, None])
def test_an_impossible_confidence_is_refused(name, value):
    with pytest.raises(InputError, match=f"got .*{name}="):
        lanczos(DenseOperator(torch.eye(5)), 2, **{name: value})
