"""Dominant gradient flows: ratios and shares, Theta against dense Jacobians, the trivial case and its formulas."""

import numpy as np
import pytest
import torch
from scipy import stats

from resdyn import metrics
from resdyn.errors import InputError
from resdyn.nets import SimplifiedNet
from resdyn.papers.flows import gradient_flows
from resdyn.papers.identity_connections.probability import phi_integral
from resdyn.papers.identity_connections.simulation import TrivialCase, dominant_rows, simulate, theta
from resdyn.papers.identity_connections.trivial import expected


def test_a_ratio_leaves_out_what_no_gradient_reaches():
    own, total = [[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]], [[3.0, 0.0, 0.5], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(metrics.dominance_ratio(own, total), [2.0, 0.0])
    assert metrics.dominance_ratio([[1.0]], [[1.0]])[0] == np.inf
    assert metrics.dominant_fraction([[2.0, 0.0, np.inf, 1.0]]) == 0.5
    with pytest.raises(InputError, match="two equal shapes"):
        metrics.dominance_ratio([1.0], [[1.0]])


def test_flows_are_those_of_the_dense_jacobian():
    torch.manual_seed(0)
    net = SimplifiedNet(8, width=2, image_size=8).double().eval()
    x, labels = torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 3, 9])
    flows = gradient_flows(net, x, labels, net.layer_paths)
    for n in range(3):
        h = [net.input_map(x[n : n + 1]).detach()]
        for block in net.blocks:
            h.append(block(h[-1]).detach())
        a = h[-1].mean((2, 3))
        g = torch.autograd.functional.jacobian(
            lambda a, label=labels[n : n + 1]: torch.nn.functional.cross_entropy(net.classifier(a), label), a
        )[0]
        np.testing.assert_allclose(flows.final[n], g, rtol=1e-9)
        for k, state in enumerate(h):
            tail = torch.autograd.functional.jacobian(lambda s, k=k: net.blocks[k:](s).mean((2, 3))[0], state)[:, 0]
            theta_ijp = (tail * g[:, None, None, None]).flatten(2).transpose(0, 1)  # (i, j, p)
            for i, ratio in enumerate(flows.ratio[k][n]):
                own, others = theta_ijp[i, i], theta_ijp[i].sum(0) - theta_ijp[i, i]
                reached = (own != 0) | (others.abs() > 1e-18)
                terms = (own.abs() / others.abs())[reached]
                if k < len(h) - 1 and len(terms):
                    np.testing.assert_allclose(ratio, terms.mean(), rtol=1e-6)
            np.testing.assert_allclose(flows.fraction[k, n], (flows.ratio[k][n] > 1).mean())


def test_a_network_of_dominant_kernels_has_nothing_but_dominant_flows():
    torch.manual_seed(0)
    net = SimplifiedNet(8, width=2, image_size=8, kernels="dominant").double().eval()
    x, labels = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([1, 2])
    fraction = gradient_flows(net, x, labels, net.layer_paths).fraction
    group = fraction[len(net.blocks) // 3 * 2 + 1 :]  # the last group: below it each channel feeds two or four
    assert (group >= 0.5).all()
    full = gradient_flows(SimplifiedNet(8, width=2, image_size=8, skip=False).double(), x, labels, net.layer_paths)
    assert group.mean() > full.fraction[len(net.blocks) // 3 * 2 + 1 : -1].mean()


def test_a_layer_wider_than_the_final_activation_is_refused():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2), torch.nn.Linear(2, 3))
    with pytest.raises(InputError, match="a layer of 8 channels"):
        gradient_flows(net, torch.randn(2, 4), torch.tensor([0, 1]), ["0"], "2")


@pytest.mark.parametrize("ratio", [0.01, 0.3, 1.0, 2.0, 50.0])
def test_phi_is_its_closed_form_the_papers_integral_and_what_is_drawn(ratio):
    assert float(metrics.phi(ratio)) == pytest.approx(phi_integral(ratio), abs=1e-9)
    x, y = np.random.default_rng(0).standard_normal((2, 200_000))
    share = float((np.abs(ratio * x) > np.abs(y)).mean())
    assert abs(share - metrics.phi(ratio)) < 4 * (share * (1 - share) / 200_000) ** 0.5
    cauchy = stats.cauchy.cdf(ratio) - stats.cauchy.cdf(-ratio)
    assert float(metrics.phi(ratio)) == pytest.approx(cauchy)


def test_the_logistic_approximation_is_within_one_per_cent():
    ratios = np.geomspace(1e-4, 1e4, 401)
    gap = np.abs(metrics.phi_logistic(ratios) - metrics.phi(ratios))
    assert 0.005 < gap.max() < 0.01
    assert metrics.phi_logistic(1.0) == 0.5


def test_theta_is_the_product_that_defines_it():
    """With A = 0 the residual product is that of the coins; with p = 1 the plain one is a product of Gaussians."""
    case = TrivialCase(n=4, epsilon=0.0, p=0.5)
    generator = torch.Generator().manual_seed(0)
    product = theta(case, True, 2000, generator)
    assert not (product - torch.diag_embed(product.diagonal(dim1=1, dim2=2))).any()
    alive = float((product.diagonal(dim1=1, dim2=2) != 0).double().mean())
    assert abs(alive - 0.5**5) < 4 * (0.5**5 / 8000) ** 0.5
    assert dominant_rows(torch.tensor([[[2.0, 1.0], [0.0, 0.0]]])).tolist() == [[True, False]]


@pytest.mark.parametrize(
    "case",
    [
        TrivialCase(),
        TrivialCase(p=0.8),
        TrivialCase(p=1.0, sigma_a=0.2),
        TrivialCase(layer=0, p=0.97, sigma_a=0.3),
        TrivialCase(n=60, layer=8, sigma_a=0.3),
        TrivialCase(sigma_v=3.0),
    ],
)
def test_the_derived_approximation_is_what_the_simulation_finds(case):
    found = simulate(case, True, 20_000)
    assert abs(found.value - expected(case)) < 0.006 + 4 * found.error


def test_the_printed_general_case_is_off_where_noise_is_felt():
    """p^(2k) squares a probability whose indicator is its own square; the conclusion drops p' altogether."""
    case = TrivialCase(epsilon=1.0, sigma_a=0.05, layer=0, p=0.95)
    found = simulate(case, True, 20_000)
    errors = {formula: abs(found.value - expected(case, formula)) for formula in ("derived", "printed", "concluded")}
    assert errors["derived"] < 0.006
    assert errors["printed"] > 3 * errors["derived"]
    assert errors["concluded"] > 3 * errors["derived"]


def test_the_number_of_open_paths_is_counted_by_coins():
    """R_i of one row, drawn to first order: its variance follows sum p^k, not sum p^(2k)."""
    rng, p, steps, n, draws = np.random.default_rng(0), 0.7, 5, 6, 100_000
    coins = rng.random((draws, steps, n)) < p
    open_from = np.flip(np.cumprod(np.flip(coins, 1), 1), 1)
    R = (rng.standard_normal((draws, steps, n)) * open_from * rng.standard_normal((draws, 1, n))).sum((1, 2))
    q = sum(p**k for k in range(1, steps + 1))
    assert R.var() == pytest.approx(n * q, rel=0.02)


def test_sigma_v_and_the_scale_of_plain_kernels_do_not_matter():
    plain = [simulate(TrivialCase(sigma_a=a, sigma_v=v), False, 4000).value for a, v in ((0.01, 0.1), (2.0, 5.0))]
    assert plain[0] == pytest.approx(plain[1], abs=1e-3)
    assert simulate(TrivialCase(p=0.0), True, 100).value == 0
