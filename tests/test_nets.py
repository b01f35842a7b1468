"""The papers' networks: their equations, shapes, options and names."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from resdyn import find_stream
from resdyn.errors import InputError
from resdyn.nets import NETS, CifarResNet, ResidualCNN, ResidualMLP, ResNet, cifar_resnet
from resdyn.nets.block import ResidualBlock
from resdyn.nets.logistic import LogisticResNet, layer_map


def cifar_weights(layers: int) -> Path:
    if "RESDYN_DATA" not in os.environ:
        pytest.skip("RESDYN_DATA is not set: the CIFAR ResNet weights are looked for beside it")
    path = Path(os.environ["RESDYN_DATA"]).parent / "models" / "cifar_resnet" / f"resnet{layers}.safetensors"
    if not path.exists():
        pytest.skip(f"no weights of ResNet-{layers} beside RESDYN_DATA")
    return path


def with_random_batch_norm(model: nn.Module) -> nn.Module:
    """Batch norms that do something, so that a missing one is seen."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model.eval()


@pytest.mark.parametrize("name", NETS)
def test_every_net_maps_its_input_size_to_ten_logits(name):
    net = NETS[name]().eval()
    with torch.no_grad():
        assert net(torch.rand(2, *net.input_size)).shape == (2, 10)


def test_a_post_activation_mlp_follows_its_equation():
    net = with_random_batch_norm(ResidualMLP(in_features=6, width=5, depth=2, classes=3)).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    linear, (norm, _) = net.input_map[0], net.input_map[1]
    h = norm(x @ linear.weight.T).relu()
    for block in net.blocks:
        f = block.branch
        h = (h + f.norm2(f.norm1(h @ f.map1.weight.T).relu() @ f.map2.weight.T)).relu()
    torch.testing.assert_close(net(x), h @ net.classifier.weight.T + net.classifier.bias)


def test_a_pre_activation_mlp_follows_its_equation():
    net = with_random_batch_norm(ResidualMLP(6, width=5, depth=2, classes=3, preactivation=True)).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    h = net.input_map(x)
    for block in net.blocks:
        f = block.branch
        inner = f.norm2(f.norm1(h).relu() @ f.map1.weight.T).relu()
        h = h + inner @ f.map2.weight.T + f.map2.bias
    torch.testing.assert_close(net(x), net.classifier(net.final[0](h).relu()))


def test_the_twin_without_skip_has_the_same_parameters_and_no_identity_path():
    def made(skip):
        torch.manual_seed(0)
        return ResidualMLP(in_features=6, width=5, depth=1, skip=skip).eval()

    plain, residual = made(skip=False), made(skip=True)
    assert plain.state_dict().keys() == residual.state_dict().keys()
    h = torch.rand(4, 5)
    torch.testing.assert_close(plain.blocks[0](h), residual.blocks[0].branch(h).relu())
    torch.testing.assert_close(residual.blocks[0](h), (h + residual.blocks[0].branch(h)).relu())


@pytest.mark.parametrize("preactivation", [False, True])
def test_without_batch_norm_there_is_none_and_every_map_has_a_bias(preactivation):
    nets = [
        ResidualMLP(width=4, depth=2, batch_norm=False, preactivation=preactivation),
        ResidualCNN(width=2, depth=2, image_size=8, batch_norm=False, preactivation=preactivation),
    ]
    for net in nets:
        assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in net.modules())
        assert all(m.bias is not None for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d))


def test_images_and_flat_vectors_are_the_same_to_an_mlp():
    net = ResidualMLP(in_features=(1, 8, 8), width=4, depth=1).eval()
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(net(x), net(x.flatten(1)))


def states(net, x):
    h, found = net.input_map(x), []
    for block in net.blocks:
        found.append(tuple(h.shape[1:]))
        h = block(h)
    return [*found, tuple(h.shape[1:])]


def test_type_2_keeps_64_channels_at_16x16():
    net = ResidualCNN(depth=2).eval()
    assert states(net, torch.rand(1, 3, 32, 32)) == [(64, 16, 16)] * 3


def test_type_3_has_its_last_half_at_128_channels_and_8x8():
    net = ResidualCNN(depth=4, downsample=True).eval()
    assert states(net, torch.rand(1, 3, 32, 32)) == [(64, 16, 16)] * 3 + [(128, 8, 8)] * 2
    assert isinstance(net.blocks[2], ResidualBlock)
    assert net.blocks[2].shortcut[0].kernel_size == (1, 1)


@pytest.mark.parametrize("layers", [20, 32, 44, 56])
def test_cifar_resnets_have_as_many_weight_layers_as_they_say(layers):
    net = cifar_resnet(layers)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules()) == layers


def test_a_cifar_resnet_of_impossible_depth_is_refused():
    with pytest.raises(ValueError, match=r"got layers=21, expected 6n\+2"):
        cifar_resnet(21)


STAGES = [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


def block_shapes(blocks, expansion=1):
    """(shape_in, shape_out) of every block that tables 10 and 11 of the stiffness paper imply."""
    states = [STAGES[0]]
    for (channels, *size), count in zip(STAGES, blocks, strict=True):
        states += [(channels * expansion, *size)] * count
    return list(pairwise(states))


@pytest.mark.parametrize(
    ("name", "blocks", "expansion", "layers"),
    [
        ("cifar_resnet18", (2, 2, 2, 2), 1, 18),
        ("cifar_resnet34", (3, 4, 6, 3), 1, 34),
        ("cifar_resnet50", (3, 4, 6, 3), 4, 50),
    ],
)
def test_discovery_finds_the_blocks_of_the_nets_of_four_stages(name, blocks, expansion, layers):
    net = with_random_batch_norm(NETS[name]())
    stream = find_stream(net, torch.rand(1, 3, 32, 32))
    assert [(b.shape_in, b.shape_out) for b in stream] == block_shapes(blocks, expansion)
    changing = [b.shape_in != b.shape_out for b in stream]
    assert [b.skip_kind == "identity" for b in stream] == [not change for change in changing]
    projections = sum(changing)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules()) == layers + projections


