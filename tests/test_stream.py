"""Streams: discovery finds what was built, blocks reproduce the model, bad input is refused by name."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import resdyn
from resdyn.errors import ComputationError, InputError
from resdyn.nets import cifar_resnet
from resdyn.stream.jacobian import JacobianOperator, block_jacobian
from residual_nets import Plan, build, example, prescribed

DENSE = Plan("dense", "post", "batch", "relu", 3)
CONV = Plan("conv", "post", "batch", "relu", 3, frozenset({1}))
ATTENTION = Plan("attention", "pre", "layer", "gelu", 2)
POSTNORM = Plan("attention", "postnorm", "layer", "gelu", 2)
PREACTIVATION = Plan("conv", "pre", "batch", "relu", 3)


@st.composite
def plans(draw):
    kind = draw(st.sampled_from(["dense", "conv", "attention"]))
    order = draw(st.sampled_from(["pre", "post"] if kind == "conv" else ["pre", "post", "postnorm"]))
    blocks = draw(st.integers(1, 3))
    projections = draw(st.sets(st.integers(0, blocks - 1), max_size=1)) if kind != "attention" else set()
    norms = ["batch", "layer"] if order == "pre" else ["batch", "layer", "none"]
    activation = draw(st.sampled_from(["relu", "gelu", "tanh", "silu"]))
    classifier = draw(st.booleans())
    return Plan(kind, order, draw(st.sampled_from(norms)), activation, blocks, frozenset(projections), classifier)


@given(plans(), st.integers(0, 100))
@settings(max_examples=10)
def test_discovery_finds_exactly_the_blocks_that_were_built(plan, seed):
    net, x = build(plan, seed), example(plan)
    stream = resdyn.find_stream(net, x)
    assert [(block.skip_kind, block.gate_kind) for block in stream] == plan.expected
    states = stream.states(x)
    torch.testing.assert_close(states.output, net(x))
    i = seed % len(stream)
    dense = reference_jacobian(net, stream, states.sample(0), i)
    found = resdyn.svd(stream.jacobian(i, states.sample(0)), 3, tol=1e-9)
    torch.testing.assert_close(found.S, torch.linalg.svdvals(dense)[:3], rtol=1e-8, atol=1e-10)


def reference_jacobian(net, stream, states, i):
    """The Residual Jacobian from the module itself: all minus skip, by reverse mode, without the graph."""
    block, h = net.blocks[i], states[i]
    skip = block.skip(h).detach()

    def gated(x):
        branch = block.inner(block.second(block.activation(block.first(block.before(x)))))
        return block.after(skip + branch)

    return torch.autograd.functional.jacobian(gated, h).reshape(-1, h.numel())


@pytest.mark.parametrize("plan", [DENSE, CONV, ATTENTION, POSTNORM, PREACTIVATION], ids=lambda p: f"{p.kind}-{p.order}")
def test_blocks_are_functions_of_their_state_alone_or_in_a_batch(plan):
    net, x = build(plan), example(plan, 3)
    stream = resdyn.find_stream(net, x)
    states = stream.states(x)
    for block, h, out in zip(stream, states, states.outputs):
        torch.testing.assert_close(block.block(h), out)
        torch.testing.assert_close(block.block(h[1]), out[1])
        torch.testing.assert_close(block.gate(block.skip(h) + block.branch(h)), out)
        torch.testing.assert_close(net.blocks[block.index](h), out)


@pytest.mark.parametrize("plan", [DENSE, CONV, ATTENTION, POSTNORM], ids=lambda p: f"{p.kind}-{p.order}")
@pytest.mark.parametrize("kind", ["gated", "branch", "block"])
def test_jacobians_equal_dense_reverse_mode(plan, kind):
    stream = resdyn.find_stream(build(plan), example(plan))
    states = stream.states(example(plan)).sample(1)
    for block in stream:
        operator = stream.jacobian(block.index, states, kind)
        function = block.function(kind, states[block.index], states.inputs)
        dense = torch.autograd.functional.jacobian(function, states[block.index]).reshape(operator.shape)
        torch.testing.assert_close(operator.to_dense(), dense)
        torch.testing.assert_close(operator.T.to_dense(), dense.T)


def test_a_prescribed_jacobian_comes_back():
    matrices = [torch.randn(4, 4, dtype=torch.float64) for _ in range(3)]
    stream = resdyn.find_stream(prescribed(matrices), torch.zeros(1, 4, dtype=torch.float64))
    states = stream.states(torch.zeros(1, 4, dtype=torch.float64))
    for i, matrix in enumerate(matrices):
        torch.testing.assert_close(stream.jacobian(i, states).to_dense(), matrix)


@pytest.mark.parametrize("plan", [DENSE, CONV, ATTENTION, POSTNORM], ids=lambda p: f"{p.kind}-{p.order}")
def test_traced_products_equal_forward_mode_at_other_states(plan):
    net, x = build(plan), example(plan, 3)
    stream = resdyn.find_stream(net, x)
    for n in range(3):
        states = stream.states(x).sample(n)
        for block in stream:
            traced = stream.jacobian(block.index, states)
            plain = block_jacobian(block, "gated", states[block.index], states.inputs, trace=False)
            X = torch.randn(traced.shape[1], 2, dtype=torch.float64)
            torch.testing.assert_close(traced.matmat(X), plain.matmat(X))
            Y = torch.randn(traced.shape[0], 2, dtype=torch.float64)
            torch.testing.assert_close(traced.rmatmat(Y), plain.rmatmat(Y))
            for direction in ("forward", "reverse"):
                assert block.linear_map(plain._function, states[block.index], direction) is not None


def test_chunks_do_not_change_products():
    stream = resdyn.find_stream(build(CONV), example(CONV))
    states = stream.states(example(CONV)).sample(0)
    whole, tiny = stream.jacobian(0, states), stream.jacobian(0, states, memory_limit=1)
    X = torch.randn(whole.shape[1], 5, dtype=torch.float64)
    assert tiny.chunk_size == 1
    torch.testing.assert_close(whole.matmat(X), tiny.matmat(X))


def test_a_down_sampling_block_is_not_square_and_starts_a_stage():
    stream = resdyn.find_stream(cifar_resnet(20).eval(), torch.randn(1, 3, 32, 32))
    assert [block.path for block in stream] == [f"layer{s}.{i}" for s in (1, 2, 3) for i in range(3)]
    assert [block.square for block in stream] == [True, True, True, False, True, True, False, True, True]
    assert [block.stage for block in stream] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert stream.stage_of_depth == (0, 0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert stream[3].skip_kind == "projection"
    assert sum(block.num_parameters for block in stream) + 16 * 27 + 32 + 650 == stream.num_parameters


def test_the_printed_table_names_every_block():
    text = str(resdyn.find_stream(build(CONV), example(CONV)))
    assert "3 residual blocks" in text
    assert "blocks.1" in text
    assert "projection" in text


def test_a_final_norm_is_neither_block_nor_gate():
    stream = resdyn.find_stream(build(ATTENTION), example(ATTENTION))
    assert [block.gate_kind for block in stream] == ["none", "none"]


def test_in_place_operations_do_not_rewrite_captured_states():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            for layer in (self.a, self.b):
                branch = layer(x)
                x = x.add_(branch).relu_()
            return x

    net, x = InPlace().eval(), torch.randn(2, 4)
    states = resdyn.find_stream(net, x.clone()).states(x.clone())
    torch.testing.assert_close(states[0], x)
    torch.testing.assert_close(states[1], torch.relu(x + net.a(x)))


def test_parallel_branches_in_nested_sums_are_one_block():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            for _ in range(2):
                x = torch.tanh(self.a(x)) - 0.5 * torch.tanh(self.b(x)) + x
            return x

    net, x = Parallel().double().eval(), torch.randn(1, 4, dtype=torch.float64)
    stream = resdyn.find_stream(net, x)
    assert [(b.skip_kind, b.gate_kind) for b in stream] == [("identity", "none")] * 2
    torch.testing.assert_close(stream[0].branch(x), torch.tanh(net.a(x)) - 0.5 * torch.tanh(net.b(x)))


def test_a_mask_is_an_input_of_the_block_and_not_of_the_stream():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x, mask):
            for _ in range(2):
                x = x + torch.tanh(self.a(x)) * mask
            return x

    x, mask = torch.randn(2, 4), torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]])
    stream = resdyn.find_stream(Masked().eval(), x, mask)
    assert len(stream) == 2
    assert stream[0].needs_inputs == ("mask",)
    states = stream.states(x, mask)
    dense = stream.jacobian(0, states.sample(1)).to_dense()
    assert torch.equal(dense.abs().sum(1) > 0, mask[1] > 0)
    with pytest.raises(InputError, match="also takes the model's input 'mask'"):
        stream.jacobian(0, states[0][1])


def test_a_network_in_training_is_seen_as_it_is_now():
    net, x = build(DENSE), example(DENSE)
    stream = resdyn.find_stream(net, x)
    before = stream.states(x).output
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1)
    assert not torch.allclose(before, stream.states(x).output)
    torch.testing.assert_close(stream.states(x).output, net(x))


def test_token_models_are_found_from_their_embeddings():
    transformers = pytest.importorskip("transformers", reason="the extra 'hf' is not installed")
    config = transformers.GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=40, bos_token_id=0, eos_token_id=0)
    net = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.randint(0, 40, (2, 5))
    stream = resdyn.find_stream(net, ids, use_cache=False)
    assert [block.branch_modules for block in stream] == [("ln_1", "attn"), ("ln_2", "mlp")] * 2
    torch.testing.assert_close(stream.states(ids, use_cache=False).output, net(ids).logits, rtol=1e-4, atol=1e-5)


def test_hand_named_blocks_equal_discovered_ones():
    net, x = build(CONV), example(CONV)
    named = resdyn.stream_from_blocks(net, ["blocks.0", "blocks.1", "blocks.2"], x)
    found = resdyn.find_stream(net, x)
    assert [(b.skip_kind, b.gate_kind) for b in named] == [(b.skip_kind, b.gate_kind) for b in found]
    torch.testing.assert_close(named.states(x)[2], found.states(x)[2])


def test_layers_without_skip_can_be_measured_by_name():
    net, x = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double().eval(), torch.randn(1, 3).double()
    stream = resdyn.stream_from_blocks(net, ["0", "2"], x, skip="none")
    torch.testing.assert_close(stream.jacobian(1, stream.states(x)).to_dense(), net[2].weight.detach())


def test_a_transformer_layer_named_as_one_block_keeps_an_identity_skip():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = x + torch.tanh(self.a(x))
            return x + torch.tanh(self.b(x))

    net, x = nn.Sequential(Layer(), Layer()).double().eval(), torch.randn(1, 4).double()
    assert len(resdyn.find_stream(net, x)) == 4
    stream = resdyn.stream_from_blocks(net, ["0", "1"], x)
    torch.testing.assert_close(stream[0].branch(x), net[0](x) - x)


REFUSED = {
    "training mode": (lambda: build(DENSE).train(), example(DENSE), InputError, "training mode.*model.eval"),
    "one batch norm in training mode": (
        lambda: train_one(build(DENSE)),
        example(DENSE),
        InputError,
        r"blocks.0.inner \(BatchNorm1d\) is in training",
    ),
    "NaN weights": (lambda: poison(build(DENSE)), example(DENSE), InputError, "'stem.0.weight' holds 1 NaN"),
    "no residual join": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU()).double().eval(),
        example(DENSE),
        InputError,
        "no residual stream.*stream_from_blocks",
    ),
    "no input": (lambda: build(DENSE), None, InputError, "example input is needed"),
    "not a module": (lambda: "resnet", example(DENSE), InputError, "expected a torch.nn.Module, got str"),
    "something random": (lambda: Noisy().eval(), torch.randn(1, 3), ComputationError, "random|differ"),
}


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)

    def forward(self, x):
        return x + torch.nn.functional.dropout(self.a(x), 0.5, training=True)


def train_one(net):
    net.blocks[0].inner.train()
    return net


def poison(net):
    net.stem[0].weight.data[0, 0] = float("nan")
    return net


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_refused_with_the_reason(case):
    make, x, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        resdyn.find_stream(make(), *([] if x is None else [x]))


def test_wrong_inputs_are_refused_with_what_was_expected():
    stream = resdyn.find_stream(build(CONV), example(CONV))
    with pytest.raises(InputError, match=r"shape \(2, 3, 6, 5\), expected \(N, 3, 5, 5\)"):
        stream.states(torch.zeros(2, 3, 6, 5, dtype=torch.float64))
    with pytest.raises(InputError, match=r"dtype torch.float32, expected torch.float64"):
        stream.states(torch.zeros(2, 3, 5, 5))
    with pytest.raises(InputError, match="holds no samples"):
        stream.states(torch.zeros(0, 3, 5, 5, dtype=torch.float64))
    with pytest.raises(InputError, match=r"block 0 \(blocks.0\) takes a state of shape \(6, 5, 5\)"):
        stream[0].block(torch.zeros(7, 5, 5, dtype=torch.float64))
    with pytest.raises(InputError, match="belongs to one sample, got States of 2"):
        stream.jacobian(0, stream.states(example(CONV)))
    with pytest.raises(InputError, match="unknown kind"):
        stream.jacobian(0, stream.states(example(CONV)).sample(0), "full")
    with pytest.raises(InputError, match="got block 7, expected 0 to"):
        stream.jacobian(7, stream.states(example(CONV)).sample(0))


def test_names_that_are_no_blocks_are_refused_with_a_suggestion():
    net, x = build(CONV), example(CONV)
    with pytest.raises(InputError, match=r"did you mean 'blocks.0'"):
        resdyn.stream_from_blocks(net, ["block.0"], x)
    with pytest.raises(InputError, match="does not come after"):
        resdyn.stream_from_blocks(net, ["blocks.1", "blocks.0"], x)
    with pytest.raises(InputError, match="holds no residual join"):
        resdyn.stream_from_blocks(net, ["stem"], x)


class Pair(nn.Module):
    """Two blocks h + step(h), for `step` methods of subclasses."""

    def __init__(self, **tensors):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        for name, value in tensors.items():
            setattr(self, name, value)

    def forward(self, x, *rest):
        for layer in (self.a, self.b):
            x = self.join(x, torch.tanh(layer(x)), *rest)
        return self.head(x)


def pair(join, **tensors):
    """A Pair whose join is the given function, and an input."""
    net = type("Pair", (Pair,), {"join": join})(**tensors).double().eval()
    return net, torch.randn(4, 4, dtype=torch.float64)


FUSED = {
    "addcmul": lambda self, h, f: torch.addcmul(h, f, h.cos(), value=0.5),
    "lerp": lambda self, h, f: torch.lerp(h, f, torch.sigmoid(h)),
    "addmm": lambda self, h, f: torch.addmm(h, f, self.b.weight),
    "broadcast": lambda self, h, f: h + f.mean(1, keepdim=True),
}


@pytest.mark.parametrize("name", FUSED)
def test_sums_inside_other_operations_are_found(name):
    net, x = pair(FUSED[name])
    stream = resdyn.find_stream(net, x)
    assert [block.skip_kind for block in stream] == ["identity", "identity"]
    states = stream.states(x).sample(0)
    assert stream.jacobian(0, states).shape == (4, 4)
    dense = torch.autograd.functional.jacobian(lambda h: net.join(h, torch.tanh(net.a(h))), states[0]).reshape(4, 4)
    torch.testing.assert_close(stream.jacobian(0, states, "block").to_dense(), dense)


def test_a_square_of_the_state_is_no_projection():
    net, x = pair(lambda self, h, f: h * h + f)
    assert {block.skip_kind for block in resdyn.find_stream(net, x)} == {"none"}


def test_samples_that_influence_each_other_are_refused():
    net, x = pair(lambda self, h, f: h + f - f.mean(0))
    with pytest.raises(ComputationError, match=r"4 sample.*samples influence each other"):
        resdyn.find_stream(net, x)
    with pytest.raises(InputError, match=r"\(BatchNorm1d\) keeps no running statistics"):
        resdyn.find_stream(nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)).eval(), x)


def test_an_input_that_does_not_carry_the_batch_is_refused():
    net, x = pair(lambda self, h, f, table: h + f * table.sum(0))
    with pytest.raises(ComputationError, match="does not carry the batch"):
        resdyn.find_stream(net, x, torch.rand(4, 4, dtype=torch.float64))


def test_arguments_that_are_part_of_the_graph_may_not_change():
    net, x = pair(lambda self, h, f, times: h + times * f)
    stream = resdyn.find_stream(net, x, 2)
    with pytest.raises(InputError, match="argument 1 is 3, but the stream was found with 2"):
        stream.states(x, 3)


def test_logits_are_taken_before_the_hidden_states_they_come_from():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            h = x + torch.tanh(self.a(x))
            return {"hidden": h, "logits": self.head(h)}

    net, x = Both().eval(), torch.randn(2, 4)
    torch.testing.assert_close(resdyn.find_stream(net, x).states(x).output, net(x)["logits"])


def test_finding_a_stream_leaves_model_and_input_as_they_were():
    class Restless(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.register_buffer("calls", torch.zeros(()))
            self.cache = None

        def forward(self, x):
            self.calls += 1
            self.cache = x.sum() if self.cache is None else self.cache
            x.add_(1)
            return x + torch.tanh(self.a(x))

    net, x = Restless().eval(), torch.randn(2, 4)
    before = x.clone()
    assert len(resdyn.find_stream(net, x)) == 1
    assert torch.equal(x, before)
    assert net.calls == 0
    assert net.cache is None


def test_a_second_call_of_a_module_has_its_own_name():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

        def forward(self, x):
            x = x + self.block(x)
            return x + self.block(x)

    net, x = Shared().double().eval(), torch.randn(1, 4).double()
    assert [block.path for block in resdyn.find_stream(net, x)] == ["block", "block@1"]
    named = resdyn.stream_from_blocks(net, ["block", "block@1"], x, skip="none")
    torch.testing.assert_close(named[1].branch(x), net.block(x))


def test_a_fingerprint_changes_with_whatever_the_model_computes():
    def fingerprint(join, **tensors):
        torch.manual_seed(0)
        net, x = pair(join, **tensors)
        return resdyn.find_stream(net, x).fingerprint()

    def plain(self, h, f):
        return h + f

    def scaled(self, h, f):
        return h + self.k * f

    assert fingerprint(plain) == fingerprint(plain)
    assert fingerprint(plain) != fingerprint(lambda self, h, f: h + f.sin())
    assert fingerprint(scaled, k=torch.ones(4).double()) != fingerprint(scaled, k=torch.zeros(4).double())


class Layer(nn.Module):
    """h + mlp(prepare(h)) for a `prepare` of one's own."""

    def __init__(self, width=6):
        super().__init__()
        torch.manual_seed(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def prepare(self, h):
        return h

    def forward(self, h):
        return h + self.mlp(self.prepare(h))


def dense_agrees(stream, x, i):
    """Forward and reverse products of a block against its dense reverse-mode Jacobian, and how exact they can be."""
    states = stream.states(x).sample(0)
    operator = stream.jacobian(i, states)
    function = stream[i].function("gated", states[i], states.inputs)
    dense = torch.autograd.functional.jacobian(function, states[i]).reshape(operator.shape)
    eps = torch.finfo(stream[i].precision).eps
    torch.testing.assert_close(operator.to_dense(), dense, rtol=0, atol=100 * eps)
    torch.testing.assert_close(operator.T.to_dense(), dense.T, rtol=0, atol=100 * eps)


def test_a_norm_in_float32_inside_a_float64_model_is_checked_as_float32():
    class Rounded(Layer):
        def prepare(self, h):
            y = h.float()
            return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)).to(h.dtype)

    class Net(nn.Sequential):
        def forward(self, x):
            return self[1].prepare(self[1](self[0](x)))  # ends in the same norm, which is no block and no gate

    x = torch.randn(2, 5, 6, dtype=torch.float64)
    stream = resdyn.find_stream(Net(Rounded(), Rounded()).double().eval(), x)
    assert [(block.gate_kind, block.precision) for block in stream] == [("none", torch.float32)] * 2
    assert stream.states(x)[2].dtype == torch.float64
    dense_agrees(stream, x, 1)


