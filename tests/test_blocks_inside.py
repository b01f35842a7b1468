"""Which of several sums are the blocks: those of a branch, of an activation, of a norm that is added, of a decoder."""

import pytest
import torch
from torch import nn

import resdyn

WIDTH, DEPTH = 8, 3


def layer(width=WIDTH, hidden=None):
    return nn.Sequential(nn.Linear(width, hidden or width), nn.Tanh(), nn.Linear(hidden or width, width))


class Net(nn.Module):
    """Blocks of one class between a stem and a head."""

    def __init__(self, block):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 2)
        self.blocks = nn.ModuleList(block() for _ in range(DEPTH))

    def forward(self, x):
        h = self.stem(x)
        for block in self.blocks:
            h = block(h)
        return self.head(h)


class Gated(nn.Module):
    """A wide branch with a gate from two narrow residual layers."""

    def __init__(self):
        super().__init__()
        self.f, self.into, self.out = layer(hidden=32), nn.Linear(WIDTH, 2), nn.Linear(2, WIDTH)
        self.inner = nn.ModuleList(layer(2) for _ in range(2))

    def forward(self, h):
        g = self.into(h)
        for inner in self.inner:
            g = g + inner(g)
        return h + self.f(h) * self.out(g).sigmoid()


class Around(nn.Module):
    """A skip around two residual layers and a projection."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.ModuleList(layer() for _ in range(2)), nn.Linear(WIDTH, WIDTH)

    def forward(self, h):
        g = h
        for inner in self.inner:
            g = g + inner(g)
        return h + self.out(g)


class NormAdded(nn.Module):
    """h + n + f(n) with n a norm of h, as in Gemma 3n."""

    def __init__(self):
        super().__init__()
        self.scale, self.f, self.g = nn.Parameter(torch.rand(WIDTH)), layer(), layer()

    def forward(self, h):
        n = h * h.square().mean(-1, keepdim=True).add(1e-6).rsqrt() * self.scale
        return (h + self.f(n)) + (n + self.g(n))


class Snake(nn.Module):
    """An activation that is a sum, with a weight per feature, before each of two layers."""

    def __init__(self):
        super().__init__()
        self.a, self.f, self.g = nn.Parameter(torch.ones(WIDTH)), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, h):
        def snake(x):
            return x + torch.sin(self.a * x).square() / self.a

        return h + self.g(snake(self.f(snake(h))))


def test_residual_layers_in_a_small_part_of_a_branch_are_not_the_blocks():
    stream = resdyn.find_stream(Net(Gated).eval(), torch.randn(1, 4))
    assert [block.shape_in for block in stream] == [(WIDTH,)] * DEPTH


def test_residual_layers_that_hold_most_of_a_branch_are_the_blocks_and_a_note_says_what_passes_them():
    stream = resdyn.find_stream(Net(Around).eval(), torch.randn(1, 4))
    assert [block.path for block in stream] == [f"blocks.{i}.inner.{j}" for i in range(DEPTH) for j in range(2)]
    assert any("transitions between blocks also read values" in note for note in stream.notes)


def test_a_norm_that_is_added_beside_the_branch_is_part_of_the_block():
    model, x = Net(NormAdded).double().eval(), torch.randn(1, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    assert [block.skip_kind for block in stream] == ["identity"] * DEPTH
    states = stream.states(x)
    for block in stream:
        expected = torch.func.jacrev(model.blocks[block.index])(states[block.index]).reshape(WIDTH, WIDTH)
        torch.testing.assert_close(stream.jacobian(block.index, states, "block").to_dense(), expected)


def test_an_activation_with_weights_is_no_block_where_other_sums_are():
    assert len(resdyn.find_stream(Net(Snake).eval(), torch.randn(1, 4))) == DEPTH


class Scalars(nn.Module):
    """h + tanh(a h): every element by itself."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.rand(WIDTH))

    def forward(self, h):
        return h + torch.tanh(self.a * h)


def test_elementwise_blocks_are_found_where_there_are_no_others():
    assert len(resdyn.find_stream(Net(Scalars).eval(), torch.randn(1, 4))) == DEPTH


class EncoderDecoder(nn.Module):
    """An encoder deeper than the decoder, whose layers all read the encoder's state."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.source, self.target = nn.Linear(4, WIDTH), nn.Linear(4, WIDTH)
        self.encoder = nn.ModuleList(layer() for _ in range(5))
        self.decoder = nn.ModuleList(layer() for _ in range(2))
        self.across = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))

    def forward(self, x, y):
        e, h = self.source(x), self.target(y)
        for f in self.encoder:
            e = e + f(e)
        for i, cross in enumerate(self.across):
            h = h + cross(h.sigmoid() * e)
            h = h + self.decoder[i](h)
        return h


def test_an_encoder_does_not_continue_in_the_last_layer_of_its_decoder():
    stream = resdyn.find_stream(EncoderDecoder().eval(), torch.randn(1, 4), torch.randn(1, 4))
    assert [block.path for block in stream] == [f"encoder.{i}" for i in range(5)]


class Rotated(nn.Module):
    """Two streams that a matrix of the state mixes; the branch rotates pairs of features by fixed angles."""

    def __init__(self):
        super().__init__()
        self.mix, self.q, self.out = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, WIDTH // 2), nn.Linear(WIDTH // 2, WIDTH)
        self.register_buffer("angle", torch.rand(WIDTH // 2))

    def forward(self, h):
        streams = h.unflatten(-1, (2, WIDTH // 2))
        kept = (self.mix(h).unflatten(-1, (2, 2)).softmax(-1) @ streams).flatten(1)
        q = self.q(h)
        turned = torch.stack([-q[:, 1::2], q[:, ::2]], -1).flatten(1)
        return kept + self.out(torch.tanh(q * self.angle.cos() + turned * self.angle.sin()))


def test_a_rotation_of_interleaved_pairs_is_no_block():
    stream = resdyn.find_stream(Net(Rotated).eval(), torch.randn(1, 4))
    assert [block.skip_kind for block in stream] == ["mixing"] * DEPTH


class InPlace(nn.Module):
    """A state made in place, as by nn.ReLU(inplace=True), and a branch that nearly repeats it."""

    def __init__(self):
        super().__init__()
        self.norm, self.f = nn.BatchNorm1d(WIDTH), layer()

    def forward(self, h):
        h = torch.relu_(h.clone())
        return self.norm(h) + self.f(h)


@pytest.mark.parametrize("frozen", [False, True])
def test_what_is_computed_in_place_of_frozen_weights_is_compared_with_autograd(frozen):
    model = Net(InPlace).eval().requires_grad_(not frozen)
    assert resdyn.find_stream(model, torch.randn(1, 4)).notes == ()
