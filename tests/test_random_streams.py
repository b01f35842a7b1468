"""Networks of random depth and width, each kind of state and skip among them: what is found is what was built."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import jacrev

import resdyn
from resdyn.stream import ResidualStream
from resdyn.stream.sensitivities import sensitivity

DEPTHS, WIDTHS, SEEDS = st.integers(2, 4), st.integers(3, 6), st.integers(0, 99)


def branch(width: int, out: int | None = None) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, out or width))


class Net(nn.Module):
    """A stem, `depth` layers and a head; how they are put together is said by `between`."""

    def __init__(self, depth: int, width: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.aside = nn.Linear(4, width), nn.Linear(4, width)
        self.layers = nn.ModuleList(branch(width) for _ in range(depth))
        self.others = nn.ModuleList(branch(width) for _ in range(depth))
        self.head = nn.Linear(width, 3)

    def between(self, h: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.stem(x), x))


class HyperConnections(Net):
    """Zhu et al. (2025): two streams, mixed by a matrix that is fixed or computed from them."""

    dynamic = False

    def __init__(self, depth: int, width: int, seed: int = 0) -> None:
        super().__init__(depth, width, seed)
        self.mix = nn.ParameterList(torch.eye(2) + 0.3 * torch.randn(2, 2) for _ in range(depth))
        self.read, self.write = (nn.ParameterList(torch.rand(2) for _ in range(depth)) for _ in range(2))
        self.moves = nn.ModuleList(nn.Linear(width, 4) for _ in range(depth))

    def between(self, h: Tensor, x: Tensor) -> Tensor:
        streams = torch.stack([h, h], 1)
        for k, layer in enumerate(self.layers):
            mix = self.mix[k]
            if self.dynamic:
                mix = mix + self.moves[k](streams.mean(1)).tanh().unflatten(-1, (2, 2))
            updated = layer(torch.einsum("n,bnd->bd", self.read[k], streams))
            streams = torch.matmul(mix, streams) + torch.einsum("n,bd->bnd", self.write[k], updated)
        return streams.sum(1)


class DynamicHyperConnections(HyperConnections):
    dynamic = True


class Looped(Net):
    """One layer that is applied again and again."""

    def between(self, h: Tensor, x: Tensor) -> Tensor:
        for _ in self.layers:
            h = h + self.layers[0](h)
        return h


class PerLayerEmbeddings(Net):
    """An embedding of the input of its own for every layer."""

    def between(self, h: Tensor, x: Tensor) -> Tensor:
        e = self.aside(x).tanh()
        for layer, other in zip(self.layers, self.others, strict=True):
            h = h + layer(h) * other(e)
        return h


class DualStream(Net):
    """Two modalities that read each other, as image and text do."""

    def between(self, h: Tensor, x: Tensor) -> Tensor:
        text = self.aside(x)
        for layer, other in zip(self.layers, self.others, strict=True):
            h, text = h + layer(h * text.sigmoid()), text + other(text * h.sigmoid())
        return h + text


class Reversible(Net):
    def between(self, h: Tensor, x: Tensor) -> Tensor:
        other = self.aside(x)
        for f, g in zip(self.layers, self.others, strict=True):
            h = h + f(other)
            other = other + g(h)
        return h + other


class Momentum(Net):
    def between(self, h: Tensor, x: Tensor) -> Tensor:
        velocity = torch.zeros_like(h)
        for layer in self.layers:
            velocity = 0.8 * velocity + layer(h)
            h = h + velocity
        return h


ONE_VALUE = {
    HyperConnections: "mixing",
    DynamicHyperConnections: "mixing",
    Looped: "identity",
    PerLayerEmbeddings: "identity",
}
TWO_VALUES = {DualStream: 1, Reversible: 2, Momentum: 1}  # how many updates there are per layer


def found(model: nn.Module, size: tuple[int, ...] = (4,), **options) -> tuple[nn.Module, Tensor, ResidualStream]:
    model, x = model.double().eval(), torch.randn(1, *size, dtype=torch.float64)
    return model, x, resdyn.find_stream(model, x, **options)


def total_derivative(model: nn.Module, x: Tensor, stream: ResidualStream, stem: nn.Module) -> tuple[Tensor, Tensor]:
    """The model's derivative by way of its first state, and by autograd."""
    states = stream.states(x)
    first = jacrev(stem)(x).reshape(states[0].numel(), -1)
    through = sensitivity(stream, states)[0].reshape(-1, len(first)) @ first
    return through, jacrev(model)(x).reshape(len(through), -1)