def test_values_written_one_by_one_can_be_differentiated():
    class Scan(Layer):
        def prepare(self, h):
            states, carried = torch.zeros_like(h), 0.0
            for t in range(h.shape[1]):
                carried = 0.5 * carried + torch.sin(h[:, t])
                states[:, t] = carried
            return states

    x = torch.randn(2, 3, 6, dtype=torch.float64)
    stream = resdyn.find_stream(nn.Sequential(Scan(), Scan()).double().eval(), x)
    assert len(stream) == 2
    dense_agrees(stream, x, 0)


@torch.library.custom_op("resdyn_tests::grouped_mm_fallback", mutates_args=())
def grouped_mm(rows: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    starts = [0, *ends.tolist()]
    return torch.cat([rows[a:b] @ matrix for a, b, matrix in zip(starts, ends.tolist(), weight)])


@grouped_mm.register_fake
def _(rows, weight, ends):
    return rows.new_empty(len(rows), weight.shape[2])


def test_experts_by_grouped_products_can_be_differentiated():
    class Experts(Layer):
        def __init__(self):
            super().__init__(8)
            self.router, self.weight = nn.Linear(8, 3), nn.Parameter(torch.randn(3, 8, 8))

        def prepare(self, h):
            rows = h.reshape(-1, 8)
            weight, chosen = self.router(rows).softmax(-1).max(-1)
            order = chosen.argsort()
            ends = torch.arange(3).eq(chosen[:, None]).sum(0).cumsum(0).to(torch.int32)
            product = grouped_mm(rows[order], self.weight, ends)
            return (product[order.argsort()] * weight[:, None]).reshape(h.shape)

    x = torch.randn(2, 6, 8, dtype=torch.float64)
    net = nn.Sequential(Experts(), Experts()).double().eval()
    stream = resdyn.find_stream(net, x)
    assert len(stream) == 2
    torch.testing.assert_close(stream.states(x).output, net(x))
    dense_agrees(stream, x, 1)


def test_taking_off_the_mean_is_no_block():
    class Centred(Layer):
        def forward(self, h):
            y = super().forward(h)
            y = y - y.mean(-1, keepdim=True)
            return y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    x = torch.randn(1, 6, dtype=torch.float64)
    stream = resdyn.find_stream(nn.Sequential(Centred(), Centred()).double().eval(), x)
    assert [block.skip_kind for block in stream] == ["identity"] * 2
    assert all(block.gate_kind.startswith("mean+sub") for block in stream)


def test_a_tensor_like_a_state_does_not_depend_on_it():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([Layer(), Layer()])

        def forward(self, x):
            mask = x.new_ones(6) + torch.zeros_like(x) + torch.arange(6).type_as(x)
            for layer in self.layers:
                x = layer(x) * mask
            return x

    x = torch.randn(1, 6, dtype=torch.float64)
    stream = resdyn.find_stream(Masked().double().eval(), x)
    assert len(stream) == 2
    assert not any(block.needs_inputs for block in stream)


def test_products_go_column_by_column_where_an_operation_cannot_be_batched():
    def stubborn(h):
        if torch._C._functorch.maybe_current_level() and torch._C._functorch.is_batchedtensor(h):
            raise RuntimeError("cannot be batched")
        return h.sin()

    h = torch.randn(4, dtype=torch.float64)
    operator = JacobianOperator(lambda h: h * 2, h, 4, traced=lambda _: lambda v: stubborn(v) * 0 + 2 * v)
    torch.testing.assert_close(operator.to_dense(), 2 * torch.eye(4, dtype=torch.float64))


class Counting(nn.Module):
    """Counts its calls in a buffer that every call assigns anew."""

    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + 1
        for step in self.steps:
            x = x + torch.tanh(step(x))
        return x


def test_a_buffer_that_is_assigned_anew_is_left_as_it_was():
    model = Counting().eval()
    before = model.calls
    stream = resdyn.find_stream(model, torch.randn(2, 4))
    stream.states(torch.randn(2, 4))
    assert model.calls is before
    assert float(before) == 0
    model(torch.randn(2, 4))
    assert float(model.calls) == 1


class Passing(nn.Module):
    """Counts its passes where nothing undoes it."""

    def __init__(self, embedded):
        super().__init__()
        self.passes = itertools.count()
        self.first = nn.Embedding(9, 4) if embedded else nn.Identity()
        self.steps = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x):
        next(self.passes)
        x = self.first(x)
        for step in self.steps:
            x = x + torch.tanh(step(x))
        return x


