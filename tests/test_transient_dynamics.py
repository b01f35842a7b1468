"""The theory of the paper on transient dynamics: each equation against the network that it describes."""

import pytest
import torch

from resdyn.errors import InputError
from resdyn.nets import LogisticResNet
from resdyn.nets.logistic import layer_map
from resdyn.papers.transient_dynamics import theory


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return LogisticResNet(in_features=6, width=7, depth=5, classes=3, shared=True).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def residuals(net):
    return torch.stack([y for _, y in net.walk(net.input_map(random(4, 6)))])


def test_the_layers_map_is_the_network_exactly(net, residuals):
    W = layer_map(net.blocks[0]).weight
    torch.testing.assert_close(theory.residual_map(residuals[:-1], W), residuals[1:], rtol=0, atol=1e-14)


def refined(net, x, steps):
    """x after one unit of time in `steps` Euler steps of dx/dt = f(W x + b), and its residuals on the way."""
    layer, ys = layer_map(net.blocks[0]), []
    for _ in range(steps + 1):
        ys.append(torch.sigmoid(layer(x)))
        x = x + ys[-1] / steps
    return torch.stack(ys)


def test_equations_3_and_5_are_the_limit_of_small_steps(net):
    W, x, eta = layer_map(net.blocks[0]).weight, random(4, 7, seed=1), 0.3 * random(4, 7, seed=2)
    for_flow, for_noise = [], []
    for steps in (100, 200):
        y, noisy = refined(net, x, steps), refined(net, x + eta, steps)
        xi = noisy - y
        for_flow.append(((y[1] - y[0]) * steps - theory.residual_flow(y[0], W)).abs().max())
        for_noise.append(((xi[1] - xi[0]) * steps - theory.noise_flow(y[0], xi[0], W)).abs().max())
    assert for_flow[0] / for_flow[1] == pytest.approx(2, rel=0.05)
    assert for_noise[0] / for_noise[1] == pytest.approx(2, rel=0.05)


def test_weights_that_change_add_their_rate_times_the_state():
    W, rate, b, x, h = random(5, 5), random(5, 5, seed=1), random(5, seed=2), random(3, 5, seed=3), 1e-6
    y = torch.sigmoid(x @ W.T + b)
    later = torch.sigmoid((x + h * y) @ (W + h * rate).T + b)
    torch.testing.assert_close((later - y) / h, theory.residual_flow_free(y, x, W, rate), rtol=0, atol=1e-5)
    torch.testing.assert_close(theory.residual_flow_free(y, x, W, 0 * W), theory.residual_flow(y, W))


def test_all_lines_of_equation_5_are_one_and_equation_4_is_their_sum_with_equation_3():
    y, xi, W = random(3, 5).sigmoid(), random(3, 5, seed=1), random(5, 5, seed=2)
    first = theory.noise_flow(y, xi, W)
    torch.testing.assert_close(first, theory.noise_flow_last_line(y, xi, W))
    torch.testing.assert_close(first + theory.residual_flow(y, W), theory.residual_flow(y + xi, W))


@pytest.mark.parametrize(("order", "ratio"), [(1, 4), (2, 8)])
@pytest.mark.parametrize("skip", [True, False])
def test_noise_in_a_layer_is_right_to_its_order(net, skip, order, ratio):
    torch.manual_seed(1)
    layer = layer_map(LogisticResNet(6, width=7, depth=1, skip=skip).double().requires_grad_(False).blocks[0])
    x, eta, errors = random(4, 7).sigmoid(), random(4, 7, seed=1), []
    y_next = torch.sigmoid(layer(x))
    for amplitude in (2e-3, 1e-3):
        measured = torch.sigmoid(layer(x + amplitude * eta)) - y_next
        predicted = theory.layer_noise(y_next, amplitude * eta @ layer.weight.T, order)
        errors.append(float((measured - predicted).norm()))
    assert errors[0] / errors[1] == pytest.approx(ratio, rel=0.05)


def test_equations_7_and_8_as_printed_do_not_describe_a_perceptron():
    torch.manual_seed(1)
    layer = layer_map(LogisticResNet(6, width=7, depth=1, skip=False).double().requires_grad_(False).blocks[0])
    y, xi = random(4, 7).sigmoid(), 1e-4 * random(4, 7, seed=1)
    y_next = torch.sigmoid(layer(y))
    measured = torch.sigmoid(layer(y + xi)) - y_next - xi
    for order in (1, 2):
        right = theory.layer_noise(y_next, xi @ layer.weight.T, order) - xi
        assert float((right - measured).norm() / measured.norm()) < 1e-3
        printed = theory.printed_mlp_noise_flow(y_next, xi, order)
        assert float((printed - measured).norm() / measured.norm()) > 0.3


def test_fixed_points_are_fixed_at_most_3_to_the_n_and_stability_is_what_simulation_shows():
    W = random(4, 4, seed=5)
    found = theory.fixed_points(W)
    assert 16 <= len(found) <= 81  # every corner is one
    for point in found:
        torch.testing.assert_close(theory.residual_flow(point.y, W), torch.zeros(4, dtype=torch.float64))
        if theory.stability(point.y, W).real.abs().min() < 1e-9:
            continue  # the origin: the linearisation says nothing
        y = (point.y + 1e-6 * random(4, seed=6).abs() * (1 - 2 * point.y).sign()).clamp(1e-12, 1 - 1e-12)
        for _ in range(4000):
            y = theory.residual_map(y, W)
        assert bool((y - point.y).abs().max() < 1e-3) == point.stable_layers
        assert (theory.stability(point.y, W).real.max() < 0) == point.stable
        assert point.stable or not point.stable_layers


def test_the_layers_map_can_oscillate_where_the_flow_settles():
    """An interior point with mu = -3: stable in continuous time, not for layers of step 1."""
    W = torch.tensor([[-12.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([0.5, 1.0], dtype=torch.float64)
    W[0, 1] = 6.0
    (point,) = [p for p in theory.fixed_points(W) if torch.allclose(p.y, y)]
    assert (point.stable, point.stable_layers) == (True, False)


def test_too_many_neurons_for_all_fixed_points_are_refused():
    with pytest.raises(InputError, match="got 11 neurons"):
        theory.fixed_points(torch.eye(11))
