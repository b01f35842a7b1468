"""Correlations against SciPy and by hand; corrections for many tests by their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resdyn.errors import InputError
from resdyn.metrics import benjamini_hochberg, holm, pearson, spearman


def noisy_pair(seed, n):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    return x, 0.5 * x + rng.standard_normal(n)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), n=st.integers(4, 60))
def test_coefficients_p_values_and_interval_are_scipys(seed, n):
    x, y = noisy_pair(seed, n)
    ours, reference = pearson(x, y, level=0.9), stats.pearsonr(x, y)
    assert (ours.coefficient, ours.p_value) == pytest.approx((reference.statistic, reference.pvalue))
    interval = reference.confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
    ranked, reference = spearman(x, y), stats.spearmanr(x, y)
    assert ranked.coefficient == pytest.approx(reference.statistic)
    assert n < 10 or ranked.p_value == pytest.approx(reference.pvalue)
    assert ranked.n == n


@pytest.mark.parametrize(("n", "p"), [(2, 1), (3, 1 / 3), (4, 1 / 12), (5, 1 / 60), (9, 2 / 362880), (10, 2 / 3628800)])
def test_pairs_in_order_are_as_rare_as_one_of_all_orders(n, p):
    for y in (np.arange(n), -np.exp(np.arange(n))):
        assert spearman(np.arange(n), y).p_value == pytest.approx(p)
    assert holm([spearman(np.arange(n), np.arange(n)).p_value] * 10).min() == pytest.approx(min(1, 10 * p))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), n=st.integers(3, 6), kinds=st.integers(2, 6))
def test_few_ranks_have_the_p_value_of_all_their_orders_ties_included(seed, n, kinds):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, kinds, n).astype(float), rng.integers(0, kinds, n).astype(float)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return

    def rho(values):
        return stats.spearmanr(values, y).statistic

    exact = stats.permutation_test((x,), rho, permutation_type="pairings", n_resamples=10**6, vectorized=False)
    assert spearman(x, y).p_value == pytest.approx(exact.pvalue)


def test_three_pairs_exclude_no_coefficient_and_a_perfect_order_is_no_certainty():
    assert (pearson([1, 2, 3], [1, 2, 4]).low, pearson([1, 2, 3], [1, 2, 4]).high) == (-1, 1)
    found = spearman(range(5), range(5))
    assert found.low < 0.2
    assert found.high == 1
    assert spearman(range(5), range(5, 0, -1)).high == pytest.approx(-found.low)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 0.6
    covered = {pearson: 0, spearman: 0}
    rank_truth = 6 / np.pi * np.arcsin(truth / 2)  # of Spearman's rho for a normal pair
    for _ in range(600):
        x, z = rng.standard_normal((2, 60))
        y = truth * x + (1 - truth**2) ** 0.5 * z
        for measure, target in ((pearson, truth), (spearman, rank_truth)):
            found = measure(x, y)
            covered[measure] += found.low <= target <= found.high
    assert all(0.925 < count / 600 < 0.975 for count in covered.values())


def test_spearman_sees_only_the_order():
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert spearman(x, np.exp(5 * x)).coefficient == pytest.approx(1.0)
    assert pearson(x, np.exp(5 * x)).coefficient < 0.8
    assert pearson(x, -x).coefficient == pytest.approx(-1.0)


@pytest.mark.parametrize("measure", [pearson, spearman])
def test_a_constant_has_no_correlation_and_says_over_how_many(measure):
    found = measure([1.0, 1.0, 1.0, np.nan], [1.0, 2.0, 3.0, 4.0])
    assert np.isnan([found.coefficient, found.p_value, found.low, found.high]).all()
    assert found.n == 3
    assert measure([], []).n == 0


@pytest.mark.parametrize("measure", [pearson, spearman])
def test_pairs_that_are_not_finite_are_left_out(measure):
    x, y = noisy_pair(0, 10)
    with_gaps = measure([*x, np.nan, 1.0, np.inf], [*y, 1.0, np.nan, 2.0])
    assert with_gaps == measure(x, y)


@pytest.mark.parametrize("measure", [pearson, spearman])
def test_few_pairs_give_what_can_be_known(measure):
    two = measure([1.0, 2.0], [3.0, 5.0])
    assert (two.coefficient, two.p_value, two.n) == (pytest.approx(1.0), pytest.approx(1.0), 2)
    assert np.isnan(two.low)


def test_vectors_of_different_length_and_impossible_levels_are_refused():
    with pytest.raises(InputError, match="two vectors of one length"):
        pearson([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="between 0 and 1"):
        pearson([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0], level=95)


def test_holm_multiplies_by_what_is_left_and_keeps_the_order():
    adjusted = holm([[0.01, 0.04], [0.03, np.nan]])
    np.testing.assert_allclose(adjusted, [[0.03, 0.06], [0.06, np.nan]])
    assert holm([0.5, 0.9, 0.6]).tolist() == [1.0, 1.0, 1.0]


@settings(max_examples=30, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrections_lie_between_the_raw_values_and_bonferroni(p):
    p = np.array(p)
    bonferroni = np.minimum(len(p) * p, 1)
    for adjusted in (holm(p), benjamini_hochberg(p)):
        assert (adjusted >= p - 1e-12).all()
        assert (adjusted <= bonferroni + 1e-12).all()
    assert (benjamini_hochberg(p) <= holm(p) + 1e-12).all()
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))


def test_no_p_values_and_impossible_ones():
    assert np.isnan(holm([np.nan, np.nan])).all()
    with pytest.raises(InputError, match=r"outside \[0, 1\]"):
        benjamini_hochberg([0.1, 1.2])
