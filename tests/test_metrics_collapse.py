"""Neural collapse: simplex frames, and the naive formulas with full covariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resdyn.errors import InputError
from resdyn.metrics import (
    centred_means,
    equiangularity,
    equinorm,
    maximal_angle,
    nearest_mean_disagreement,
    neural_collapse,
    self_duality,
    within_between_ratio,
    within_class_variability,
)
from synthetic import random_orthonormal, simplex_frame, synthetic_dataset


def labelled_features(seed, num_classes=4, size=7, per_class=9):
    """Features (N, d) with labels; classes of one size."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    mixing = rng.standard_normal((size, size))
    means = 2 * rng.standard_normal((num_classes, size)) + 5
    return means[labels] + rng.standard_normal((labels.size, size)) @ mixing, labels


def statistics(features, labels):
    """What the features probe stores, from all features: means, W, traces, counts; and Sigma_W itself."""
    classes = np.unique(labels)
    means = np.array([features[labels == c].mean(0) for c in classes])
    deviations = features - means[np.searchsorted(classes, labels)]
    covariance = deviations.T @ deviations / len(features)
    centred = means - means.mean(0)
    counts = np.array([np.sum(labels == c) for c in classes])
    trace = np.array([np.mean(np.sum(deviations[labels == c] ** 2, 1)) for c in classes])
    return means, centred @ covariance @ centred.T, trace, counts, covariance


def naive_nc1(means, covariance):
    centred = means - means.mean(0)
    between = centred.T @ centred / len(means)
    return np.trace(covariance @ np.linalg.pinv(between, rcond=1e-10)) / len(means)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), num_classes=st.integers(2, 6), size=st.integers(6, 12))
def test_within_class_variability_agrees_with_full_covariances(seed, num_classes, size):
    means, projected, _, _, covariance = statistics(*labelled_features(seed, num_classes, size))
    ours = within_class_variability(means, projected)
    assert ours == pytest.approx(naive_nc1(means, covariance), rel=1e-6)


def test_within_class_variability_with_more_classes_than_dimensions():
    means, projected, _, _, covariance = statistics(*labelled_features(0, num_classes=8, size=3))
    assert within_class_variability(means, projected) == pytest.approx(naive_nc1(means, covariance))


def test_within_class_variability_of_a_simplex_is_known():
    rng = np.random.default_rng(0)
    num_classes, radius, deviation = 5, 3.0, 0.2
    means = radius * simplex_frame(num_classes, 9, rng) + 4.0
    centred = centred_means(means)
    value = within_class_variability(means, deviation**2 * centred @ centred.T)
    assert value == pytest.approx(deviation**2 * (num_classes - 1) ** 2 / (num_classes * radius**2))


def test_two_equal_class_means_do_not_upset_it():
    features, labels = labelled_features(3)
    means, _, _, _, covariance = statistics(features, labels)
    means[1] = means[0]
    centred = means - means.mean(0)
    ours = within_class_variability(means, centred @ covariance @ centred.T)
    assert ours == pytest.approx(naive_nc1(means, covariance))


def test_means_stored_in_single_precision_far_from_the_origin_keep_their_rank():
    features, labels = labelled_features(4)
    means, _, _, _, covariance = statistics(features, labels)
    means[1] = means[0] + 1e-6
    stored = (means + 1000).astype(np.float32)
    centred = centred_means(stored)
    ours = within_class_variability(stored, centred @ covariance @ centred.T)
    means[1] = means[0]
    assert ours == pytest.approx(naive_nc1(means, covariance), rel=1e-3)


def test_within_class_variability_does_not_depend_on_the_centre_of_the_projection():
    means, projected, _, _, covariance = statistics(*labelled_features(5))
    elsewhere = means - 17.0
    shifted = elsewhere @ covariance @ elsewhere.T
    assert within_class_variability(means, shifted) == pytest.approx(within_class_variability(means, projected))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), scale=st.floats(1e-2, 1e2))
def test_collapse_ignores_rotation_scale_and_shift_of_the_features(seed, scale):
    features, labels = labelled_features(seed)
    rng = np.random.default_rng(seed + 1)
    rotation = random_orthonormal(7, 7, rng)
    before = statistics(features, labels)
    after = statistics(scale * features @ rotation + 3 * scale, labels)
    weight = rng.standard_normal((4, 7))
    np.testing.assert_allclose(within_class_variability(*after[:2]), within_class_variability(*before[:2]), rtol=1e-6)
    ratios = [within_between_ratio(s[0], s[2], s[3]) for s in (before, after)]
    np.testing.assert_allclose(*ratios, rtol=1e-9)
    for metric in (equinorm, equiangularity, maximal_angle):
        assert metric(after[0]) == pytest.approx(metric(before[0]), abs=1e-9)
    turned = self_duality(after[0], weight @ rotation)
    assert turned == pytest.approx(self_duality(before[0], weight))


