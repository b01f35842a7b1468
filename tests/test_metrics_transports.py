"""Structure of transports: from prescribed spectra, and what noise alone shows."""

import numpy as np
import pytest

from resdyn.errors import InputError
from resdyn.metrics import transport_angles, transport_structure


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
