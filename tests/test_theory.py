"""Theorems 3.1 and 3.3 of the Residual Alignment paper, numerically."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from resdyn import find_stream, metrics, svd
from resdyn.papers.residual_alignment.many_classes import optimise_classes
from resdyn.papers.residual_alignment.theory import (
    AlignedNet,
    model_loss,
    optimise_model,
    reduced_loss,
    reduced_optimum,
)

EPS = np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def aligned():
    """A network with J_i = (1/i) u u^T exactly, its stream, and the states of one input (L + 1, D)."""
    generator = torch.Generator().manual_seed(1)
    u, x = torch.randn(2, 24, generator=generator, dtype=torch.float64)
    stream = find_stream(AlignedNet(u, depth=20).eval(), x[None])
    states = stream.states(x[None])
    return u / u.norm(), x, stream, states


def test_the_built_network_has_ra2_ra3_and_ra4(aligned):
    u, _, stream, states = aligned
    for i in range(len(stream)):
        found = svd(stream.jacobian(i, states), 2, method="dense")
        assert float(found.S[0]) == pytest.approx(1 / (i + 1), rel=1e-12)
        assert float(found.S[1]) < 1e-12
        assert abs(float(found.U[:, 0] @ u)) == pytest.approx(1, abs=1e-12)
        assert abs(float(found.V[:, 0] @ u)) == pytest.approx(1, abs=1e-12)


def test_theorem_3_1_its_states_are_equispaced_on_a_line_to_rounding(aligned):
    u, x, _, states = aligned
    found = torch.cat(list(states)).numpy()
    assert metrics.line_shape_score(found) == pytest.approx(1, abs=50 * EPS)
    assert metrics.equispacing(found) < 200 * EPS
    assert metrics.collinearity(found) == pytest.approx(1, abs=200 * EPS)
    step = u * (u @ x)
    expected = torch.stack([x + k * step for k in range(len(found))]).numpy()
    np.testing.assert_allclose(found, expected, atol=200 * EPS * np.abs(expected).max())


def test_theorem_3_1_needs_the_inverse_scaling():
    """With equal top values the states stay on the line and are not equispaced: they grow exponentially."""
    steps = np.cumprod(np.full(10, 1.3))[:, None] * np.array([[3.0, 4.0]])
    assert metrics.line_shape_score(steps) == pytest.approx(1)
    assert metrics.equispacing(steps) > 0.5


SETTINGS = [
    (4, 2, 0.1, 1.0, 1),
    (8, 4, 0.01, 0.1, -1),
    (6, 3, 1.0, 1.0, 1),
    (8, 4, 0.1, 3.0, -1),
    (12, 8, 0.01, 1.0, 1),
]


@pytest.mark.parametrize(("width", "depth", "lam", "norm", "label"), SETTINGS)
def test_theorem_3_3_descent_ends_aligned_rank_one_and_equal(width, depth, lam, norm, label):
    found = optimise_model(width, depth, lam, norm=norm, label=label, seed=3)
    best = reduced_optimum(depth, lam, norm)
    assert found.gradient_norm < 1e-7
    assert found.loss == pytest.approx(best.loss, rel=1e-12)
    assert found.alignment == pytest.approx(1, abs=1e-10)
    assert found.rank_one_residual < 1e-5
    assert found.inequality < 1e-5
    assert found.top_values == pytest.approx(best.s, rel=1e-5)
    assert np.linalg.norm(found.w) == pytest.approx(best.omega, rel=1e-5)
    assert np.sign(found.w @ found.x) == label


@pytest.mark.parametrize(("depth", "lam", "norm"), [(1, 0.1, 1.0), (4, 0.01, 0.1), (16, 0.5, 2.0), (8, 3.0, 0.5)])
def test_the_scalar_problem_is_that_of_two_unknowns(depth, lam, norm):
    """omega = sqrt(s (1 + s)) at the optimum: minimised over both unknowns, from several starts."""
    best = reduced_optimum(depth, lam, norm)
    starts = [(0.1, 0.1), (0.5, 1.0), (2.0, 2.0)]
    both = [minimize(lambda p: float(reduced_loss(*p, depth, lam, norm)), start, tol=1e-12) for start in starts]
    least = min(both, key=lambda found: found.fun)
    assert best.loss == pytest.approx(least.fun, rel=1e-9)
    assert (best.s, best.omega) == pytest.approx(tuple(least.x), rel=1e-3)
    assert float(reduced_loss(best.s, best.omega, depth, lam, norm)) == pytest.approx(best.loss, rel=1e-14)


@given(
    seed=st.integers(0, 2**20),
    width=st.integers(2, 6),
    depth=st.integers(1, 6),
    lam=st.sampled_from([1e-3, 0.03, 0.3, 2.0]),
    scale=st.sampled_from([0.01, 0.3, 1.0, 3.0]),
)
def test_no_point_of_the_model_costs_less_than_the_scalar_problem(seed, width, depth, lam, scale):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal(width))
    w = torch.from_numpy(scale * rng.standard_normal(width))
    jacobians = torch.from_numpy(scale * rng.standard_normal((depth, width, width)))
    best = reduced_optimum(depth, lam, float(x.norm())).loss
    assert model_loss(w, jacobians, x, lam).item() >= best * (1 - 1e-12)


def test_the_aligned_point_attains_the_bound():
    best = reduced_optimum(5, 0.02, 2.0)
    unit = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    jacobians = best.s * torch.outer(unit, unit).repeat(5, 1, 1)
    assert model_loss(best.omega * unit, jacobians, 2 * unit, 0.02).item() == pytest.approx(best.loss, rel=1e-13)


@pytest.mark.parametrize(
    ("width", "depth", "classes", "lam", "per_class"),
    [(8, 3, 3, 1e-3, 1), (10, 2, 2, 1e-2, 2), (12, 4, 5, 1e-3, 2), (16, 6, 4, 1e-3, 3)],
)
def test_with_many_classes_stationary_jacobians_are_symmetric_equal_and_of_rank_below_c(
    width, depth, classes, lam, per_class
):
    """RA2 and a sharper RA3 for any C: J = ((I + 4 W^T W)^(1/2) - I) / 2, whose rank is C - 1 and not C."""
    found = optimise_classes(width, depth, classes, lam, per_class=per_class)
    assert found.gradient_norm < 1e-8
    assert found.imbalance < 1e-5
    assert found.inequality < 1e-5
    assert found.beyond < 1e-5
    assert found.last > 1e-3
    assert np.abs(found.classifier.sum(0)).max() < 1e-6
    values, vectors = np.linalg.eigh(found.classifier.T @ found.classifier)
    closed = (vectors * (np.sqrt(1 + 4 * np.maximum(values, 0)) - 1) / 2) @ vectors.T
    np.testing.assert_allclose(found.jacobians, np.broadcast_to(closed, found.jacobians.shape), atol=1e-5)


def test_with_two_classes_the_rows_of_the_classifier_are_opposite():
    """W has the rows w/2 and -w/2: the logistic loss of w^T h, with |W|^2 = |w|^2 / 2."""
    found = optimise_classes(10, 2, 2, 1e-2, per_class=1)
    np.testing.assert_allclose(found.classifier[0], -found.classifier[1], atol=1e-6)
    values = np.linalg.svd(found.jacobians, compute_uv=False)
    omega = np.linalg.norm(found.classifier)
    np.testing.assert_allclose(values[:, 0] * (1 + values[:, 0]), omega**2, rtol=1e-5)
