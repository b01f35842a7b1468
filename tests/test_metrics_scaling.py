"""RA4: lines of prescribed slope that begin at a prescribed block."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import linregress

from resdyn.errors import InputError
from resdyn.metrics import fit_line, inverse_scaling, inverse_scaling_fit
from resdyn.metrics.line_start import MIN_POINTS, SHUFFLES, chance
from resdyn.metrics.scaling import jackknife_errors
from synthetic import synthetic_dataset


def noisy_network(seed, n_blocks=12, early=0, noise=0.2):
    """s_1 with 1/s_1 = i + noise, and `early` blocks anywhere before."""
    rng = np.random.default_rng(seed)
    inverse = np.arange(1, n_blocks + 1) + noise * rng.standard_normal(n_blocks)
    inverse[:early] = rng.uniform(0.1, n_blocks, early)
    return 1 / np.maximum(inverse, 0.05)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), n=st.integers(3, 20))
def test_fit_line_agrees_with_linear_regression(seed, n):
    rng = np.random.default_rng(seed)
    x = np.arange(1, n + 1)
    y = 2 * x + rng.standard_normal(n)
    ours, reference = fit_line(x, y), linregress(x, y)
    assert ours.slope == pytest.approx(reference.slope)
    assert ours.intercept == pytest.approx(reference.intercept, abs=1e-9)
    assert ours.r_squared == pytest.approx(reference.rvalue**2)
    assert ours.slope_error == pytest.approx(reference.stderr)
    assert ours.intercept_error == pytest.approx(reference.intercept_stderr)


def test_fit_line_says_what_it_does_not_know():
    assert np.isnan(fit_line([1], [2.0]).slope)
    assert np.isnan(fit_line([1, 2], [2.0, 3.0]).slope_error)
    assert np.isnan(fit_line([1, 2, 3], [2.0, 2.0, 2.0]).r_squared)
    assert fit_line([1, 2, 3], [2.0, np.nan, 6.0]).slope == pytest.approx(2.0)


def test_fit_line_refuses_vectors_of_different_length():
    with pytest.raises(InputError, match="two vectors of one length"):
        fit_line([1, 2, 3], [1.0, 2.0])


@pytest.mark.parametrize("n_blocks", [6, 8, 16, 33])
def test_one_over_depth_has_slope_one_intercept_zero_and_begins_at_once(n_blocks):
    fit = inverse_scaling_fit(1 / np.arange(1, n_blocks + 1))
    assert (fit.start, fit.num_points) == (1, n_blocks)
    assert fit.slope == pytest.approx(1.0)
    assert fit.intercept == pytest.approx(0.0, abs=1e-12)
    assert fit.r_squared == pytest.approx(1.0)


@pytest.mark.parametrize("early", [1, 2, 3, 4])
def test_early_blocks_off_an_exact_line_are_left_out(early):
    inverse = np.arange(1.0, 11.0)
    inverse[:early] = [7.0, 0.5, 6.0, 0.5][:early]
    fit = inverse_scaling_fit(1 / inverse)
    assert fit.start == early + 1
    assert fit.slope == pytest.approx(1.0)


def test_a_noisy_line_seldom_loses_blocks_that_belong_to_it():
    for n_blocks in (8, 16):
        starts = [inverse_scaling_fit(noisy_network(seed, n_blocks)).start for seed in range(100)]
        assert np.mean(np.array(starts) > 1) <= 0.05


def test_erratic_early_blocks_are_mostly_found_in_noise():
    starts = [inverse_scaling_fit(noisy_network(seed, 16, early=5)).start for seed in range(100)]
    assert np.mean(np.array(starts) == 6) >= 0.8


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), scale=st.floats(1e-3, 1e3))
def test_the_start_ignores_scale_and_the_slope_follows_it(seed, scale):
    values = noisy_network(seed, early=3)
    fit, scaled = inverse_scaling_fit(values), inverse_scaling_fit(values / scale)
    assert scaled.start == fit.start
    assert scaled.slope == pytest.approx(scale * fit.slope)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_an_exact_line_is_found_at_any_scale(scale):
    inverse = np.arange(1.0, 9.0)
    inverse[:2] = 7.0, 0.5
    assert inverse_scaling_fit(scale / inverse).start == 3


def test_the_start_ignores_an_offset_of_the_line():
    for seed in range(60):
        inverse = 1 / noisy_network(seed, n_blocks=16, early=3, noise=1.5)
        moved = inverse_scaling_fit(1 / (inverse + 200))
        assert moved.start == inverse_scaling_fit(1 / inverse).start


def test_a_constant_top_value_gives_slope_zero_from_the_first_block():
    fit = inverse_scaling_fit(np.full(8, 0.5))
    assert (fit.start, fit.slope) == (1, 0.0)
    assert np.isnan(fit.r_squared)


def test_a_given_start_is_used_and_marked_as_given():
    fit = inverse_scaling_fit(1 / np.arange(1, 9), start=3)
    assert (fit.start, fit.start_is_chosen, fit.criterion) == (3, False, ())


def test_zero_and_unknown_top_values_are_left_out():
    values = 1 / np.arange(1.0, 10.0)
    values[[0, 4]] = 0.0, np.nan
    fit = inverse_scaling_fit(values)
    assert (fit.start, fit.num_points) == (2, 7)
    assert fit.slope == pytest.approx(1.0)


@pytest.mark.parametrize("start", [None, 6])
def test_too_few_blocks_are_refused(start):
    values = 1 / np.arange(1.0, MIN_POINTS if start is None else 11)
    with pytest.raises(InputError, match=r"got 5 blocks .* expected at least 6"):
        inverse_scaling_fit(values, start=start)


def test_the_slope_of_the_average_is_the_average_of_the_slopes():
    values = np.stack([noisy_network(seed, 10) for seed in range(5)])
    fit = inverse_scaling_fit(values, start=2)
    slopes = [inverse_scaling_fit(row, start=2).slope for row in values]
    assert fit.slope == pytest.approx(np.mean(slopes))


def test_a_stored_network_shows_its_slope_start_and_spread():
    fit, lines = inverse_scaling(synthetic_dataset(early_blocks=2, spread=0.02, n_samples=5))
    assert fit.start == 3
    assert fit.slope == pytest.approx(1.0)
    np.testing.assert_allclose([line.slope for line in lines], 1 + 0.02 * np.linspace(-1, 1, 5))


def test_a_top_value_that_did_not_converge_is_not_used():
    ds = synthetic_dataset(early_blocks=0)
    ds["singular_values"][:, 3, 0] = 50.0
    ds["singular_converged"][:, 3, 0] = False
    fit, lines = inverse_scaling(ds)
    assert (fit.start, fit.num_points) == (1, 7)
    assert {line.num_points for line in lines} == {7}


@pytest.mark.parametrize("n", [6, 8, 12, 16, 30])
def test_without_a_trend_one_test_in_twenty_rejects_though_the_start_was_chosen(n):
    rng = np.random.default_rng(n)
    fits = [inverse_scaling_fit(1 / (1 + 0.1 * rng.standard_normal(n))) for _ in range(300)]
    by_p = np.mean([fit.p_value <= 0.05 for fit in fits])
    by_error = np.mean([abs(fit.slope) > stats.t.isf(0.025, fit.num_points - 2) * fit.slope_error for fit in fits])
    assert 0.03 <= by_p <= 0.07
    assert 0.03 <= by_error <= 0.07
    assert abs(np.mean([fit.r_squared_adjusted for fit in fits])) < 0.05
    assert 0.02 <= np.mean([fit.r_squared > fit.r_squared_by_chance for fit in fits]) <= 0.08


def test_an_exact_line_is_as_sure_as_shuffles_can_say():
    fit = inverse_scaling_fit(1 / np.arange(1, 13))
    assert fit.p_value == pytest.approx(1 / (SHUFFLES + 1))
    assert fit.slope_error < 1e-12
    assert fit.r_squared_adjusted == pytest.approx(1.0)
    assert fit == inverse_scaling_fit(1 / np.arange(1, 13))


def test_errors_are_wider_where_there_was_more_to_choose_from():
    rng = np.random.default_rng(0)
    few, many = (chance(np.arange(n), rng.standard_normal(n)).widening for n in (6, 30))
    assert few == pytest.approx(1.0, abs=0.1)
    assert many > 1.15


def test_with_a_given_start_the_usual_test_holds():
    values = noisy_network(0, 12)
    fit, reference = inverse_scaling_fit(values, start=1), linregress(np.arange(1, 13), 1 / values)
    assert fit.p_value == pytest.approx(reference.pvalue)
    assert fit.slope_error == pytest.approx(reference.stderr)
    assert fit.r_squared_adjusted == pytest.approx(1 - (1 - reference.rvalue**2) * 11 / 10)


def test_blocks_may_come_in_any_order():
    values, order = noisy_network(1, 12, early=3), np.random.default_rng(0).permutation(12)
    assert inverse_scaling_fit(values[order], order + 1) == inverse_scaling_fit(values)


def test_the_error_over_samples_is_that_of_the_mean_unless_samples_choose_other_starts():
    slope, intercept, _ = jackknife_errors(synthetic_dataset(n_samples=5, spread=0.1))
    slopes = 1 + 0.1 * np.linspace(-1, 1, 5)
    assert slope == pytest.approx(slopes.std(ddof=1) / 5**0.5)
    assert intercept == pytest.approx(0, abs=1e-9)
    assert jackknife_errors(synthetic_dataset(n_samples=1)) == (None, None, None)
