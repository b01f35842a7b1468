"""RA3: spectra with a prescribed gap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resdyn.errors import InputError
from resdyn.metrics import converged_singular_values, count_unconverged, singular_rank
from resdyn.metrics.rank import gap_rank, numerical_rank, singular_gap
from synthetic import synthetic_dataset

spectra = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=8).map(lambda s: np.sort(s)[::-1])


def test_singular_gap_is_the_ratio_after_the_c_th_value():
    values = np.array([[8.0, 4.0, 1.0], [9.0, 9.0, 9.0]])
    np.testing.assert_array_equal(singular_gap(values, 2), [4.0, 1.0])


def test_singular_gap_of_an_exact_rank_is_infinite_and_beyond_the_rank_unknown():
    assert np.isinf(singular_gap([2.0, 1.0, 0.0, 0.0], 2))
    assert np.isnan(singular_gap([2.0, 1.0, 0.0, 0.0], 3))


def test_singular_gap_needs_one_value_more_than_classes():
    assert np.isnan(singular_gap([2.0, 1.0], 2))
    assert np.isnan(singular_gap([2.0, 1.0, np.nan], 2))


def test_singular_gap_refuses_no_classes():
    with pytest.raises(InputError, match="num_classes=0"):
        singular_gap([2.0, 1.0], 0)


@settings(max_examples=50, deadline=None)
@given(values=spectra, scale=st.floats(1e-3, 1e3))
def test_gaps_and_ranks_ignore_scale(values, scale):
    assert singular_gap(scale * values, 1) == pytest.approx(float(singular_gap(values, 1)))
    assert singular_gap(values, 1) >= 1
    ratios = values[:-1] / values[1:]
    assert ratios[int(gap_rank(scale * values)) - 1] == pytest.approx(ratios.max())


def test_gap_rank_counts_up_to_the_largest_ratio():
    assert gap_rank([5.0, 4.0, 3.0, 0.1, 0.09]) == 3
    assert gap_rank([5.0, 4.0, 0.0, 0.0]) == 2
    assert gap_rank([5.0, 5.0, 5.0]) == 1


def test_gap_rank_does_not_count_ratios_of_rounding_errors():
    values = [1.0, 0.5, 1e-9, 1e-16]
    assert gap_rank(values) == 2
    assert gap_rank([1.0, 0.5, 1e-12, 1e-30], rtol=1e-10) == 2
    assert gap_rank([1.0, 0.5, 1e-12, 1e-30]) == 3


def test_gap_rank_of_a_zero_matrix_is_zero_and_of_one_value_unknown():
    assert gap_rank(np.zeros(4)) == 0
    assert np.isnan(gap_rank([2.0]))
    assert gap_rank([0.0]) == 0
    assert np.isnan(gap_rank([np.nan, 1.0]))
    assert np.isnan(gap_rank([2.0, np.nan]))


def test_only_the_leading_run_of_known_values_is_used():
    assert gap_rank([4.0, 3.0, np.nan, 2.0, 1e-9]) == 1
    assert numerical_rank([4.0, 3.0, np.nan, 2.0], rtol=1e-6) == 2


def test_numerical_rank_counts_values_above_the_tolerance():
    values = np.array([[1.0, 1e-3, 1e-8], [0.0, 0.0, 0.0], [np.nan] * 3])
    np.testing.assert_array_equal(numerical_rank(values, rtol=1e-6), [2, 0, np.nan])


def test_a_stored_spectrum_shows_its_prescribed_gap():
    measured = singular_rank(synthetic_dataset(num_classes=4, gap=10.0))
    np.testing.assert_allclose(measured["singular_gap"], 10.0)
    np.testing.assert_array_equal(measured["gap_rank"], 4)
    np.testing.assert_array_equal(measured["numerical_rank"], 6)


def test_values_that_did_not_converge_are_counted_and_not_used():
    ds = synthetic_dataset(num_classes=4)
    ds["singular_converged"][0, 2, 4] = False
    ds["singular_values"][1, 0, 5] = np.nan
    ds["singular_converged"][1, 0, 5] = False
    assert count_unconverged(ds) == 1
    assert converged_singular_values(ds).isel(sample=0, block=2, rank=4).isnull()
    measured = singular_rank(ds)
    assert measured["singular_gap"].isel(sample=0, block=2).isnull()
    assert measured["singular_gap"].isel(sample=1, block=0) == pytest.approx(10.0)


@pytest.mark.parametrize(("dtype", "eps"), [("float32", 2**-23), ("torch.float64", 2**-52), ("bfloat16", 2**-7)])
def test_the_rounding_level_follows_the_dtype_of_the_capture(dtype, eps):
    ds = synthetic_dataset(stage_sizes=(16, 12)).assign_attrs(dtype=dtype)
    assert singular_rank(ds).attrs["rtol"] == 4 * eps


def test_values_without_convergence_flags_are_refused():
    with pytest.raises(InputError, match="without singular_converged"):
        singular_rank(synthetic_dataset().drop_vars("singular_converged"))