@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_net_of_four_stages_follows_its_equation(bottleneck):
    torch.manual_seed(0)
    net = with_random_batch_norm(ResNet((1, 2, 1, 1), width=4, classes=3, bottleneck=bottleneck, image_size=16))
    x = torch.randn(2, 3, 16, 16)
    h = nn.functional.max_pool2d(net.bn1(net.conv1(x)).relu(), 3, 2, 1)
    for b in (block for stage in net.stages for block in stage):
        f = b.bn2(b.conv2(b.bn1(b.conv1(h)).relu()))
        f = b.bn3(b.conv3(f.relu())) if bottleneck else f
        h = ((h if b.downsample is None else b.downsample(h)) + f).relu()
    torch.testing.assert_close(net(x), net.fc(h.mean((2, 3))))


def test_stages_that_are_none_are_refused():
    with pytest.raises(InputError, match="expected four stages"):
        ResNet((2, 2, 2))


def test_the_cifar_shortcut_subsamples_and_pads_with_zeros_on_both_sides():
    block = CifarResNet(blocks_per_stage=1).layer2[0]
    h = torch.rand(1, 16, 8, 8)
    skip = block._shortcut(h)
    torch.testing.assert_close(skip[:, 8:24], h[:, :, ::2, ::2])
    assert not skip[:, :8].any()
    assert not skip[:, 24:].any()


@pytest.mark.parametrize("layers", [20, 32, 44])
def test_published_weights_load_strictly(layers):
    net = cifar_resnet(layers)
    missing, unexpected = net.load_state_dict(load_file(cifar_weights(layers)), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)


def test_stochastic_depth_leaves_branches_out_in_training_and_scales_them_in_evaluation():
    torch.manual_seed(0)
    block = ResidualMLP(in_features=6, width=5, depth=1, drop=0.3).blocks[0]
    h = torch.rand(4, 5)
    branch = block.eval().branch(h)
    torch.testing.assert_close(block(h), (h + 0.7 * branch).relu())
    block.train()
    left_out = sum(torch.equal(block(h), h) for _ in range(500)) / 500
    assert 0.22 < left_out < 0.38


def test_stochastic_depth_is_found_as_a_residual_stream():
    for net in (ResidualMLP(6, width=5, depth=2, drop=0.3), ResidualCNN(width=3, depth=2, image_size=8, drop=0.3)):
        stream = find_stream(net.eval(), torch.rand(1, *net.input_size))
        assert len(stream) == 2


@pytest.mark.parametrize("options", [{"drop": 1.0}, {"drop": -0.1}, {"drop": 0.3, "skip": False}])
def test_an_impossible_stochastic_depth_is_refused(options):
    with pytest.raises(InputError, match="expected 0 <= drop < 1"):
        ResidualMLP(width=4, depth=1, **options)


def test_a_logistic_resnet_follows_its_equation():
    net = LogisticResNet(in_features=6, width=5, depth=3, classes=4).double()
    u = torch.randn(7, 6, dtype=torch.float64)
    x = net.input_map(u)
    for layer in map(layer_map, net.blocks):
        x = x + 1 / (1 + torch.exp(-(x @ layer.weight.T + layer.bias)))
    torch.testing.assert_close(net(u), x @ net.classifier.weight.T + net.classifier.bias)
    *_, (last, _) = net.walk(net.input_map(u))
    torch.testing.assert_close(last, x)


def test_the_perceptron_twin_keeps_no_sum():
    net = LogisticResNet(in_features=6, width=5, depth=2, shared=True, skip=False)
    for x, y in net.walk(net.input_map(torch.randn(3, 6))):
        assert torch.equal(x, y)


def test_shared_weights_unroll_to_any_depth_and_stay_shared():
    net = LogisticResNet(in_features=6, width=5, depth=3, shared=True)
    assert sum(p.numel() for p in net.blocks.parameters()) == 5 * 5 + 5
    deep = net.unrolled(40)
    assert (net.depth, deep.depth) == (3, 40)
    assert layer_map(deep.blocks[39]).weight is layer_map(net.blocks[0]).weight
    u = torch.randn(2, 6)
    assert torch.equal(net.unrolled(3)(u), net(u))
    with pytest.raises(InputError, match="got depth 4, expected 1 to 3"):
        LogisticResNet(in_features=6, width=5, depth=3).unrolled(4)


def test_free_layers_start_independent_equal_or_at_zero():
    def spread(start):
        net = LogisticResNet(in_features=6, width=5, depth=3, start=start)
        return [float(layer_map(block).weight.detach().sum()) for block in net.blocks]

    assert len(set(spread("independent"))) == 3
    assert len(set(spread("equal"))) == 1
    assert spread("zero") == [0, 0, 0]
    with pytest.raises(InputError, match="got start='ones'"):
        LogisticResNet(start="ones")
    with pytest.raises(InputError, match="got width=5 and depth=0"):
        LogisticResNet(width=5, depth=0)


def test_the_stream_of_a_logistic_resnet_is_found():
    stream = find_stream(LogisticResNet(in_features=6, width=5, depth=3, shared=True).eval(), torch.randn(2, 6))
    assert [block.skip_kind for block in stream] == ["identity"] * 3