@given(st.sampled_from(list(ONE_VALUE)), DEPTHS, WIDTHS, SEEDS)
@settings(max_examples=6)
def test_states_of_one_value(kind, depth, width, seed):
    _, _, stream = found(kind(depth, width, seed))
    assert [block.skip_kind for block in stream] == [ONE_VALUE[kind]] * depth


@given(st.sampled_from(list(TWO_VALUES)), DEPTHS, WIDTHS, SEEDS)
@settings(max_examples=5)
def test_states_of_two_values(kind, depth, width, seed):
    _, _, stream = found(kind(depth, width, seed))
    assert len(stream) in (depth * TWO_VALUES[kind], depth * TWO_VALUES[kind] - 1)  # the first may begin the state
    assert all(len(block.values) == 2 for block in stream[1:-1])


class Layers(nn.Module):
    """Layers of one width, with a skip each or without any; the first may be wider."""

    def __init__(self, n: int, width: int, skips: bool, wider: int | None = None) -> None:
        super().__init__()
        sizes = [wider or width] + [width] * n
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(sizes))
        self.shortcuts = nn.ModuleList(
            (nn.Identity() if a == b else nn.Linear(a, b)) if skips else Nothing() for a, b in pairwise(sizes)
        )

    def forward(self, h: Tensor) -> Tensor:
        for layer, shortcut in zip(self.layers, self.shortcuts, strict=True):
            h = shortcut(h) + layer(h) if not isinstance(shortcut, Nothing) else layer(h)
        return h


class Nothing(nn.Module):
    """No skip."""


class UNet(nn.Module):
    """Ronneberger et al. (2015): down through levels and up again, each level's value concatenated on the way back."""

    def __init__(self, levels: int, n: int, width: int, skips: bool, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        widths = [width + level for level in range(levels + 1)]
        steps = list(pairwise(widths))
        self.stem, self.head = nn.Linear(2, width), nn.Linear(width, 3)
        self.down = nn.ModuleList(Layers(n, w, skips) for w in widths[:-1])
        self.narrow = nn.ModuleList(nn.Linear(a, b) for a, b in steps)
        self.middle = Layers(n, widths[-1], skips)
        self.widen = nn.ModuleList(nn.Linear(b, a) for a, b in steps)
        self.up = nn.ModuleList(Layers(n, w, skips, wider=2 * w) for w in widths[:-1])

    def forward(self, x: Tensor) -> Tensor:
        h, kept = self.stem(x), []
        for level, narrow in zip(self.down, self.narrow, strict=True):
            h = level(h)
            kept.append(h)
            h = narrow(h)
        h = self.middle(h)
        for level, widen in zip(reversed(self.up), reversed(self.widen)):
            h = level(torch.cat([widen(h), kept.pop()], -1))
        return self.head(h)

    @staticmethod
    def kinds(levels: int, n: int, skips: bool) -> list[str]:
        """What there is to find; the layer behind a concatenation is square no more, and a block with a skip alone."""
        if not skips:
            return ["none"] * ((levels + 1) * n + levels * (n - 1))
        return ["identity"] * ((levels + 1) * n) + levels * (["projection"] + ["identity"] * (n - 1))


@given(st.integers(1, 2), st.integers(2, 3), st.integers(3, 4), st.booleans(), SEEDS)
@settings(max_examples=4)
def test_the_layers_of_a_u_net(levels, n, width, skips, seed):
    model, x, stream = found(UNet(levels, n, width, skips, seed), (2,))
    assert [block.skip_kind for block in stream] == UNet.kinds(levels, n, skips)
    assert any("do not multiply" in note for note in stream.notes)

    whole = resdyn.find_stream(model, x, hold=[])
    assert len(whole) == len(stream)
    assert not any("do not multiply" in note for note in whole.notes)
    middle = whole[(levels + 1) * n - 1]
    assert len(middle.values) == levels + 1  # its own and one of every level
    torch.testing.assert_close(*total_derivative(model, x, whole, model.stem))


def test_what_a_u_net_concatenates_can_be_held_by_name():
    model, x, stream = found(UNet(2, 2, 3, skips=True), (2,))
    assert any("down.0 (after block 7)" in note and "down.1 (after block 5)" in note for note in stream.notes)
    held = resdyn.find_stream(model, x, hold=["down.0"])
    assert [len(block.values) for block in held[4:6]] == [2, 2]
    assert any("down.0" in note and "down.1" not in note for note in held.notes if "do not multiply" in note)
