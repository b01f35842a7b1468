"""Structure of transports: from prescribed spectra, and what noise alone shows."""

import numpy as np
import pytest
import xarray as xr

from resdyn.errors import InputError
from resdyn.metrics import summarize, transport_angles, transport_growth, transport_structure, transport_structures

ARRAYS = ("transport", "transport_standard_error", "transport_noise")


def orthogonal(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def test_identity_and_spectrum_of_the_rest_are_those_prescribed():
    rng = np.random.default_rng(0)
    values = np.array([4.0, 2.0, 1.0, 0.5, 0, 0])
    Q = orthogonal(rng, 6)
    rest = Q @ np.diag(values * [1, -1, -1, -1, 0, 0]) @ Q.T  # trace 0.5
    found = transport_structure(rest + 2 * np.eye(6))
    alpha = 2 + 0.5 / 6
    assert found.alpha == pytest.approx(alpha)
    assert found.identity_share == pytest.approx(6 * alpha**2 / found.norm**2)
    exact = np.sort(np.abs(values * [1, -1, -1, -1, 0, 0] - 0.5 / 6))[::-1]
    np.testing.assert_allclose(found.residual_singular_values, exact)
    assert found.stable_rank == pytest.approx((exact**2).sum() / exact[0] ** 2)
    p = exact**2 / (exact**2).sum()
    assert found.effective_rank == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert found.log_determinant == pytest.approx(np.log(np.abs(np.linalg.det(rest + 2 * np.eye(6)))))
    assert np.isnan(found.noise_share)
    assert np.isnan(found.resolved)


def test_noise_resolves_nothing_and_a_signal_is_counted():
    rng = np.random.default_rng(1)
    n, d, signal = 40, 20, np.zeros((20, 20))
    signal[:3, 5:8] = 3 * np.eye(3)
    counts = {"noise": [], "signal": []}
    for _ in range(20):
        for name, mean in (("noise", 0), ("signal", signal)):
            x = mean + rng.standard_normal((n, d, d))
            signs = rng.choice([-1, 1], n)
            error = x.std(0, ddof=1) / n**0.5
            draw = (np.einsum("n,nij->ij", signs, x) - signs.sum() * x.mean(0)) / (n * (n - 1)) ** 0.5
            found = transport_structure(x.mean(0), error, draw)
            counts[name].append(found.resolved)
            if name == "noise":
                assert found.noise_share == pytest.approx(1, abs=0.25)
    assert np.mean(counts["noise"]) < 1.5
    assert 3 <= np.mean(counts["signal"]) < 4.5


def test_matrices_that_are_not_square_have_no_identity():
    found = transport_structure(np.ones((2, 3)))
    assert np.isnan([found.alpha, found.identity_share, found.log_determinant]).all()
    assert found.stable_rank == pytest.approx(1)


def test_angles_between_leading_spaces():
    rng = np.random.default_rng(2)
    Q = orthogonal(rng, 5)
    J = orthogonal(rng, 5) @ np.diag([5, 4, 0.1, 0.1, 0.1]) @ Q.T
    turned = np.array([np.cos(0.3), np.sin(0.3)])
    K = orthogonal(rng, 5)[:, :2] @ np.diag([3, 2]) @ np.stack([Q[:, 0], turned @ Q[:, [1, 2]].T])
    np.testing.assert_allclose(transport_angles(J, K, 2), [0, 0.3], atol=1e-7)


@pytest.mark.parametrize("wrong", [np.ones(3), np.ones((0, 2)), np.full((2, 2), np.nan)])
def test_what_is_not_a_finite_matrix_is_refused(wrong):
    with pytest.raises(InputError):
        transport_structure(wrong)
    with pytest.raises(InputError):
        transport_angles(np.eye(2), np.eye(2), 3)


def test_a_draw_whose_signs_agree_says_nothing_of_the_spectrum_of_noise():
    found = transport_structure(np.diag([3.0, 1.0]), np.full((2, 2), 0.1), np.zeros((2, 2)))
    assert found.noise_share == pytest.approx(0.04 / 2)
    assert np.isnan(found.resolved)
    exact = transport_structure(np.diag([3.0, 1.0]), np.zeros((2, 2)), np.zeros((2, 2)))
    assert (exact.noise_share, exact.resolved) == (0, 2)


@pytest.mark.parametrize("law", ["exponential", "power", "constant"])
def test_the_law_of_growth_is_found_under_scatter_and_its_error_covers(law):
    rng = np.random.default_rng(3)
    s = np.arange(12)
    truth = {"exponential": 0.25 * s, "power": 1.5 * np.log1p(s), "constant": 0 * s}[law]
    misses, laws = 0, []
    for _ in range(200):
        found = transport_growth(s, np.exp(1 + truth + 0.05 * rng.standard_normal(12)))
        laws.append(found.law)
        slope, error, true = {
            "exponential": (found.rate, found.rate_error, 0.25),
            "power": (found.exponent, found.exponent_error, 1.5),
            "constant": (found.rate, found.rate_error, 0.0),
        }[law]
        misses += abs(slope - true) > 2.228 * error  # 95 % of t, 10 degrees
    assert set(laws) <= {law, "undecided"} or laws.count(law) > 190
    assert 2 <= misses <= 20


def test_too_few_depths_decide_nothing():
    assert transport_growth(range(5), np.exp(np.arange(5.0))).law == "undecided"
    for steps, norms in ((range(3), np.ones(3)), ([0, 1, 1, 2], np.ones(4)), (range(4), np.ones(5))):
        with pytest.raises(InputError):
            transport_growth(steps, norms)


def stored(seed=0, depths=5, d=16, n=30, width=1.0, signal=(2, 1.5, 0.2)):
    """A store of samples x_n = 2 I + signal + noise, whose leading directions turn by an angle per depth."""
    rng = np.random.default_rng(seed)
    U, V = orthogonal(rng, d)[:, :3], orthogonal(rng, d)
    means = []
    for depth in range(depths):
        turned = np.cos(0.2 * depth) * V[:, :3] + np.sin(0.2 * depth) * V[:, 3:6]
        means.append(2 * np.eye(d) + 20 * U @ np.diag(signal) @ turned.T)
    x = np.asarray(means) + width * rng.standard_normal((n, depths, d, d))
    signs = rng.choice([-1, 1], n)
    error = x.std(0, ddof=1) / n**0.5
    draw = (np.einsum("n,n...->...", signs, x) - signs.sum() * x.mean(0)) / (n * (n - 1)) ** 0.5
    dims = ("depth", "row", "column")
    arrays = {
        "transport": (dims, x.mean(0)),
        "transport_standard_error": (dims, error),
        "transport_noise": (dims, draw),
    }
    coords = {"depth": range(depths), "columns": ("depth", [d] * depths)}
    return xr.Dataset(arrays, coords, {"num_samples": n, "to": depths, "num_depths": depths + 1}), np.asarray(means)


def test_the_structure_of_a_store_is_that_of_its_matrices_and_angles_are_those_prescribed():
    ds, means = stored()
    found = transport_structures(ds)
    for depth in range(5):
        one = transport_structure(*(ds[name].values[depth] for name in ARRAYS))
        np.testing.assert_allclose(found["residual_singular_value"][depth], one.residual_singular_values)
        assert float(found["resolved"][depth]) == one.resolved >= 3
    truth = np.linalg.norm(means, axis=(1, 2))
    assert (np.abs(found["norm"] - truth) < found["norm_error"]).all()
    assert (np.abs(found["alpha"] - np.trace(means, axis1=1, axis2=2) / 16) < 5 * found["alpha_error"]).all()
    np.testing.assert_allclose(found["overlap"][:4], np.cos(0.2) ** 2, atol=0.05)
    assert float(found["directions"][0]) == 2
    assert np.isnan(found["overlap"][4])
    rows = {metric.name: metric for metric in summarize(ds)}
    assert rows["transport_overlap"].value == pytest.approx(float(found["overlap"][:4].mean()))
    assert "undecided" in rows["transport_growth_rate"].note or "BIC" in rows["transport_growth_rate"].note


def test_noise_alone_has_no_directions_to_compare():
    ds, _ = stored(seed=1, signal=(0, 0, 0), width=5.0)
    found = transport_structures(ds)
    assert (found["resolved"] <= 3).all()
    assert (np.abs(found["noise_share"] - 1) < 0.3).all()
    ds["transport_noise"] = ds["transport_noise"] * 1e-9 + 0  # a draw that vanished
    assert np.isnan(transport_structures(ds)["resolved"]).all()


def test_a_file_without_errors_and_narrower_matrices():
    rng = np.random.default_rng(0)
    J = rng.standard_normal((2, 3, 4))
    J[0, :, 3] = np.nan
    coords = {"depth": [0, 2], "columns": ("depth", [3, 4])}
    ds = xr.Dataset({"transport": (("depth", "row", "column"), J)}, coords, {"num_samples": 3, "to": "logits"})
    found = transport_structures(ds)
    np.testing.assert_allclose(found["singular_value"][0], np.linalg.svd(J[0, :, :3], compute_uv=False))
    assert np.isnan(found["noise_share"]).all()
    assert np.isnan(found["alpha"][1])
    assert np.isnan(found["overlap"]).all()
    assert {metric.name for metric in summarize(ds)} == {
        "transport_norm",
        "transport_identity_share",
        "transport_log_determinant",
        "transport_noise_share",
        "transport_effective_rank",
        "transport_stable_rank",
        "transport_resolved",
        "transport_overlap",
    }
    with pytest.raises(InputError, match="without transports"):
        transport_structures(xr.Dataset())