@pytest.mark.parametrize(
    ("x", "passes"),
    [
        (torch.randn(1, 4), 4),  # that it runs, export, and autograd at the example and at a point near it
        (torch.randn(2, 4), 5),  # and all samples at once
        (torch.zeros(1, 3, dtype=torch.long), 3),  # tokens have no point near them
    ],
    ids=["one sample", "two samples", "tokens"],
)
def test_finding_a_stream_passes_a_model_few_times(x, passes):
    model = Passing(embedded=not x.is_floating_point()).eval()
    assert len(resdyn.find_stream(model, x)) == 2
    assert next(model.passes) == passes


class Rounded(nn.Module):
    """Rounds its branch and passes the gradient straight through."""

    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def branch(self, step, x):
        y = 4 * torch.tanh(step(x))
        return y + (y.round() - y).detach()

    def forward(self, x):
        for step in self.steps:
            x = x + self.branch(step, x)
        return x


def test_a_stop_gradient_in_a_branch_is_kept():
    model, x = Rounded().double().eval(), torch.randn(1, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    reference = torch.autograd.functional.jacobian(lambda h: model.branch(model.steps[0], h), x[0])
    for kind, skip in (("branch", 0), ("gated", 0), ("block", 1)):
        found = stream.jacobian(0, stream.states(x), kind=kind).to_dense()
        torch.testing.assert_close(found, reference + skip * torch.eye(4, dtype=torch.float64))


def test_a_buffer_may_hold_infinities_but_not_nan():
    model = Counting().eval()
    model.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))
    assert len(resdyn.find_stream(model, torch.randn(2, 4))) == 2
    model.mask[0, 0] = torch.nan
    with pytest.raises(InputError, match="'mask' holds 1 NaN"):
        resdyn.find_stream(model, torch.randn(2, 4))


