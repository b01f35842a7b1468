"""Spectra whose stability is known, and steps of Euler's method that prove it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resdyn.errors import InputError
from resdyn.metrics import eigenvalue_count, growing_share, jacobian_elements, stable_step


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_below_the_stable_step_euler_decays_and_beyond_it_grows(seed):
    rng = np.random.default_rng(seed)
    mu = -rng.uniform(0.1, 10, 5) + 1j * rng.uniform(-10, 10, 5)
    step = float(stable_step(1 + mu))
    assert np.abs(1 + 0.999 * step * mu).max() < 1
    assert np.abs(1 + 1.001 * step * mu).max() > 1


def test_the_stiff_equation_of_the_paper_has_the_bound_of_two_over_a_thousand():
    assert float(stable_step([1 - 1000.0])) == pytest.approx(0.002)


def test_growing_directions_are_counted_and_do_not_bound_the_step():
    assert stable_step([3.0, 2.0]) == np.inf
    assert growing_share([0.5, 3.0, 1.0, np.nan]) == pytest.approx(1 / 3)
    assert float(stable_step([3.0, -1.0])) == pytest.approx(1.0)


def test_padding_does_not_count_and_no_spectrum_gives_no_number():
    rows = np.array([[2.0 + 1j, np.nan], [np.nan, np.nan]])
    for measure in (stable_step, growing_share):
        values = measure(rows)
        assert values.shape == (2,)
        assert np.isfinite(values[0]) or values[0] == np.inf
        assert np.isnan(values[1])


@pytest.mark.parametrize("shapes", [((4, 3, 3), (4, 3, 3)), ((2, 4, 4), (4, 2, 2)), ((6,), (6,)), ((6,), (4,))])
def test_counts_are_those_of_the_arrays_themselves(shapes):
    shape_in, shape_out = shapes
    jacobian = np.random.default_rng(0).standard_normal((*shape_out, *shape_in))
    assert jacobian_elements(shape_in, shape_out) == jacobian.size
    square = jacobian.shape[-1] == jacobian.shape[-2]
    sliced = np.linalg.eigvals(jacobian).size if square else 0
    assert eigenvalue_count(shape_in, shape_out, "slices") == sliced
    matrix = jacobian.reshape(int(np.prod(shape_out)), -1)
    whole = np.linalg.eigvals(matrix).size if matrix.shape[0] == matrix.shape[1] else 0
    assert eigenvalue_count(shape_in, shape_out) == whole


def test_shapes_and_readings_that_are_none_are_refused():
    with pytest.raises(InputError, match="positive sizes"):
        jacobian_elements((), (3,))
    with pytest.raises(InputError, match="'flattened' or 'slices'"):
        eigenvalue_count((3,), (3,), "rows")