def test_within_between_ratio_agrees_with_full_covariances_for_unequal_classes():
    features, labels = labelled_features(6)
    keep = (labels != 2) | (np.arange(labels.size) % 2 == 0)
    means, _, trace, counts, covariance = statistics(features[keep], labels[keep])
    between = np.trace(np.cov(means.T, bias=True))
    assert within_between_ratio(means, trace, counts) == pytest.approx(np.trace(covariance) / between)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_a_simplex_frame_is_equinormal_equiangular_and_maximal(num_classes):
    means = 3 * simplex_frame(num_classes, 12, np.random.default_rng(1)) + 2
    for metric in (equinorm, equiangularity, maximal_angle):
        assert metric(means) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("metric", [equinorm, equiangularity, maximal_angle])
def test_two_classes_are_a_simplex_wherever_their_means_lie(metric):
    assert metric(np.array([[1.0, 2.0], [4.0, -7.0]])) == pytest.approx(0.0, abs=1e-12)


def test_means_on_a_line_have_known_norms_and_cosines():
    means = np.array([[0.0], [1.0], [5.0]])  # centred: -2, -1, 3
    assert equinorm(means) == pytest.approx(np.std([2, 1, 3]) / 2)
    assert equiangularity(means) == pytest.approx(np.std([1, -1, -1]))
    assert maximal_angle(means) == pytest.approx((1.5 + 0.5 + 0.5) / 3)


def test_a_class_mean_at_the_centre_has_no_angle():
    means = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert equiangularity(means) == 0.0
    assert maximal_angle(means) == pytest.approx(0.5)
    assert equinorm(means) == pytest.approx(np.std([1, 1, 0]) / (2 / 3))


def test_coinciding_means_have_no_collapse():
    means = np.full((3, 4), 0.1)
    assert np.isnan(within_class_variability(means, np.eye(3)))
    assert np.isnan(within_between_ratio(means, np.ones(3), np.ones(3)))
    for metric in (equinorm, equiangularity, maximal_angle):
        assert np.isnan(metric(means))
    assert np.isnan(self_duality(means, np.ones((3, 4))))


def test_self_duality_of_proportional_orthogonal_and_opposite_classifiers():
    means = simplex_frame(3, 6, np.random.default_rng(2))
    across = random_orthonormal(6, 6, np.random.default_rng(3))
    complement = across - across @ means.T @ np.linalg.pinv(means.T)
    assert self_duality(means + 5, 0.3 * means) == pytest.approx(0.0, abs=1e-12)
    assert self_duality(means, complement[:3]) == pytest.approx(np.sqrt(2))
    assert self_duality(means, -means) == pytest.approx(2.0)
    assert np.isnan(self_duality(means, np.zeros((3, 6))))


def test_self_duality_centres_the_classifier_only_when_asked():
    means = simplex_frame(3, 6, np.random.default_rng(2))
    assert self_duality(means, means + 1) > 0.1
    assert self_duality(means, means + 1, centre_weight=True) == pytest.approx(0.0, abs=1e-12)


def test_a_classifier_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"shape \(3, 5\), expected \(3, 6\)"):
        self_duality(np.ones((3, 6)), np.ones((3, 5)))


def test_nearest_mean_disagreement_is_the_other_share():
    np.testing.assert_array_equal(nearest_mean_disagreement([0.0, 0.75, 1.0]), [1.0, 0.25, 0.0])


def test_a_stored_network_collapses_as_prescribed_at_every_depth():
    measured = neural_collapse(synthetic_dataset(n_blocks=8, num_classes=4))
    radius = np.arange(1, 10)
    np.testing.assert_allclose(measured["within_class_variability"], 9 / (4 * radius.astype(float) ** 4))
    np.testing.assert_allclose(measured["within_between_ratio"], measured["state_size"] / radius.astype(float) ** 4)
    for name in ("equinorm", "equiangularity", "maximal_angle"):
        np.testing.assert_allclose(measured[name], 0.0, atol=1e-12)
    np.testing.assert_allclose(measured["feature_self_duality"], 0.0, atol=1e-12)
    np.testing.assert_allclose(measured["feature_within_class_variability"], 9 / (4 * 9.0**4))
    np.testing.assert_allclose(measured["nearest_mean_disagreement"], np.linspace(0.75, 0, 9), atol=1e-12)


def test_classes_without_images_are_left_out_and_named():
    ds = synthetic_dataset(num_classes=4)
    whole = neural_collapse(ds)
    padded = ds.pad({"class": (0, 1), "class_j": (0, 1)}).assign_coords(
        {"class": np.arange(5), "class_j": np.arange(5)}
    )
    padded["class_count"] = ("class", np.array([10, 10, 10, 10, 0]))
    measured = neural_collapse(padded)
    assert measured.attrs["empty_classes"] == [4]
    for name in whole.data_vars:
        np.testing.assert_allclose(measured[name], whole[name], atol=1e-12)


def test_fewer_than_two_classes_give_nan():
    ds = synthetic_dataset(num_classes=3)
    ds["class_count"] = ("class", np.array([10, 0, 0]))
    measured = neural_collapse(ds)
    assert np.isnan(measured["within_class_variability"]).all()
    assert np.isnan(measured["feature_equinorm"])


def test_a_model_without_a_linear_classifier_has_no_self_duality():
    stored = [name for name in synthetic_dataset() if str(name).startswith(("feature_", "classifier_"))]
    measured = neural_collapse(synthetic_dataset().drop_vars(stored))
    assert not [name for name in measured if str(name).startswith("feature_")]