class Experts(nn.Module):
    """Sends every token to two of three experts; how many an expert gets depends on the data."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.GELU()) for _ in range(3))

    def forward(self, x):
        weights, chosen = self.router(x).softmax(-1).topk(2, -1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token, place = torch.where(chosen == number)
            if self.skips_idle and token.numel() == 0:
                continue
            out.index_add_(0, token, expert(x[token]) * weights[token, place, None])
        return out

    skips_idle = False


class Routed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Experts() for _ in range(2))

    def forward(self, x):
        h = x.reshape(-1, 4)
        for layer in self.layers:
            h = h + layer(h)
        return h.reshape(x.shape)


def test_blocks_that_route_tokens_have_the_right_jacobian_at_every_sample():
    torch.manual_seed(0)
    model, x = Routed().double().eval(), torch.randn(5, 6, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x[:2])
    states = stream.states(x)
    for n in range(len(x)):
        for i, layer in enumerate(model.layers):
            h = states[i][n].reshape(6, 4)
            reference = torch.autograd.functional.jacobian(layer, h).reshape(24, 24)
            operator = stream.jacobian(i, states.sample(n))
            torch.testing.assert_close(operator.to_dense(), reference)
            torch.testing.assert_close(operator.T.to_dense(), reference.T)


def test_a_constant_that_one_trace_loses_is_found_by_the_next(monkeypatch):
    lost = [RuntimeError("We found a fake tensor in the exported program constant's list.")]
    export = torch.export.export

    def losing(*args, **kwargs):
        if lost:
            raise lost.pop()
        return export(*args, **kwargs)

    monkeypatch.setattr(torch.export, "export", losing)
    assert len(resdyn.find_stream(Counting().eval(), torch.randn(2, 4))) == 2
    assert not lost


def test_a_model_that_cannot_be_exported_is_refused_with_the_module_that_is_to_blame(capfd):
    model = Routed().eval()
    model.layers[1].skips_idle = True
    with pytest.raises(ComputationError, match=r"in layers\.1 \(Experts\)"):
        resdyn.find_stream(model, torch.randn(1, 6, 4))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_have_derivatives(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = getattr(nn, kind)(4, 4, batch_first=True)

        def forward(self, x):
            return x + self.layer(x)[0]

    model, x = Net().eval(), torch.randn(1, 3, 4)
    stream = resdyn.find_stream(model, x)
    reference = torch.autograd.functional.jacobian(lambda h: model.layer(h[None])[0][0], x[0]).reshape(12, 12)
    torch.testing.assert_close(stream.jacobian(0, stream.states(x)).to_dense(), reference)


def test_a_dataclass_may_hold_the_output():
    @dataclass
    class Output:
        loss: None
        logits: torch.Tensor

    class Net(Counting):
        def forward(self, x):
            return Output(None, super().forward(x))

    assert len(resdyn.find_stream(Net().eval(), torch.randn(2, 4))) == 2


class Bypassed(nn.Module):
    """A long skip around short ones, as networks that restore images have."""

    def __init__(self, depth: int = 5) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)
        self.body = nn.Sequential(*(ResidualMLPBlock(4) for _ in range(depth)), nn.Linear(4, 4))
        self.tail = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.head(x)
        return self.tail(h + self.body(h))


class ResidualMLPBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + torch.tanh(self.inner(h))


def test_blocks_inside_a_longer_skip_are_found_as_they_are_named():
    model, x = Bypassed().double().eval(), torch.randn(2, 3, dtype=torch.float64)
    stream, named = resdyn.find_stream(model, x), resdyn.stream_from_blocks(model, [f"body.{i}" for i in range(5)], x)
    assert [block.path for block in stream] == [f"body.{i}" for i in range(5)] == [block.path for block in named]
    torch.testing.assert_close(stream.states(x)[5], model.body[:5](model.head(x)))


def test_a_block_with_a_single_skip_inside_is_no_chain():
    model = Bypassed(depth=1).eval()
    assert not resdyn.find_stream(model, torch.randn(2, 3)).notes


class Drawing(nn.Module):
    """Hides half of its state, another half in every pass unless it is told which."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = ResidualMLPBlock(2)

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        noise = torch.rand(len(x), 4) if noise is None else noise
        shown = torch.gather(x, 1, noise.argsort(1)[:, :2])
        return self.inner(shown)


