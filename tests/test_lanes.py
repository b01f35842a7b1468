"""States of several values: reversible networks, momentum, two streams, and what `hold` and `within` choose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev

import resdyn
from resdyn import find_stream
from resdyn.errors import InputError
from resdyn.stream.sensitivities import log_determinants, sensitivity

WIDTH = 5
Values = dict[str, Tensor]


class Coupled(nn.Module):
    """A network whose values are named, updated by `step`, and read out together."""

    depth = 3
    values = ("left", "right")
    read = ("left", "right")

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, WIDTH), nn.Linear(4, WIDTH)
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(2 * self.depth))
        self.out = nn.Linear(len(self.read) * WIDTH, 3)

    def start(self, x: Tensor) -> Values:
        return {"left": self.left(x), "right": self.right(x)}

    def step(self, k: int, now: Values) -> Values:
        raise NotImplementedError

    def rest(self, now: Values) -> Tensor:
        for k in range(self.depth):
            now = self.step(k, now)
        return self.out(torch.cat([now[name] for name in self.read], -1))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.start(x))


class Reversible(Coupled):
    """Gomez et al. (2017): a + f(b), then b + g(a); every half of a step is one of the steps here."""

    depth = 6

    def step(self, k: int, now: Values) -> Values:
        a, b = ("left", "right") if k % 2 == 0 else ("right", "left")
        return now | {a: now[a] + self.parts[k](now[b])}


class Momentum(Coupled):
    """Sander et al. (2021): a velocity that is damped and driven by the state, and moves it."""

    values = ("left", "zeros")
    read = ("left",)

    def start(self, x: Tensor) -> Values:
        return {"left": self.left(x), "zeros": torch.zeros_like(self.left(x))}

    def step(self, k: int, now: Values) -> Values:
        velocity = 0.9 * now["zeros"] + 0.1 * self.parts[k](now["left"])
        return {"left": now["left"] + velocity, "zeros": velocity}


class TwoStreams(Coupled):
    """Two streams that read each other at the same time."""

    def step(self, k: int, now: Values) -> Values:
        left, right = now["left"], now["right"]
        return {
            "left": left + self.parts[2 * k](left * right.sigmoid()),
            "right": right + self.parts[2 * k + 1](right * left.sigmoid()),
        }


class PostNorm(TwoStreams):
    """The same with a norm behind every sum."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in self.parts)

    def step(self, k: int, now: Values) -> Values:
        after = super().step(k, now)
        return {name: norm(after[name]) for name, norm in zip(after, self.norms[2 * k :], strict=False)}


class Injected(Coupled):
    """An embedding that enters every block and is never updated."""

    depth = 4
    read = ("left",)

    def step(self, k: int, now: Values) -> Values:
        return now | {"left": now["left"] + self.parts[k](now["left"] * now["right"])}


class Router(Coupled):
    """A gate whose logits add up over the layers: made from the state, and a factor of its updates."""

    depth = 4
    read = ("left",)
    zeros = False

    def start(self, x: Tensor) -> Values:
        left = self.left(x)
        return {"left": left, "router": torch.zeros(1, WIDTH, dtype=x.dtype) if self.zeros else 0 * left[:, :1]}

    def step(self, k: int, now: Values) -> Values:
        router = now["router"] + self.parts[2 * k + 1](now["left"])
        return {"left": now["left"] + self.parts[2 * k](now["left"]) * router.sigmoid(), "router": router}


class RouterFromZeros(Router):
    zeros = True


class RouterFromInput(Router):
    """One that begins beside the state is a stream of its own."""

    def start(self, x: Tensor) -> Values:
        return {"left": self.left(x), "router": self.right(x)}


COUPLED = [Reversible, Momentum, TwoStreams, PostNorm]


def measured(network: type[Coupled], **options):
    torch.manual_seed(0)
    model, x = network().double().eval(), torch.randn(3, 4, dtype=torch.float64)
    stream = find_stream(model, x, **options)
    return model, stream, stream.states(x[:1])


def by_name(names, flat: Tensor) -> Values:
    return dict(zip(names, flat.split(WIDTH), strict=True))


