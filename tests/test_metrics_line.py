"""RA1: lines, right angles and closed paths have known scores."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resdyn.metrics import collinearity, equispacing, line_geometry, line_shape_score, step_length, tortuosity
from synthetic import random_orthonormal, synthetic_dataset


def random_path(seed, n_states=6, size=5, n_samples=3):
    return np.random.default_rng(seed).standard_normal((n_samples, n_states, size))


def test_line_shape_score_of_a_straight_line_is_one_whatever_its_spacing():
    line = np.array([0.0, 1.0, 5.0, 5.5])[:, None] * np.array([0.6, 0.0, 0.8])
    assert line_shape_score(line) == pytest.approx(1.0, abs=1e-12)
    assert tortuosity(line) == pytest.approx(1.0, abs=1e-12)


def test_line_shape_score_of_orthogonal_steps_is_the_root_of_their_number():
    steps = np.diag([1.0, 3.0, 0.5, 2.0])
    path = np.vstack([np.zeros(4), np.cumsum(steps, 0)])
    assert line_shape_score(path) == pytest.approx(2.0)
    assert tortuosity(path) == pytest.approx(6.5 / np.sqrt(1 + 9 + 0.25 + 4))


def test_line_shape_score_equals_its_recursive_definition():
    path = random_path(0)[0]
    end = path[0].copy()
    for before, after in pairwise(path):
        end += (after - before) / np.linalg.norm(after - before)
    assert line_shape_score(path) == pytest.approx(5 / np.linalg.norm(end - path[0]))


def test_a_path_that_closes_has_an_infinite_score():
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    assert np.isinf(line_shape_score(square))
    assert np.isinf(tortuosity(square))


def test_a_step_of_length_zero_has_no_direction_and_is_left_out():
    path = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    assert line_shape_score(path) == 1.0
    assert np.isnan(collinearity(path)).all()


@pytest.mark.parametrize("score", [line_shape_score, tortuosity, equispacing])
def test_a_single_step_or_no_movement_has_no_score(score):
    assert np.isnan(score(np.eye(2)))
    assert np.isnan(score(np.ones((4, 3))))
    assert np.isnan(score(np.ones((1, 3))))


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 150.0, 180.0])
def test_collinearity_is_the_cosine_of_the_turn(degrees):
    turn = np.radians(degrees)
    path = np.array([[0.0, 0.0], [2.0, 0.0], [2.0 + 3 * np.cos(turn), 3 * np.sin(turn)]])
    np.testing.assert_allclose(collinearity(path), [np.cos(turn)], atol=1e-12)


def test_equispacing_is_the_coefficient_of_variation_of_the_steps():
    path = np.array([0.0, 1.0, 4.0])[:, None]
    assert equispacing(path) == pytest.approx(1.0 / 2.0)
    np.testing.assert_allclose(step_length(path), [1.0, 3.0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), scale=st.floats(1e-3, 1e3))
def test_line_metrics_ignore_rotation_scale_and_shift(seed, scale):
    path = random_path(seed)
    rng = np.random.default_rng(seed + 1)
    moved = scale * (path @ random_orthonormal(5, 5, rng)) + rng.standard_normal(5)
    for metric in (line_shape_score, tortuosity, collinearity, equispacing):
        np.testing.assert_allclose(metric(moved), metric(path), rtol=1e-8, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_both_scores_are_at_least_one_and_do_not_depend_on_direction(seed):
    path = random_path(seed)
    for score in (line_shape_score, tortuosity):
        assert (score(path) >= 1 - 1e-12).all()
        np.testing.assert_allclose(score(path[:, ::-1]), score(path), rtol=1e-9)


def test_stages_are_measured_apart_and_padding_is_not_read():
    ds = synthetic_dataset(n_blocks=8, speed=0.5)
    geometry = line_geometry(ds)
    assert geometry["line_shape_score"].dims == ("sample", "stage")
    assert geometry.sizes["stage"] == 2
    np.testing.assert_allclose(geometry["line_shape_score"], 1.0, rtol=1e-12)
    np.testing.assert_allclose(geometry["equispacing"], 0.0, atol=1e-12)
    np.testing.assert_allclose(geometry["collinearity"].isel(depth=[1, 2, 3, 6, 7]), 1.0, rtol=1e-12)
    assert geometry["collinearity"].isel(depth=[0, 4, 5, 8]).isnull().all()
    np.testing.assert_allclose(geometry["step_length"].isel(depth=[0, 1, 2, 3, 5, 6, 7]), 0.5, rtol=1e-9)
    assert geometry["step_length"].isel(depth=[4, 8]).isnull().all()


def test_states_stored_in_single_precision_are_measured_in_double():
    ds = synthetic_dataset()
    ds["states"] = ds["states"].astype(np.float32)
    np.testing.assert_allclose(line_geometry(ds)["line_shape_score"], 1.0, rtol=1e-10)
