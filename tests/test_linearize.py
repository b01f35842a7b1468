"""Traced derivatives: the linear operations and nothing else, with what only scales merged into one product."""

from __future__ import annotations

from collections import Counter, OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import resdyn
from resdyn.stream import linearize
from resdyn.stream.linearize import BoundFunction, LinearMap, linear_map, plain_product
from resdyn.stream.ops import operation

DIRECTIONS = ("forward", "reverse")


def operations(function, h: Tensor, direction: str) -> Counter:
    """How often each operation stands in a product with the derivative at h."""
    bound = function if isinstance(function, BoundFunction) else BoundFunction(function, ())
    graph = LinearMap(bound, h, direction)._linear.graph
    return Counter(operation(node) for node in graph.nodes if node.op == "call_function")


def scaled_relu(x: Tensor) -> Tensor:
    return torch.relu(x * torch.linspace(-1, 2, x.shape[-1], dtype=x.dtype) + 0.3)


def mixed(x: Tensor) -> Tensor:
    positive = torch.where(x > 0, x.sin() * 3, -x / 2 + x.exp())
    return (positive - x.tanh()).masked_fill(x > 1.5, 7.0) * (x - 2)


ELEMENTWISE = {
    "scaled relu": scaled_relu,
    "gelu": F.gelu,
    "gelu by hand": lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.045 * x**3))),
    "silu, gated": lambda x: F.silu(x) * x.sigmoid(),
    "leaky": lambda x: F.elu(F.leaky_relu(x, 0.1)) + F.hardtanh(x),
    "softplus": lambda x: F.softplus(x) - F.mish(x) + F.logsigmoid(x),
    "mixed": mixed,
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("function", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_an_elementwise_map_is_one_product(function, direction):
    h = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(1, 3, 4)
    assert operations(function, h, direction) == {"mul": 1}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("function", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_merged_products_are_those_of_the_plain_derivative_at_any_state(function, direction):
    generator = torch.Generator().manual_seed(0)
    first, h, v = torch.randn(3, 1, 3, 4, dtype=torch.float64, generator=generator)
    bound = BoundFunction(function, ())
    merged = LinearMap(bound, first, direction).at(h, ())
    torch.testing.assert_close(merged(v), plain_product(bound, h, direction)(v))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_two_convolutions_with_batch_norm_and_relu_are_two_convolutions_and_two_products(direction, bias):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = (nn.Conv2d(4, 4, 3, padding=1, bias=bias) for _ in range(2))
            self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x):
            return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))

    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    block = resdyn.find_stream(nn.Sequential(Block(), Block()).double().eval(), x)[0]
    found = operations(block.function("gated", x), x, direction)
    convolution = "convolution" if direction == "forward" else "convolution_backward"
    assert {name: count for name, count in found.items() if name != "getitem"} == {convolution: 2, "mul": 2}


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU()])
def test_the_range_of_a_hidden_layer_is_that_of_its_units_that_are_on(activation):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.outside = nn.Linear(6, 9), nn.Linear(9, 6)

        def forward(self, x):
            return x + self.outside(activation(self.inside(x)))

    torch.manual_seed(1)
    model, x = nn.Sequential(Block(), Block()).double().eval(), torch.randn(1, 6, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    states = stream.states(x)
    jacobian = stream.jacobian(1, states, kind="block")
    columns = jacobian.columns_after_waist(6)
    if isinstance(activation, nn.GELU):
        assert columns is None
        return
    on = int((model[1].inside(states[1]) > 0).sum())
    assert 0 < on < 6
    assert columns.shape == (6, on)
    assert jacobian.columns_after_waist(on - 1) is None
    rest = jacobian.to_dense() - torch.eye(6, dtype=torch.float64)
    inside = columns @ torch.linalg.lstsq(columns, rest).solution
    torch.testing.assert_close(inside, rest)


def test_what_is_used_on_the_way_as_well_keeps_its_own_product():
    def forked(x: Tensor) -> Tensor:
        inner = x.sin() * 2
        return torch.cat([inner, inner.exp()])

    h = torch.randn(2, 3, dtype=torch.float64)
    assert operations(forked, h, "forward") == {"mul": 2, "cat": 1}
    bound = BoundFunction(forked, ())
    torch.testing.assert_close(LinearMap(bound, h, "forward").at(h, ())(h), plain_product(bound, h, "forward")(h))


def test_a_sum_over_elements_is_no_multiple():
    def normed(x: Tensor) -> Tensor:
        return x * x.square().mean(-1, keepdim=True).rsqrt()

    h = torch.randn(2, 3, dtype=torch.float64)
    for direction in DIRECTIONS:
        bound = BoundFunction(normed, ())
        merged = LinearMap(bound, h, direction).at(h, ())
        torch.testing.assert_close(merged(h + 1), plain_product(bound, h, direction)(h + 1))


def test_a_derivative_that_is_not_finite_is_left_to_those_who_use_it():
    def root(x: Tensor) -> Tensor:
        return x * x.square().sum(-1, keepdim=True).sqrt().sqrt()

    zero = torch.zeros(1, 3, dtype=torch.float64)
    for direction in DIRECTIONS:
        assert linear_map(BoundFunction(root, ()), zero, direction) is None


class Leaky(nn.Module):
    """Blocks h + leaky_relu(W h) that differ in weights, and in the slope where it is given."""

    def __init__(self, slopes):
        super().__init__()
        self.slopes = slopes
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in slopes)

    def forward(self, x):
        for layer, slope in zip(self.layers, self.slopes, strict=True):
            x = x + F.leaky_relu(layer(x), slope)
        return x


@pytest.mark.parametrize(("slopes", "traces"), [((0.5, 0.5, 0.5), 1), ((0.5, 0.25, 0.5), 2)])
def test_blocks_that_differ_in_values_alone_share_a_trace_and_have_their_own_products(monkeypatch, slopes, traces):
    monkeypatch.setattr(linearize, "_TRACES", OrderedDict())
    made, plain = [], linearize.LinearMap.__init__
    monkeypatch.setattr(linearize.LinearMap, "__init__", lambda self, *given: made.append(1) or plain(self, *given))
    torch.manual_seed(3)
    net = Leaky(slopes).double().eval()
    stream = resdyn.find_stream(net, torch.randn(1, 6).double())
    made.clear()
    h = torch.randn(6, dtype=torch.float64)
    for block, layer, slope in zip(stream, net.layers, slopes, strict=True):
        J = stream.jacobian(block.index, h, kind="branch")
        active = torch.where(layer(h) > 0, 1.0, slope)
        assert torch.allclose(J @ torch.eye(6, dtype=torch.float64), active[:, None] * layer.weight)
    assert len(made) == traces