@pytest.mark.parametrize("network", COUPLED)
def test_values_that_are_updated_in_turn_are_one_state(network):
    model, stream, _ = measured(network)
    assert len(stream) == model.depth
    assert all(sorted(block.values) == sorted(network.values) for block in stream)
    assert all(block.held == () and block.shape_in == (2 * WIDTH,) for block in stream)
    assert "several values" in stream.notes[0]
    assert not any("could not be compared" in note for note in stream.notes)


@pytest.mark.parametrize("network", COUPLED)
def test_a_block_has_the_jacobian_of_the_step_on_all_values(network):
    model, stream, states = measured(network)
    for k, block in enumerate(stream):
        names = block.values

        def step(flat: Tensor) -> Tensor:
            after = model.step(k, by_name(names, flat))  # noqa: B023
            return torch.cat([after[name] for name in names])  # noqa: B023

        flat = states[k][0]
        torch.testing.assert_close(block.block(flat), step(flat))
        torch.testing.assert_close(stream.jacobian(k, states, "block").to_dense(), jacrev(step)(flat))


@pytest.mark.parametrize("network", COUPLED)
def test_the_sensitivity_of_the_output_to_all_values_is_that_of_the_model(network):
    model, stream, states = measured(network)
    names = stream[0].values
    expected = jacrev(lambda flat: model.rest(by_name(names, flat)))(states[0][0])
    torch.testing.assert_close(sensitivity(stream, states)[0], expected)


@pytest.mark.parametrize("network", [Reversible, Momentum])
def test_the_mean_transport_of_all_values_is_that_of_the_model(network):
    model, stream, _ = measured(network)
    data = torch.randn(4, 4, dtype=torch.float64)
    lens = resdyn.transport(model, data, stream=stream, show_progress=False)
    names = stream[0].values

    def rest(flat: Tensor, k: int) -> Tensor:
        now = by_name(names, flat)
        for later in range(k, model.depth):
            now = model.step(later, now)
        return torch.cat([now[name] for name in names])

    for k in lens:
        each = [jacrev(rest)(stream.states(x[None])[k][0], k) for x in data]
        torch.testing.assert_close(lens[k], torch.stack(each).mean(0))


def test_a_reversible_step_preserves_volume():
    """The Jacobian of (a + f(b), b) is triangular with ones on its diagonal."""
    _, stream, states = measured(Reversible)
    logs = log_determinants(stream, states)
    torch.testing.assert_close(logs.values, torch.zeros(7, dtype=torch.float64))
    assert (logs.signs == 1).all()


def test_states_come_apart_by_name():
    model, stream, _ = measured(TwoStreams)
    x = torch.randn(3, 4, dtype=torch.float64)
    states = stream.states(x)
    parts, start = stream[0].split(states[0]), model.start(x)
    assert parts.keys() == start.keys()
    for name, value in start.items():
        torch.testing.assert_close(parts[name], value)


def test_all_tokens_of_two_streams_have_their_own_jacobian():
    class Tokens(TwoStreams):
        def start(self, x: Tensor) -> Values:
            return super().start(x.unsqueeze(1) * torch.arange(1.0, 4.0).to(x)[:, None])

        def rest(self, now: Values) -> Tensor:
            for k in range(self.depth):
                now = self.step(k, now)
            return self.out(torch.cat([now[name].mean(1) for name in self.read], -1))

    model, stream, _ = measured(Tokens)
    assert stream[0].shape_in == (3, 2 * WIDTH)
    names = stream[0].values

    def step(flat: Tensor) -> Tensor:
        after = model.step(0, by_name(names, flat))
        return torch.cat([after[name] for name in names])

    token = stream.at(1)
    here = token.states(torch.randn(1, 4, dtype=torch.float64))
    torch.testing.assert_close(token.jacobian(0, here, "block").to_dense(), jacrev(step)(here[0][0]))


