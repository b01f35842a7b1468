"""Gates: what follows the sum of a block belongs to it, in the last block too, whatever its numbers are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import resdyn


class Step(nn.Module):
    """gate(h + F(h)) for a module or function `gate`."""

    def __init__(self, gate, width=4):
        super().__init__()
        self.inner, self.gate = nn.Linear(width, width), gate

    def forward(self, h):
        return self.gate(h + torch.tanh(self.inner(h)))


def randomised(model):
    """Every parameter and buffer drawn at random, in eval mode: what is 1 or 0 at first hides mistakes."""
    torch.manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point():
            value.data.normal_().add_(0.2)
        if "var" in name:
            value.data.abs_()
    return model.double().eval()


def dense(function, h):
    return torch.autograd.functional.jacobian(lambda z: function(z[None])[0], h)


ACTIVATIONS = {
    "log_sigmoid": nn.LogSigmoid(),
    "softplus": nn.Softplus(),
    "hardswish": nn.Hardswish(),
    "hardtanh": nn.Hardtanh(),
    "mish": nn.Mish(),
    "prelu": nn.PReLU(4),
    "celu": nn.CELU(),
    "selu": nn.SELU(),
    "softsign": nn.Softsign(),
    "tanhshrink": nn.Tanhshrink(),
    "hardshrink": nn.Hardshrink(),
    "softshrink": nn.Softshrink(),
    "threshold": nn.Threshold(0.1, 0.2),
    "rrelu": nn.RReLU(),
    "leaky_relu": nn.LeakyReLU(),
    "expm1": torch.expm1,
    "atan": torch.atan,
    "asinh": torch.asinh,
    "special_erfc": torch.special.erfc,
    "special_ndtr": torch.special.ndtr,
    "sin+pow+add": lambda z: z + torch.sin(z) ** 2,
    "div+tanh+mul": lambda z: 3 * torch.tanh(z / 3),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_elementwise_activation_is_a_gate(name):
    gate = ACTIVATIONS[name]
    model = randomised(nn.Sequential(nn.Linear(4, 4), Step(gate), Step(gate), nn.Linear(4, 2)))
    x = torch.randn(2, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    assert [block.gate_kind for block in stream] == [name, name]
    states = stream.states(x).sample(0)
    torch.testing.assert_close(states[2], model[:3](x[:1]))
    torch.testing.assert_close(stream.jacobian(1, states, "block").to_dense(), dense(model[2], states[1][0]))


def test_a_network_of_elementwise_blocks_alone_keeps_them():
    class Flow(nn.Module):
        def forward(self, h):
            return h + 0.1 * torch.sin(h)

    stream = resdyn.find_stream(nn.Sequential(nn.Linear(4, 4), Flow(), Flow()).eval(), torch.randn(2, 4))
    assert len(stream) == 2


# In torch 2.13 forward and reverse mode differ: 0 and 1 for clamping to one tensor, 1 and the slope for PReLU.
KINKS = {
    "PReLU": nn.PReLU(),
    "PReLU by channel": nn.PReLU(4),
    "ReLU": nn.ReLU(),
    "Hardtanh": nn.Hardtanh(0.0, 1.0),
    "LeakyReLU": nn.LeakyReLU(0.3),
    "abs": torch.abs,
    "clamped from below": lambda z: torch.clamp(z, min=torch.zeros_like(z)),
    "clamped from above": lambda z: torch.clamp_max(z, torch.zeros_like(z)),
    "clamped to a point": lambda z: torch.clamp(z, torch.zeros_like(z), torch.zeros_like(z)),
}


@pytest.mark.parametrize("gate", KINKS.values(), ids=KINKS)
def test_both_products_take_one_side_of_a_kink(gate):
    model, x = nn.Sequential(Step(gate), Step(gate)).double().eval(), torch.zeros(1, 4, dtype=torch.float64)
    for step in model:
        nn.init.zeros_(step.inner.bias)
    stream = resdyn.find_stream(model, x)
    for i, step in enumerate(model):
        jacobian = stream.jacobian(i, stream.states(x), "block")
        torch.testing.assert_close(jacobian.to_dense(), dense(step, x[0]))
        torch.testing.assert_close(jacobian.T.to_dense(), dense(step, x[0]).T)


class Scale(nn.Module):
    def __init__(self, shape=()):
        super().__init__()
        self.register_buffer("scalar", torch.ones(shape))

    def forward(self, z):
        return z * self.scalar


class Layer(nn.Module):
    """Two sums, the second of which `after` follows: a scalar as in Gemma, a norm, a layer scale inside."""

    def __init__(self, after):
        super().__init__()
        self.attention, self.mlp = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
        self.norm, self.after = nn.LayerNorm(4), after

    def forward(self, h):
        h = h + self.attention(self.norm(h))
        return self.after(h + self.mlp(self.norm(h)))


AFTER = {
    "scalar": (Scale, "mul"),
    "per channel": (lambda: Scale((4,)), "mul"),
    "layer norm": (lambda: nn.LayerNorm(4), "layernorm"),
    "norm and scalar": (lambda: nn.Sequential(nn.RMSNorm(4), Scale()), "sequential"),
    "nothing": (nn.Identity, "none"),
}


@pytest.mark.parametrize(("depth", "ends"), [(1, "layer norm"), (2, "none"), (2, "rms norm"), (3, "scalar")])
@pytest.mark.parametrize("name", AFTER)
def test_what_follows_a_layers_last_sum_belongs_to_its_last_block(name, depth, ends):
    make, gate = AFTER[name]
    last = {"none": nn.Identity(), "layer norm": nn.LayerNorm(4), "rms norm": nn.RMSNorm(4), "scalar": Scale()}[ends]
    layers = nn.Sequential(*(Layer(make()) for _ in range(depth)))
    model = randomised(
        nn.ModuleDict({"stem": nn.Linear(4, 4), "layers": layers, "last": last, "head": nn.Linear(4, 3)})
    )
    model = Ordered(model).eval()
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    kinds = [block.gate_kind for block in stream]
    assert kinds[0::2] == ["none"] * depth
    assert all(gate in kind or gate == "sequential" for kind in kinds[1::2])
    states = stream.states(x).sample(0)
    torch.testing.assert_close(states[2 * depth], layers(model.parts["stem"](x[:1])))
    if depth > 1:
        whole = resdyn.find_stream(model, x, granularity="layer")
        torch.testing.assert_close(whole.states(x).sample(0)[depth], states[2 * depth])


class Ordered(nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def forward(self, x):
        for part in self.parts.values():
            x = part(x)
        return x
