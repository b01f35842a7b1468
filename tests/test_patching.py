"""Networks that go on from a state, and with changed branches, against the original modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import resdyn
from resdyn.errors import InputError
from resdyn.interventions import ablate, add, contributions, project_out, replace, scale


class Block(nn.Module):
    def __init__(self, width, gate):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.gate = gate
        self.change = None

    def forward(self, h):
        added = self.branch(h)
        return self.gate(h + (added if self.change is None else self.change(added)))


class Net(nn.Module):
    """Its blocks take the change themselves: the reference of every test."""

    def __init__(self, gate, depth=4, width=5):
        super().__init__()
        self.first, self.last = nn.Linear(3, width), nn.Linear(width, 2)
        self.blocks = nn.ModuleList(Block(width, gate()) for _ in range(depth))

    def forward(self, x):
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        return self.last(h)


def network(gate, seed=0):
    torch.manual_seed(seed)
    model, x = Net(gate).double().eval(), torch.randn(6, 3, dtype=torch.float64)
    return model, x, resdyn.find_stream(model, x)


def reference(model, x, changes):
    for i, change in changes.items():
        model.blocks[i].change = change
    try:
        with torch.no_grad():
            return model(x)
    finally:
        for block in model.blocks:
            block.change = None


DIRECTION = torch.arange(5, dtype=torch.float64) - 1
CHANGES = {
    "ablated": {1: ablate},
    "scaled": {0: scale(0.3), 3: scale(-2)},
    "another sample's": {2: lambda F: F.roll(1, 0)},
    "steered": {1: add(DIRECTION)},
    "projected": {0: project_out(DIRECTION), 1: ablate, 2: scale(2.0)},
    "replaced": {3: replace(DIRECTION)},
}


@pytest.mark.parametrize("gate", [nn.Identity, nn.ReLU, lambda: nn.LayerNorm(5)], ids=["none", "relu", "norm"])
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_changed_branch_gives_what_the_module_itself_gives(gate, changes):
    model, x, stream = network(gate)
    found = stream.patch(changes, x)
    expected = reference(model, x, changes)
    torch.testing.assert_close(found.output, expected)
    torch.testing.assert_close(found.original, model(x).detach())
    change = (expected - model(x)).norm(dim=1) / model(x).norm(dim=1)
    torch.testing.assert_close(found.change, change.detach())
    assert found.error == pytest.approx(float(change.detach().std() / 6**0.5))


@pytest.mark.parametrize("depth", range(5))
def test_the_network_goes_on_from_its_own_states_and_from_others(depth):
    model, x, stream = network(nn.ReLU)
    own, other = stream.states(x), stream.states(-x)
    torch.testing.assert_close(stream.run(depth, own[depth], x), model(x).detach())
    torch.testing.assert_close(stream.run(depth, other[depth], x), model(-x).detach())


def test_stages_and_projections():
    torch.manual_seed(0)
    model, x = resdyn.nets.cifar_resnet(8).eval(), torch.randn(2, 3, 8, 8)
    stream = resdyn.find_stream(model, x)
    with torch.no_grad():
        for depth in range(len(stream) + 1):
            torch.testing.assert_close(stream.run(depth, stream.states(x)[depth], x), model(x), atol=1e-5, rtol=1e-4)
        model.layer2[0].bn2.weight.zero_()
        model.layer2[0].bn2.bias.zero_()
    expected = model(x).detach()
    model2 = resdyn.untrained_twin(resdyn.nets.cifar_resnet(8), 0)
    assert not torch.equal(model2(x), expected)


def test_contributions_add_up_and_the_last_block_has_one_effect():
    _, x, stream = network(nn.Identity)
    states = stream.states(x)
    found = contributions(stream, states)
    last, first = states[-1].flatten(1), states[0].flatten(1)
    rest = 1 - (first * last).sum(1) / (last * last).sum(1)
    np.testing.assert_allclose(found.state.sum(1), rest)
    np.testing.assert_allclose(found.direct[:, -1], found.total[:, -1])
    assert "total effect" in repr(found)


class Bypass(Net):
    """A later layer reads what an early branch returns, past the state."""

    def forward(self, x):
        h = self.first(x)
        early = self.blocks[0].branch(h)
        h = h + early
        h = h + self.blocks[1].branch(h)
        return self.last(h) * (1 + early.mean())


def test_a_value_that_passes_the_state_by_is_never_silently_the_old_one():
    torch.manual_seed(0)
    model, x = Bypass(nn.Identity, depth=2).double().eval(), torch.randn(1, 3, dtype=torch.float64)
    try:
        stream = resdyn.find_stream(model, x)
    except resdyn.errors.ResdynError:
        return
    branches = [i for i, block in enumerate(stream) if "blocks.0" in block.path]
    for i in branches:
        with pytest.raises(InputError, match="changed branch"):
            stream.patch({i: ablate}, x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, x: s.run(9, torch.zeros(6, 5), x), "depth 9"),
        (lambda s, x: s.run(1, torch.zeros(6, 4), x), "expected"),
        (lambda s, x: s.patch({}, x), "at least one"),
        (lambda s, x: s.patch({7: ablate}, x), "7"),
        (lambda s, x: s.patch({1: 0.0}, x), "expected a function"),
        (lambda s, x: s.patch({1: lambda F: F[:, :2]}, x), "changed branch of block 1"),
        (lambda s, x: s.patch({1: project_out(torch.zeros(5))}, x), "length zero"),
    ],
)
def test_wrong_arguments_are_refused_in_words(call, message):
    _, x, stream = network(nn.Identity)
    with pytest.raises(InputError, match=message):
        call(stream, x)