def test_a_model_that_draws_random_numbers_is_refused_even_where_two_passes_agree():
    model, x = Drawing().eval(), torch.ones(2, 4)
    with pytest.raises(ComputationError, match=r"draws random numbers \(rand\).*never the same"):
        resdyn.find_stream(model, x)
    assert len(resdyn.find_stream(model, x, noise=torch.rand(2, 4))) == 1


@pytest.mark.parametrize(("p", "fine"), [(0.0, True), (0.5, False)])
def test_a_dropout_that_is_on_is_named_unless_it_drops_nothing(p, fine):
    class Dropping(ResidualMLPBlock):
        def forward(self, h: torch.Tensor) -> torch.Tensor:
            return h + torch.nn.functional.dropout(self.inner(h), p, training=True)

    model = nn.Sequential(nn.Linear(3, 2), Dropping(2)).eval()
    if fine:
        assert len(resdyn.find_stream(model, torch.randn(2, 3))) == 1
        return
    with pytest.raises(ComputationError, match=r"draws random numbers .* in 1"):
        resdyn.find_stream(model, torch.randn(2, 3))


def test_a_block_that_reads_an_encoder_does_not_count_its_parameters():
    class Crossing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.inner = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
            return x + self.inner(x) * self.encoder(source)

    stream = resdyn.find_stream(Crossing().eval(), torch.randn(2, 2), torch.randn(2, 3))
    assert stream[0].num_parameters == 6
    assert stream[0].needs_inputs


def test_weights_that_blocks_share_count_in_each_of_them():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = ResidualMLPBlock(4), ResidualMLPBlock(4)
            self.second.inner.weight = self.first.inner.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    stream = resdyn.find_stream(Shared().eval(), torch.randn(2, 4))
    assert [block.num_parameters for block in stream] == [20, 20]
    assert stream.num_parameters == 24
