"""The gated Jacobian of a layer of several blocks: what its branches contribute, not what passes through its norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import resdyn
from resdyn.metrics import diagonal_energy

WIDTH, TOKENS, LAYERS = 24, 5, 3


class Layer(nn.Module):
    """Mixing of tokens and a feed-forward part, each normalised after its sum (post) or before its branch (pre)."""

    def __init__(self, post: bool) -> None:
        super().__init__()
        self.post = post
        self.mix = nn.Parameter(torch.randn(TOKENS, TOKENS) / TOKENS)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.inner = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, h: Tensor) -> Tensor:
        for norm, branch in zip(self.norms, (lambda z: self.mix @ self.value(z), self.inner)):
            h = norm(h + branch(h)) if self.post else h + branch(norm(h))
        return h


def model_of(post: bool) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, WIDTH), *[Layer(post) for _ in range(LAYERS)], nn.Linear(WIDTH, 3))
    for norm in (m for m in model.modules() if isinstance(m, nn.LayerNorm)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return model.double().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, TOKENS, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("post", [True, False], ids=["post-norm", "pre-norm"])
def test_it_is_the_layer_less_the_product_of_what_passes_its_blocks(post, x):
    model = model_of(post)
    blocks, layers = (resdyn.find_stream(model, x, granularity=of) for of in ("join", "layer"))
    assert (len(blocks), len(layers)) == (2 * LAYERS, LAYERS)
    states, whole = blocks.states(x[:1]), layers.states(x[:1])
    for i in range(LAYERS):
        passed = torch.eye(WIDTH * TOKENS).double()
        for j in (2 * i, 2 * i + 1):
            inside = [blocks.jacobian(j, states, kind).to_dense() for kind in ("block", "gated")]
            passed = (inside[0] - inside[1]) @ passed
        block = layers.jacobian(i, whole, "block").to_dense()
        gated = layers.jacobian(i, whole, "gated")
        torch.testing.assert_close(gated.to_dense(), block - passed, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(gated.T.to_dense(), (block - passed).T, rtol=1e-9, atol=1e-11)
        branch = layers.jacobian(i, whole, "branch").to_dense()
        torch.testing.assert_close(branch, block - torch.eye(WIDTH * TOKENS).double(), rtol=1e-9, atol=1e-11)
    assert post == bool((passed - torch.eye(WIDTH * TOKENS)).abs().max() > 0.1)


def test_layers_named_by_hand_are_read_alike(x):
    model = model_of(post=True)
    found = resdyn.find_stream(model, x, granularity="layer")
    named = resdyn.stream_from_blocks(model, [str(i + 1) for i in range(LAYERS)], x)
    for kind in ("gated", "branch", "block"):
        ours, theirs = (s.jacobian(2, s.states(x[:1]), kind).to_dense() for s in (named, found))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_untrained_post_norm_layers_look_no_more_aligned_than_chance(x):
    stream = resdyn.find_stream(model_of(post=True), x, granularity="layer")
    states, rank = stream.states(x[:1]), 8

    def energy(kind: str) -> float:
        jacobians = [stream.jacobian(i, states, kind).to_dense() for i in range(LAYERS)]
        bases = [torch.linalg.svd(jacobian) for jacobian in jacobians]
        couplings = [
            (bases[j][0][:, :rank].T @ jacobians[i] @ bases[j][2][:rank].T).numpy()
            for i in range(LAYERS)
            for j in range(LAYERS)
            if i != j
        ]
        return float(np.mean(diagonal_energy(np.stack(couplings))))

    assert energy("gated") < 2 / rank
    assert energy("block") > 0.5
