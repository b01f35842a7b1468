"""Products of one token: what other tokens would need is not computed, and nothing changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import resdyn
from resdyn.stream.linearize import TracedProduct
from resdyn.stream.window import common, hull, reshaped

TOKENS, WIDTH = 5, 8


class Attention(nn.Module):
    """Heads, a causal mask, a norm before."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.into, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in self.into(self.norm(x)).chunk(3, -1))
        scores = (q @ k.transpose(-1, -2)).masked_fill(torch.ones(TOKENS, TOKENS).triu(1).bool(), -torch.inf)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Perceptron(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 12), nn.GELU(), nn.Linear(12, WIDTH))


class Mixer(nn.Module):
    """Tokens mixed by a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(TOKENS, TOKENS)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x.transpose(1, 2)).transpose(1, 2).tanh()


class Shifted(nn.Module):
    """The mean of this token, the one before it and all: slices, a concatenation, a mean over tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)) * x.sigmoid() + x.mean(1, keepdim=True)


class Unusual(nn.Module):
    """Operations of which no windows are known."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x.transpose(1, 2)).transpose(1, 2).cumsum(1) + x.flip(1).sin()


class PostNorm(nn.Module):
    def __init__(self, branch: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.branch, self.gate = branch, gate

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x + self.branch(x))


BRANCHES = {"attention": Attention, "perceptron": Perceptron, "mixer": Mixer, "shifted": Shifted, "unusual": Unusual}
GATES = {"attention": "norm", "unusual": "norm"}


@pytest.fixture(scope="module", params=[f"{name}, {GATES.get(name, 'none')}" for name in BRANCHES])
def stream(request) -> resdyn.ResidualStream:
    name, gate = request.param.split(", ")
    torch.manual_seed(0)
    layers = [PostNorm(BRANCHES[name](), nn.LayerNorm(WIDTH) if gate == "norm" else nn.Identity()) for _ in range(2)]
    return resdyn.find_stream(nn.Sequential(*layers).double().eval(), torch.randn(2, TOKENS, WIDTH).double())


@pytest.mark.parametrize("position", [(2, 2), (3, 1)])
def test_products_of_one_token_are_the_rows_and_columns_of_the_whole(stream, position):
    states = stream.states(torch.randn(1, TOKENS, WIDTH, dtype=torch.float64))
    to, of = (slice(p * WIDTH, (p + 1) * WIDTH) for p in position)
    whole = stream.jacobian(1, states).to_dense()[to, of]
    alone = stream.at(position).jacobian(1, states)
    torch.testing.assert_close(alone.to_dense(), whole, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(alone.rmatmat(torch.eye(WIDTH).double()).T, whole, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(alone @ torch.ones(WIDTH).double(), whole.sum(1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_no_product_of_one_token_holds_all_tokens(direction):
    torch.manual_seed(0)
    model = nn.Sequential(*(PostNorm(Attention(), nn.Identity()) for _ in range(2))).eval()
    stream = resdyn.find_stream(model, torch.randn(2, TOKENS, WIDTH)).at(2)
    product = stream.jacobian(0, stream.states(torch.randn(1, TOKENS, WIDTH)))._product(direction)
    assert isinstance(product, TracedProduct)
    made = [node for node in product._linear.graph.nodes if node.op == "call_function" and "val" in node.meta]
    sizes = [node.meta["val"].numel() for node in made]
    assert max(sizes) < TOKENS * WIDTH


def test_windows_of_a_reshape_follow_the_dimensions_that_stay():
    assert reshaped(((0, 1), (2, 3), (0, 6)), (1, 4, 6), (4, 2, 3)) == (
        ((0, 1), (2, 3), (0, 6)),
        ((2, 3), (0, 2), (0, 3)),
    )
    assert reshaped(((2, 3), (0, 6)), (4, 6), (24,)) == (((0, 4), (0, 6)), ((0, 24),))
    assert hull(((0, 2),), ((4, 5),)) == ((0, 5),)
    assert common(((0, 2),), ((1, 5),)) == ((1, 2),)
    assert common(((0, 2),), ((3, 5),)) == ((3, 5),)
