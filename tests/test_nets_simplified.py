"""The simplified networks: depth, unit skips where channels double, initialisation, dominant kernels."""

import pytest
import torch

from resdyn import find_stream
from resdyn.errors import InputError
from resdyn.nets import NETS, SimplifiedNet, cifar_resnet

SMALL = {"layers": 8, "width": 4, "image_size": 8}


@pytest.mark.parametrize("layers", [20, 32, 44])
def test_depth_counts_trainable_layers_and_both_kinds_have_equal_weights(layers):
    plain, residual = NETS[f"simplified_plain{layers}"](), NETS[f"simplified_resnet{layers}"]()
    weights = [p for name, p in plain.named_parameters() if name.endswith("weight")]
    assert len(weights) == layers
    assert [p.shape for p in plain.parameters()] == [p.shape for p in residual.parameters()]
    assert [tuple(p.shape) for p in weights[:2]] == [(16, 3, 3, 3), (16, 16, 3, 3)]
    assert residual.features(torch.rand(1, 3, 32, 32)).shape == (1, 64)


def test_a_residual_net_follows_its_equation_also_where_channels_double():
    net = SimplifiedNet(**SMALL).double().eval()
    h = net.input_map(torch.randn(2, 3, 8, 8, dtype=torch.float64))
    for block in net.blocks:
        kernel = block.branch
        z = kernel(h)
        unit = torch.zeros_like(z)
        unit[:, : h.shape[1]] = h[:, :, :: kernel.stride[0], :: kernel.stride[0]]
        torch.testing.assert_close(block(h), (z + unit).relu())
        h = block(h)
    assert h.shape == (2, 16, 2, 2)


def test_its_stream_has_a_block_for_every_convolution_but_the_first():
    stream = find_stream(SimplifiedNet(**SMALL).eval(), torch.randn(1, 3, 8, 8))
    assert [block.skip_kind for block in stream] == ["identity"] * 2 + ["projection", "identity"] * 2
    assert {block.gate_kind for block in stream} == {"relu"}


@pytest.mark.parametrize(("skip", "std"), [(False, (2 / 144) ** 0.5), (True, 1 / 144)])
def test_weights_are_drawn_as_in_equations_3_and_4(skip, std):
    torch.manual_seed(0)
    net = SimplifiedNet(44, skip=skip)
    weights = torch.cat([block.branch.weight.detach().flatten() for block in net.blocks[:14]])
    assert float(weights.std()) == pytest.approx(std, rel=0.02)
    assert abs(float(weights.mean())) < 4 * std / len(weights) ** 0.5
    assert all(not block.branch.bias.any() for block in net.blocks)


@pytest.mark.parametrize("kernels", ["dominant", "half"])
def test_dominant_kernels_keep_every_channel_on_its_own_path(kernels):
    net = SimplifiedNet(11, width=4, image_size=8, kernels=kernels).double().eval()
    h = torch.rand(1, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    out = net.blocks(h).mean((2, 3))[0]
    (grad,) = torch.autograd.grad(out[1], h, retain_graph=True)
    touched = grad.abs().sum((0, 2, 3)) > 0
    assert touched.tolist() == [False, True, False, False]
    (grad,) = torch.autograd.grad(out[1 + 4], h, allow_unused=True) if kernels == "dominant" else (None,)
    assert grad is None or (grad.abs().sum((0, 2, 3)) > 0).tolist() == [False, True, False, False]


def test_a_free_lower_half_mixes_channels_and_has_no_skip_there():
    net = SimplifiedNet(5, width=4, image_size=8, kernels="half").double().eval()
    widening = net.blocks[1]
    assert widening.branch.lower.weight.shape == (4, 4, 3, 3)
    h = torch.rand(1, 4, 8, 8, dtype=torch.float64)
    assert not widening.shortcut(h)[:, 4:].any()


def test_the_plain_twin_of_the_fledged_net_has_its_parameters_and_no_skips():
    torch.manual_seed(0)
    plain = cifar_resnet(8, skip=False, width=4).eval()
    torch.manual_seed(0)
    residual = cifar_resnet(8, width=4).eval()
    h = torch.rand(2, 4, 6, 6)
    a, b = plain.layer1[0], residual.layer1[0]
    branch = a.bn2(a.conv2(a.bn1(a.conv1(h)).relu()))
    torch.testing.assert_close(a(h), branch.relu())
    torch.testing.assert_close(b(h), (h + branch).relu())


@pytest.mark.parametrize("options", [{"layers": 21}, {"init": "xavier"}, {"kernels": "dominant", "skip": False}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="expected"):
        SimplifiedNet(**options)