def test_a_value_that_is_never_updated_is_held_unless_nothing_is_to_be():
    model, stream, _ = measured(Injected)
    assert [block.held for block in stream] == [("right",)] * 4

    model, stream, states = measured(Injected, hold=[])
    assert all(block.values == ("left", "right") and block.held == () for block in stream)
    expected = jacrev(lambda flat: model.rest(by_name(("left", "right"), flat)))(states[0][0])
    torch.testing.assert_close(sensitivity(stream, states)[0], expected)
    assert log_determinants(stream, states).values.isfinite().all()


def test_values_of_different_precisions_are_no_single_state():
    """As in a network in bfloat16 whose router keeps its state in float32: that state is held."""

    class Mixed(TwoStreams):
        def start(self, x: Tensor) -> Values:
            return super().start(x) | {"right": self.right(x).float()}

        def step(self, k: int, now: Values) -> Values:
            left, right = now["left"], now["right"]
            added = self.parts[2 * k + 1](left).float()
            return {"left": left + self.parts[2 * k](left * right.double()), "right": right + added * right.sigmoid()}

    _, stream, _ = measured(Mixed)
    assert len(stream) == 3
    assert all(block.values == () and block.held for block in stream)


@pytest.mark.parametrize("network", [Router, RouterFromZeros])
def test_what_only_sets_a_factor_of_the_updates_is_held(network):
    _, stream, _ = measured(network)
    assert len(stream) == network.depth
    assert set(stream.stage_of_depth) == {0}
    assert all(block.values == () for block in stream)
    assert all(block.held for block in stream[1:])
    _, stream, _ = measured(network, hold=[])
    assert any(len(block.values) == 2 for block in stream)


def test_a_router_that_begins_at_the_input_is_part_of_the_state():
    assert all(len(block.values) == 2 for block in measured(RouterFromInput)[1])


def test_one_of_two_streams_can_be_held():
    _, stream, _ = measured(TwoStreams, hold=["right"])
    assert len(stream) == 3
    assert all(block.values == () and block.shape_in == (WIDTH,) for block in stream)
    assert "right" in stream[0].held


def test_long_skips_make_the_state_rise_and_fall_where_nothing_is_held():
    class UNet(Coupled):
        def forward(self, x: Tensor) -> Tensor:
            first = self.left(x)
            second = first + self.parts[0](first)
            third = second + self.parts[1](second)
            fourth = third + self.parts[2](third) + second
            return self.out((fourth + self.parts[3](fourth) + first).repeat(1, 2))

    model, stream, states = measured(UNet, hold=[])
    assert [len(block.values) or 1 for block in stream] == [1, 2, 3, 2]
    gradient = jacrev(model)(states.inputs[0])
    first = jacrev(model.left)(states.inputs[0])
    total = sensitivity(stream, states)[0] @ first.reshape(WIDTH, 4)
    torch.testing.assert_close(total, gradient.reshape(3, 4))


@pytest.mark.parametrize(("hold", "message"), [(["nothing"], "'left', 'right'"), (["left", "right"], "leave one out")])
def test_what_to_hold_is_named_as_the_blocks_name_it(hold, message):
    with pytest.raises(InputError, match=message):
        measured(TwoStreams, hold=hold)


class Halves(nn.Module):
    """An encoder of four blocks, and a decoder of two that reads what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, WIDTH), nn.Linear(4, WIDTH)
        self.encoder, self.decoder = (
            nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(n)) for n in (4, 2)
        )
        self.out = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        memory, h = self.first(x), self.second(y)
        for layer in self.encoder:
            memory = memory + layer(memory)
        for layer in self.decoder:
            h = h + layer(h * memory)
        return self.out(h)


def test_the_module_whose_blocks_are_wanted_can_be_named():
    model, inputs = Halves().eval(), (torch.randn(2, 4), torch.randn(2, 4))
    assert [block.path for block in find_stream(model, *inputs)] == [f"encoder.{i}" for i in range(4)]
    decoder = find_stream(model, *inputs, within="decoder")
    assert [(block.held, block.num_parameters) for block in decoder] == [(("add",), WIDTH * (WIDTH + 1))] * 2
    assert decoder.within == "decoder"
    with pytest.raises(InputError, match="Did you mean 'decoder'"):
        find_stream(model, *inputs, within="decodr")
