"""Sensitivity of the output to the state at every depth: against autograd, finite differences and dense products."""

import pytest
import torch

from resdyn import find_stream
from resdyn.errors import InputError
from resdyn.nets import LogisticResNet, cifar_resnet
from resdyn.nets.logistic import layer_map
from resdyn.stream import log_determinants, sensitivity
from resdyn.stream.sensitivities import step_jacobian


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return LogisticResNet(in_features=6, width=5, depth=4, classes=3).double().eval()


@pytest.fixture(scope="module")
def found(net):
    u = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    stream = find_stream(net, u)
    return stream, stream.states(u)


def test_it_is_the_product_of_the_layers_in_their_order(net, found):
    stream, states = found
    product = net.classifier.weight.detach()
    for s in (3, 2, 1, 0):
        x, layer = states[s][0], layer_map(net.blocks[s])
        y = torch.sigmoid(layer(x)).detach()
        product = product @ (torch.eye(5, dtype=torch.float64) + (y * (1 - y))[:, None] * layer.weight.detach())
        torch.testing.assert_close(sensitivity(stream, states)[s], product)


def test_the_effect_of_a_changed_residual_is_the_product_without_its_own_layer(net, found):
    """d C / d y(s) by differences: x(s) = x(s-1) + y(s), so it is S_s; with I + M(s) as printed it is not."""
    stream, states = found
    change = 1e-6 * torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def rest(x):
        for block in net.blocks[2:]:
            x = block(x)
        return net.classifier(x).detach()

    measured = rest(states[2] + change)[0] - rest(states[2])[0]
    own, printed = sensitivity(stream, states)[2], sensitivity(stream, states)[1]
    torch.testing.assert_close(measured, own @ change, rtol=1e-5, atol=0)
    assert float((measured - printed @ change).norm()) > 0.01 * float(measured.norm())


def test_log_determinants_are_those_of_the_products(found):
    stream, states = found
    logs, product = log_determinants(stream, states), torch.eye(5, dtype=torch.float64)
    assert logs.values[4] == 0
    for s in (3, 2, 1, 0):
        product = product @ step_jacobian(stream, s, states).matmat(torch.eye(5, dtype=torch.float64))
        assert logs.values[s] == pytest.approx(float(product.det().abs().log()))
        assert logs.signs[s] == product.det().sign()


def test_it_passes_through_changes_of_stage():
    torch.manual_seed(0)
    net, x = cifar_resnet(8).eval(), torch.randn(1, 3, 32, 32)
    stream = find_stream(net, x)
    states = stream.states(x)
    found = sensitivity(stream, states)
    h = states[0].clone().requires_grad_()
    out = net.linear(net.layer3(net.layer2(net.layer1(h))).mean(dim=(2, 3)))
    (expected,) = torch.autograd.grad(out[0, 4], h)
    torch.testing.assert_close(found[0][4], expected.flatten(), rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="expected at most 4096"):
        log_determinants(stream, states)
    with pytest.raises(InputError, match="there is no step 9"):
        step_jacobian(stream, 9, states)
