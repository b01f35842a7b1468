"""Linear maps of many vectors at once: what `vmap` of the map of one vector gives, with nothing overwritten."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resdyn._torch import make_fx
from resdyn.stream.batching import batched
from resdyn.stream.linearize import linear_parts
from resdyn.stream.rounded import RoundedProducts

T, D = 5, 8
mask = torch.ones(T, T).tril().log().double()
weight = torch.randn(D, D, generator=torch.Generator().manual_seed(0)).double()
conv, gru = nn.Conv1d(T, T, 3, padding=1).double(), nn.GRUCell(D, D).double()


def rotated(x):
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1) * torch.linspace(0, 1, D).double() + x


def attention(x):
    parts = F.linear(x, torch.cat([weight] * 3)).split(D, -1)
    q, k, v = (part.reshape(1, T, 2, D // 2).transpose(1, 2) for part in parts)
    p = ((q @ k.transpose(-1, -2)) * 0.3 + mask).softmax(-1)
    return x + (p @ v).transpose(1, 2).reshape(1, T, D)


FUNCTIONS = {
    "attention": attention,
    "norm, softmax of the first dimension": lambda x: F.layer_norm(x, (D,)) + x.softmax(1),
    "feed-forward": lambda x: x + F.gelu(F.layer_norm(x, (D,)) @ weight) @ weight.T,
    "rotary": rotated,
    "tokens mixed from the left": lambda x: (weight[:T, :T] @ x[0] + x.flatten(0, 1).sigmoid())[None],
    "of lower rank": lambda x: x.mean((0, 1)) * x + x[:, 1:2] ** 2 + x.amax(-1, keepdim=True),
    "convolution": lambda x: conv(x).tanh() + x.cumsum(1),
    "recurrence": lambda x: (gru(x[0], x[0] * 2) + x[0])[None],
    "a sum that is read twice": lambda x: (y := x @ weight + x) * y.sin() + y,
    "of nothing": lambda x: x.detach() * 1.0 + 0 * x,
}


def pullback(function):
    """The derivative's transpose as (what depends on x, what is linear in u), with x and some u."""
    torch.manual_seed(1)
    x = torch.randn(1, T, D).double()

    def pulled(x, u):
        x = x.requires_grad_()
        return [*torch.autograd.grad([function(x)], [x], [u])]

    u = torch.randn(3, 1, T, D).double()
    primal, linear = linear_parts(make_fx(pulled)(x, u[0]))
    return linear, primal(x), u


@pytest.fixture(scope="module", params=list(FUNCTIONS))
def traced(request):
    return pullback(FUNCTIONS[request.param])


def test_many_vectors_at_once_are_what_each_alone_is(traced):
    linear, constants, u = traced
    kept = [value.clone() if isinstance(value, torch.Tensor) else value for value in (u, *constants)]
    expected = torch.func.vmap(lambda u: linear(u, *constants))(u)
    with torch.no_grad():
        found = batched(linear)(u, *constants)
        again = batched(linear)(u, *constants)
    for a, b, c in zip(found, again, expected, strict=True):
        torch.testing.assert_close(a, c)
        assert torch.equal(a, b)
    for before, after in zip(kept, (u, *constants), strict=True):
        assert not isinstance(before, torch.Tensor) or torch.equal(before, after)


def test_rounded_products_are_near(traced):
    linear, constants, u = traced
    rounded = RoundedProducts(linear, torch.bfloat16)
    expected = torch.func.vmap(lambda u: linear(u, *constants))(u)
    with torch.no_grad():
        for a, b in zip(rounded.module(u, *rounded.constants(constants)), expected, strict=True):
            assert float((a - b).norm()) <= 0.03 * float(b.norm())


def test_what_a_transformer_does_has_rules():
    for name in ("attention", "feed-forward"):
        assert "each_vector" not in batched(pullback(FUNCTIONS[name])[0]).code
