"""Adaptive depth: which lists hold blocks, the gap of residuals, removal, optimizers, resumption."""

import pytest
import torch
from torch import nn

from resdyn.data import ImageData
from resdyn.data.sources import TensorSource
from resdyn.errors import ComputationError, InputError
from resdyn.nets import LogisticResNet, ResidualCNN, ResidualMLP, cifar_resnet
from resdyn.training import AdaptiveDepth, Recipe, train
from resdyn.training.depth import (
    block_lists,
    depths,
    depths_in,
    follow_depth_on_load,
    remove_last,
    residual_gaps,
    shrink,
)

RECIPE = Recipe(epochs=5, lr=1e-3, weight_decay=0.0, batch_size=16, optimizer="adam", seed=1)


def points(n=48, classes=3):
    labels = torch.arange(n) % classes
    x = torch.eye(4)[labels] + 0.1 * torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    return ImageData(
        "points", "train", ("a", "b", "c"), labels, torch.arange(n), TensorSource(x.reshape(n, 1, 2, 2)), (0.0,), (1.0,)
    )


def logistic(seed=0, depth=6, **options):
    torch.manual_seed(seed)
    return LogisticResNet(in_features=(1, 2, 2), width=8, depth=depth, classes=3, **options).eval()


class Adder(nn.Module):
    """x -> x + value, with a parameter."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, x):
        return x + self.value


class Adders(nn.Module):
    def __init__(self, *values):
        super().__init__()
        self.steps = nn.ModuleList(Adder(v) for v in values)

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (logistic(), ("blocks",)),
        (logistic(shared=True), ("blocks",)),
        (ResidualMLP(in_features=(1, 2, 2), width=8, depth=3).eval(), ("blocks",)),
        (ResidualCNN(in_channels=1, width=4, depth=4, image_size=8, downsample=True).eval(), ("blocks",)),
        (cifar_resnet(20).eval(), ("layer1", "layer2", "layer3")),
    ],
)
def test_lists_of_blocks_are_found_by_dataflow(model, expected):
    assert block_lists(model, torch.randn(1, *model.input_size)) == expected


def test_blocks_that_stand_in_no_list_are_told():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.only = nn.Linear(4, 4)

        def forward(self, x):
            return x + self.only(x).tanh()

    with pytest.raises(InputError, match="no residual block of Single is in a ModuleList"):
        block_lists(Single().eval(), torch.randn(1, 4))


def test_the_gap_is_the_mean_absolute_difference_of_the_last_two_residuals():
    assert residual_gaps(Adders(3, 1, 1.25), ["steps"], (torch.zeros(5, 2),))["steps"] == pytest.approx(0.25)
    net = logistic(shared=True).double()
    x = torch.randn(7, 1, 2, 2, dtype=torch.float64)
    *_, (_, before), (_, last) = net.walk(net.input_map(x.flatten(1)))
    assert residual_gaps(net, ["blocks"], (x,))["blocks"] == pytest.approx((last - before).detach().abs().mean().item())


def test_blocks_that_change_the_shape_have_no_gap_and_lists_are_looked_at_one_by_one():
    net = cifar_resnet(14).eval()  # stages of two blocks; the first of stages 2 and 3 changes the shape
    x = torch.randn(2, 3, 32, 32)
    assert set(residual_gaps(net, block_lists(net, x[:1]), (x,))) == {"layer1"}
    deeper = cifar_resnet(20).eval()
    assert set(residual_gaps(deeper, block_lists(deeper, x[:1]), (x,))) == {"layer1", "layer2", "layer3"}


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_removal_leaves_optimizer_and_scheduler_consistent(kind):
    net = logistic()
    groups = [
        {"params": net.classifier.parameters(), "lr": 0.1},
        {"params": net.blocks[5].parameters()},
        {"params": [*net.input_map.parameters(), *net.blocks[:5].parameters()]},
    ]
    optimizer = kind(groups, lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    x = torch.randn(4, 1, 2, 2)

    def step():
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()
        scheduler.step()

    step()
    gone = remove_last(net, "blocks", optimizer)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 0, 12]
    assert not set(map(id, gone.parameters())) & set(map(id, optimizer.state))
    before = net.blocks[0].branch[0].weight.clone()
    step()
    assert not torch.equal(before, net.blocks[0].branch[0].weight)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.025, 0.0025, 0.0025])
    other = kind([{"params": list(group["params"])} for group in optimizer.param_groups], lr=1.0)
    other.load_state_dict(optimizer.state_dict())


def test_shared_weights_stay_in_the_optimizer_until_their_last_place_is_gone():
    net = logistic(shared=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(5):
        remove_last(net, "blocks", optimizer)
    assert net.depth == 1
    assert len(optimizer.param_groups[0]["params"]) == len(list(net.parameters())) == 6
    with pytest.raises(InputError, match="the last one is never removed"):
        remove_last(net, "blocks", optimizer)


def test_names_of_what_stays_are_kept():
    net = nn.Sequential()
    for name in ("first", "second", "third"):
        net.add_module(name, Adder(1))
    remove_last(net, "")
    assert list(net.state_dict()) == ["first.value", "second.value"]


def test_layers_go_one_an_epoch_while_their_residuals_are_alike_and_the_loss_falls():
    net, rule = Adders(5, 1, 1, 1, 1), AdaptiveDepth(blocks=["steps"], patience=2)
    x = torch.zeros(3, 2)
    state = rule.begin(net, x)
    found = []
    for loss in (4.0, 3.0, 2.0, 1.0):
        state = rule.observe(state, net, None, (x,), loss)
        found.append(len(net.steps))
    assert found == [4, 3, 2, 2]  # then 5 and 1 are left, which differ
    assert [row["depths"]["steps"] for row in rule.result(state)] == [5, 5, 4, 3, 2]
    assert [row["removed"] for row in rule.result(state)] == [[], ["steps"], ["steps"], ["steps"], []]


def test_it_is_over_when_the_loss_stops_falling():
    net, rule = Adders(*[1] * 9), AdaptiveDepth(blocks=["steps"], patience=2)
    x, found = torch.zeros(3, 2), []
    state = rule.begin(net, x)
    for loss in (2.0, 2.0, 1.9999, 1.0, 0.5):
        state = rule.observe(state, net, None, (x,), loss)
        found.append(len(net.steps))
    assert found == [8, 7, 7, 7, 7]


def test_a_block_without_which_the_model_does_not_run_stays():
    class ByNumber(Adders):
        def forward(self, x):
            for i in range(3):
                x = self.steps[i](x)
            return x

    net, rule = ByNumber(1, 1, 1), AdaptiveDepth(blocks=["steps"])
    x = torch.zeros(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    state = rule.observe(rule.begin(net, x), net, optimizer, (x,), 1.0)
    assert (len(net.steps), state["fixed"]) == (3, ["steps"])
    assert len(optimizer.param_groups[0]["params"]) == 3


@pytest.mark.parametrize("options", [{"start": "zero"}, {"shared": True}])
def test_a_net_shrinks_while_it_trains_and_a_resumed_run_is_the_same(tmp_path, options):
    def run(net, epochs=None, path=None):
        rule = AdaptiveDepth(threshold=0.05)

        class Stop:
            def init(self, model, data, *, state=None):
                return {}

            def update(self, state, end):
                if epochs is not None and end.epoch == epochs:
                    raise KeyboardInterrupt
                return state

            result = update

        stop = Stop()
        stop.result = lambda state: None
        return train(net, points(), RECIPE, [rule, stop], path)

    undisturbed, resumed = logistic(**options), logistic(**options)
    expected = run(undisturbed)
    assert undisturbed.depth < 6
    with pytest.raises(KeyboardInterrupt):
        run(resumed, 3, tmp_path / "c")
    resumed = logistic(seed=5, **options)
    got = run(resumed, None, tmp_path / "c")
    assert resumed.depth == undisturbed.depth
    assert got.results[0] == expected.results[0]
    for a, b in zip(undisturbed.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_state_dict_of_a_shrunken_network_loads_into_a_whole_one():
    for shared in (False, True):
        small, whole = logistic(shared=shared), logistic(seed=3, shared=shared)
        shrink(small, {"blocks": 2})
        assert depths_in(whole, small.state_dict()) == {"blocks": 2}
        follow_depth_on_load(whole)
        whole.load_state_dict(small.state_dict())
        assert depths(whole, ["blocks"]) == {"blocks": 2}
        x = torch.randn(2, 1, 2, 2)
        assert torch.equal(whole(x), small(x))
    again = logistic()
    follow_depth_on_load(again)
    again.load_state_dict(logistic(seed=4).state_dict())
    assert again.depth == 6


def test_what_cannot_be_is_refused():
    net = logistic()
    with pytest.raises(InputError, match="got threshold=0"):
        AdaptiveDepth(threshold=0)
    with pytest.raises(InputError, match="has no such module"):
        AdaptiveDepth(blocks=["layers"]).begin(net, torch.randn(2, 1, 2, 2))
    with pytest.raises(InputError, match="a Linear, expected a ModuleList"):
        AdaptiveDepth(blocks=["classifier"]).begin(net, torch.randn(2, 1, 2, 2))
    with pytest.raises(InputError, match="got depth 9 for 'blocks', which holds 6 blocks"):
        shrink(net, {"blocks": 9})
    net.unused = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(ComputationError, match="does not run the blocks of unused"):
        residual_gaps(net, ["unused"], (torch.randn(2, 1, 2, 2),))
