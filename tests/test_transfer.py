"""The map T: exact on state dicts and models of any shape, and refused by name where there is none."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resdyn import find_stream, to_plain, to_residual
from resdyn.errors import ComputationError, InputError
from resdyn.interventions.transfer import to_plain_state, to_residual_state, unit_layers
from resdyn.interventions.transfer.units import skip_of
from resdyn.nets import ResidualMLP, SimplifiedNet
from resdyn.nets.unit_skip import ResidualLayer, identity_kernel, unit_skip

SMALL = {"layers": 8, "width": 3, "image_size": 8}


class Own(nn.Module):
    """A stranger's network: its own code adds the skips."""

    def __init__(self, depth=3, width=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        h = torch.relu(self.stem(x))
        for layer in self.layers:
            h = torch.relu(h + layer(h))
        return self.head(h.mean((2, 3)))


class Dense(nn.Module):
    def __init__(self, *widths):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def test_the_identity_kernel_is_one_at_the_centre_of_the_diagonal():
    rho = identity_kernel(torch.empty(3, 2, 3, 5))
    assert rho.sum() == 2
    assert rho[0, 0, 1, 2] == rho[1, 1, 1, 2] == 1
    assert torch.equal(identity_kernel(torch.empty(2, 3)), torch.eye(3)[:2])


@given(
    dims=st.integers(0, 3),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    halves=st.tuples(*[st.integers(0, 2)] * 3),
    strides=st.tuples(*[st.integers(1, 3)] * 3),
    dilation=st.integers(1, 2),
    depthwise=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=80)
def test_a_layer_of_t_equals_the_layer_and_its_unit_skip(
    dims, channels, halves, strides, dilation, depthwise, bias, seed
):
    torch.manual_seed(seed)
    layer, x = random_layer(dims, channels, halves, strides, dilation, depthwise, bias)
    groups = getattr(layer, "groups", 1)
    residual = layer(x) + skip_of(layer)(x)
    state = to_plain_state(layer.state_dict(), {"weight": groups})
    back = to_residual_state(state, {"weight": groups})
    torch.testing.assert_close(back["weight"], layer.weight.detach(), rtol=0, atol=2e-16)
    layer.load_state_dict(state)
    torch.testing.assert_close(layer(x), residual, rtol=1e-12, atol=1e-12)


def random_layer(dims, channels, halves, strides, dilation, depthwise, bias):
    inputs, outputs = channels if not (depthwise and dims) else (channels[0], channels[0])
    if dims == 0:
        return nn.Linear(inputs, outputs, bias=bias).double(), torch.randn(4, inputs, dtype=torch.float64)
    kernel = tuple(2 * half + 1 for half in halves[:dims])
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    layer = kind(
        inputs,
        outputs,
        kernel,
        tuple(strides[:dims]),
        tuple(dilation * half for half in halves[:dims]),
        dilation,
        groups=inputs if depthwise else 1,
        bias=bias,
    )
    return layer.double(), torch.randn(2, inputs, *(5,) * dims, dtype=torch.float64)


@given(
    layers=st.sampled_from([5, 8, 11]),
    width=st.integers(1, 4),
    size=st.sampled_from([4, 8, 12]),
    seed=st.integers(0, 99),
)
@settings(max_examples=6)
def test_a_network_and_its_twin_are_one_function(layers, width, size, seed):
    torch.manual_seed(seed)
    net = SimplifiedNet(layers, width=width, image_size=size).double().eval()
    plain = to_plain(net)
    x = torch.randn(3, 3, size, size, dtype=torch.float64)
    torch.testing.assert_close(plain(x), net(x), rtol=1e-11, atol=1e-12)
    assert all(block.shortcut is None for block in plain.blocks)
    weights = [f"blocks.{i}.branch.weight" for i in range(len(net.blocks))]
    expected = to_plain_state(net.state_dict(), weights)
    assert all(torch.equal(expected[name], value) for name, value in plain.state_dict().items())
    again = to_residual(plain)
    torch.testing.assert_close(again(x), net(x), rtol=1e-11, atol=1e-12)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[name], rtol=0, atol=2e-16)


def test_the_given_model_stays_as_it_was():
    net = SimplifiedNet(**SMALL)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    to_plain(net)
    assert net.training
    assert all(block.shortcut is not None for block in net.blocks)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_the_twin_of_a_strangers_network_is_its_code_without_the_sums():
    net, x = Own().double().eval(), torch.randn(6, 3, 8, 8, dtype=torch.float64)
    plain = to_plain(net, x[:2])
    torch.testing.assert_close(plain(x), net(x), rtol=1e-11, atol=1e-12)
    assert set(plain.state_dict()) == set(net.state_dict())
    assert "add" not in plain.code
    assert [layer.path for layer in unit_layers(find_stream(net, x[:1]))] == ["layers.0", "layers.1", "layers.2"]


def test_layers_of_a_plain_network_get_skips_by_name_and_lose_them_again():
    net, x = Dense(6, 4, 4, 7).double().eval(), torch.randn(5, 6, dtype=torch.float64)
    residual = to_residual(net, x, layers=["layers.0", "layers.1", "layers.2"])
    torch.testing.assert_close(residual(x), net(x), rtol=1e-12, atol=1e-12)
    assert all(isinstance(layer, ResidualLayer) for layer in residual.layers)
    plain = to_plain(residual, x)
    assert set(plain.state_dict()) == set(net.state_dict())
    torch.testing.assert_close(plain(x), net(x), rtol=1e-12, atol=1e-12)


def test_blocks_of_two_layers_are_refused_by_name():
    with pytest.raises(ComputationError, match=r"block 0 \(blocks.0.*\): its branch has 2 weighted operations"):
        to_plain(ResidualMLP(width=6, depth=2).eval())


def test_a_skip_that_is_not_the_layers_own_is_refused():
    class Elsewhere(Own):
        def forward(self, x):
            h = torch.relu(self.stem(x))
            for layer in self.layers:
                h = torch.relu(0.5 * h + layer(h))
            return self.head(h.mean((2, 3)))

    net = Elsewhere().eval()
    with pytest.raises(ComputationError, match="not the layer's unit skip"):
        to_plain(net, torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(4, 4, 2, padding=1), "even one has no centre"),
        (nn.Conv2d(4, 4, 3), "moves the kernel's centre"),
        (nn.Conv2d(4, 8, 3, padding=1, groups=2), "as many channels out as in"),
        (nn.ConvTranspose2d(4, 4, 3, padding=1), "neither a convolution nor a linear"),
    ],
)
def test_layers_without_a_unit_skip_are_refused_with_the_reason(layer, reason):
    net = nn.Sequential(layer, nn.ReLU())
    with pytest.raises(InputError, match=reason):
        to_residual(net, torch.randn(1, 4, 8, 8), layers=["0"])


def test_what_cannot_be_done_says_what_to_give():
    with pytest.raises(InputError, match="pass the layers that get one"):
        to_residual(Dense(3, 3), torch.randn(1, 3))
    with pytest.raises(InputError, match="pass an example input"):
        to_plain(Own())
    with pytest.raises(InputError, match="'w', which is not in the state dict"):
        to_plain_state({"weight": torch.eye(2)}, ["w"])
    with pytest.raises(InputError, match="twice as many outputs"):
        unit_skip(3, 5, (2, 2), repeat=True)
