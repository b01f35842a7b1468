"""Streams of networks whose state is not all that later blocks read, or whose skip is not the state itself."""

import pytest
import torch
from torch import nn

import resdyn
from resdyn.errors import InputError

WIDTH, DEPTH = 6, 3


class Net(nn.Module):
    """Blocks written by `step(net, i, h, side)` between a stem and a head; `side` is computed once from the input."""

    def __init__(self, step, head=None):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.aside = nn.Linear(4, WIDTH), nn.Linear(4, WIDTH)
        self.f = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(DEPTH))
        self.v = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
        self.scale = nn.Parameter(torch.rand(WIDTH) + 0.5)
        self.head = head or nn.Linear(WIDTH, 2)
        self.step = step

    def forward(self, x):
        h, side = self.stem(x), {"x": self.aside(x).sigmoid()}
        for i in range(DEPTH):
            h = self.step(self, i, h, side)
        return self.head(h)


def embedding_again(net, i, h, side):
    side.setdefault("e", h)
    return h + net.f[i](h + side["e"])


def conditioned(net, i, h, side):
    return h + side["x"] * net.f[i](h)


def value_residual(net, i, h, side):
    side.setdefault("first", net.v[i](h))
    return h + net.f[i](net.v[i](h) + side["first"])


def router(net, i, h, side):
    side["r"] = net.v[i](h) + side.get("r", 0)
    return h + net.f[i](h) * side["r"].sigmoid()


def highway(net, i, h, side):
    t = net.v[i](h).sigmoid()
    return t * net.f[i](h) + (1 - t) * h


def gru_like(net, i, h, side):
    z = net.v[i](h).sigmoid()
    return z * h + (1 - z) * net.f[i](h)


def deep_norm(net, i, h, side):
    return nn.functional.layer_norm(1.7 * h + net.f[i](h), (WIDTH,))


def scaled_skip(net, i, h, side):
    return net.scale * h + net.f[i](h)


def rezero(net, i, h, side):
    return h + net.scale * net.f[i](h)


def written_in_place(net, i, h, side):
    written = h.clone()
    written[:, 1:] += net.f[i](h)[:, 1:]
    return written


def selected(net, i, h, side):
    return torch.where(h > 0, h + net.f[i](h), h)


def scattered(net, i, h, side):
    return h.scatter_add(1, torch.arange(WIDTH).expand(len(h), -1), net.f[i](h))


def stacked(net, i, h, side):
    return torch.stack([h, net.f[i](h)]).sum(0)


def mixed(net, i, h, side):
    kept = torch.einsum("mn,bnd->bmd", net.scale[:4].reshape(2, 2), h.unflatten(-1, (2, 3)))
    return (kept + net.f[i](h).unflatten(-1, (2, 3))).flatten(1)


STEPS = {
    "identity": (
        embedding_again,
        conditioned,
        value_residual,
        router,
        rezero,
        written_in_place,
        selected,
        scattered,
        stacked,
    ),
    "gated": (highway, gru_like),
    "scaled": (deep_norm, scaled_skip),
    "mixing": (mixed,),
}
KINDS = [(step, kind) for kind, steps in STEPS.items() for step in steps]


def step_at(model, x, i):
    """Block i as a function of its state alone, what it reads besides held at its value in a pass over x."""
    side, h = {"x": model.aside(x).sigmoid()}, model.stem(x)
    for k in range(i):
        h = model.step(model, k, h, side)
    held = {name: value.detach() for name, value in side.items()}
    return lambda state: model.step(model, i, state, dict(held)), h.detach()


@pytest.mark.parametrize(("step", "kind"), KINDS, ids=[step.__name__ for step, _ in KINDS])
def test_every_block_of_a_network_with_such_steps_is_found_with_the_jacobian_of_the_step(step, kind):
    model, x = Net(step).double().eval(), torch.randn(1, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    assert [block.skip_kind for block in stream] == [kind] * DEPTH
    assert set(stream.stage_of_depth) == {0}
    states = stream.states(x)
    for i in range(DEPTH):
        function, h = step_at(model, x, i)
        torch.testing.assert_close(states[i].flatten(), h.flatten())
        expected = torch.autograd.functional.jacobian(function, h).reshape(WIDTH, WIDTH)
        torch.testing.assert_close(stream.jacobian(i, states, "block").to_dense(), expected)
        parts = stream.jacobian(i, states, "branch").to_dense() + stream.skip_jacobian(i, states).to_dense()
        if stream[i].gate_kind == "none":
            torch.testing.assert_close(parts, expected)


def test_what_blocks_read_besides_their_state_is_named():
    stream = resdyn.find_stream(Net(conditioned).eval(), torch.randn(1, 4))
    assert [block.held for block in stream] == [("aside",)] * DEPTH
    assert any("holds fixed" in note and "0 to 2" in note for note in stream.notes)
    assert not any("holds fixed" in note for note in resdyn.find_stream(Net(rezero).eval(), torch.randn(1, 4)).notes)


@pytest.mark.parametrize("step", [value_residual, router, embedding_again, highway])
def test_a_sensitivity_follows_every_path_to_the_output(step):
    model, x = Net(step).double().eval(), torch.randn(1, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    states = stream.states(x)
    for s, found in enumerate(resdyn.stream.sensitivity(stream, states)):
        expected = torch.autograd.functional.jacobian(lambda h, s=s: rest(model, x, s, h), states[s]).reshape(2, WIDTH)
        torch.testing.assert_close(found, expected)


def rest(model, x, s, state):
    """The output as a function of state s; everything computed from it varies with it."""
    side, h = {"x": model.aside(x).sigmoid()}, model.stem(x)
    for i in range(DEPTH):
        h = state if i == s else h
        h = model.step(model, i, h, side)
    return model.head(state if s == DEPTH else h)


def test_determinants_are_refused_where_values_pass_by_a_state():
    stream = resdyn.find_stream(Net(value_residual).eval(), torch.randn(1, 4))
    with pytest.raises(InputError, match="read after a later one"):
        resdyn.stream.log_determinants(stream, stream.states(torch.randn(1, 4)))


def test_the_longer_chain_inside_a_skip_is_the_stream():
    class Group(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

        def forward(self, h):
            start = h
            for layer in self.body:
                h = h + torch.tanh(layer(h))
            return h + start

    stream = resdyn.find_stream(nn.Sequential(nn.Linear(4, WIDTH), Group(), Group()).eval(), torch.randn(2, 4))
    assert [(block.path, block.branch_modules) for block in stream] == [
        (str(group), ("body",)) for group in (1, 2) for _ in range(3)
    ]


def test_an_encoder_and_the_decoder_that_reads_it_are_two_streams():
    class Halves(nn.Module):
        def __init__(self, depths):
            super().__init__()
            self.stems = nn.ModuleList(nn.Linear(4, WIDTH) for _ in depths)
            self.encoder, self.decoder = (nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(n)) for n in depths)

        def forward(self, source, target):
            memory, h = self.stems[0](source), self.stems[1](target)
            for layer in self.encoder:
                memory = memory + torch.tanh(layer(memory))
            for layer in self.decoder:
                h = h + torch.tanh(layer(h) * memory)
            return h

    for depths, half in (((2, 4), "decoder"), ((5, 2), "encoder")):
        stream = resdyn.find_stream(Halves(depths).eval(), torch.randn(2, 4), torch.randn(2, 4))
        assert {block.branch_modules[0] for block in stream} == {half}
        assert len(stream) == max(depths)


def test_a_network_without_skips_is_measured_layer_by_layer():
    layers = [part for _ in range(4) for part in (nn.Linear(WIDTH, WIDTH), nn.Tanhshrink())]
    model = nn.Sequential(nn.Linear(4, WIDTH), *layers, nn.Linear(WIDTH, 2)).double().eval()
    x = torch.randn(1, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    assert [(block.skip_kind, block.branch_modules) for block in stream] == [
        ("none", (str(i), str(i + 1))) for i in (1, 3, 5, 7)
    ]
    assert any("without a skip" in note for note in stream.notes)
    states = stream.states(x)
    expected = torch.autograd.functional.jacobian(model[1:3], states[0]).reshape(WIDTH, WIDTH)
    torch.testing.assert_close(stream.jacobian(0, states).to_dense(), expected)


def test_a_dense_block_concatenates_its_state():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4 + 2 * i, 2) for i in range(3))

        def forward(self, x):
            values = [x * 1.5]
            for layer in self.layers:
                values.append(torch.tanh(layer(torch.cat(values, -1))))
            return torch.cat(values, -1)

    model, x = Dense().double().eval(), torch.randn(1, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    assert [(b.skip_kind, b.shape_in, b.shape_out) for b in stream] == [
        ("concat", (4 + 2 * i,), (6 + 2 * i,)) for i in range(3)
    ]
    states = stream.states(x)
    skip = stream.skip_jacobian(1, states).to_dense()
    torch.testing.assert_close(skip, torch.eye(8, 6, dtype=torch.float64))
    torch.testing.assert_close(states[3], model(x))


def test_a_single_concatenation_behind_residual_blocks_is_not_one_of_them():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.last = nn.Sequential(Step(), Step(), Step()), nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            h = self.body(x)
            return torch.cat([h, torch.tanh(self.last(h))], -1)

    stream = resdyn.find_stream(Joined().eval(), torch.randn(1, WIDTH))
    assert [block.skip_kind for block in stream] == ["identity"] * 3


def test_an_adapter_is_no_skip():
    class Adapted(nn.Linear):
        def __init__(self):
            super().__init__(WIDTH, WIDTH)
            self.down, self.up = nn.Linear(WIDTH, 2), nn.Linear(2, WIDTH)

        def forward(self, h):
            return super().forward(h) + 2.0 * self.up(self.down(h))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = Adapted(), Adapted()

        def forward(self, h):
            return h + self.outer(torch.relu(self.inner(h)))

    assert len(resdyn.find_stream(nn.Sequential(nn.Linear(4, WIDTH), Block(), Block()).eval(), torch.randn(1, 4))) == 2
    plain = nn.Sequential(nn.Linear(4, WIDTH), Adapted(), nn.ReLU(), Adapted(), nn.ReLU(), Adapted()).eval()
    assert {block.skip_kind for block in resdyn.find_stream(plain, torch.randn(1, 4))} == {"none"}


SPELLINGS = {
    "plain": lambda f, h: h + f(h),
    "flat": lambda f, h: (h.flatten(1) + f(h).flatten(1)).reshape(h.shape),
    "other shape": lambda f, h: (h.reshape(-1, 3, 2) + f(h).reshape(-1, 3, 2)).reshape(h.shape),
    "alpha": lambda f, h: torch.add(h, f(h), alpha=1),
    "chunks": lambda f, h: torch.cat([a + b for a, b in zip(h.chunk(2, -1), f(h).chunk(2, -1), strict=True)], -1),
    "in place": lambda f, h: h.clone().add_(f(h)),
    "stacked": lambda f, h: torch.stack([h, f(h)]).sum(0),
}


class Spelled(nn.Module):
    def __init__(self, names):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 2)
        self.f = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in names)
        self.names = names

    def forward(self, x):
        h = self.stem(x)
        for f, name in zip(self.f, self.names, strict=True):
            h = SPELLINGS[name](f, h)
        return self.head(h.unsqueeze(1).flatten(1))


@pytest.mark.parametrize("name", [name for name in SPELLINGS if name != "chunks"])
def test_the_same_function_in_other_words_is_the_same_stream(name):
    x = torch.randn(1, 4, dtype=torch.float64)
    plain, other = (Spelled(names).double().eval() for names in (["plain"] * 3, ["plain", name, "plain"]))
    streams = [resdyn.find_stream(model, x) for model in (plain, other)]
    expected, found = ([(b.skip_kind, b.gate_kind, b.shape_in, b.stage) for b in stream] for stream in streams)
    assert found == expected
    for i in range(3):
        a, b = (s.jacobian(i, s.states(x)).to_dense() for s in streams)
        torch.testing.assert_close(a, b)


class Turned(nn.Module):
    """Blocks on channels by place, as convolutions have them, and on places by channel, in turn."""

    def __init__(self, turns):
        super().__init__()
        torch.manual_seed(0)
        self.turns = turns
        self.f = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in turns)
        self.g = nn.ModuleList(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()) for _ in turns)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        for f, g, turn in zip(self.f, self.g, self.turns, strict=True):
            x = x + g(x)
            if turn:  # the same as below, but that the state itself is turned
                tokens = x.flatten(2).transpose(1, 2)
                tokens = torch.relu(tokens + f(tokens))
                x = tokens.transpose(1, 2).reshape(x.shape)
            else:
                x = torch.relu(x + f(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return self.head(x.mean((2, 3)))


def test_a_permutation_of_the_state_is_no_border():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    still, turned = (Turned(turns).double().eval() for turns in ([False] * 3, [True] * 3))
    streams = [resdyn.find_stream(model, x) for model in (still, turned)]
    expected, found = ([(b.skip_kind, b.gate_kind, b.shape_in, b.stage) for b in stream] for stream in streams)
    assert found == expected
    assert set(streams[1].stage_of_depth) == {0}
    states = [stream.states(x[:1]) for stream in streams]
    for i in range(6):
        torch.testing.assert_close(states[1][i], states[0][i])
        for kind in ("gated", "block"):
            a, b = (s.jacobian(i, at, kind).to_dense() for s, at in zip(streams, states, strict=True))
            torch.testing.assert_close(a, b)


def test_coverage_counts_what_lies_where():
    model = nn.Sequential(nn.Linear(4, WIDTH), *(Step() for _ in range(3)), nn.Linear(WIDTH, 400)).eval()
    stream = resdyn.find_stream(model, torch.randn(1, 4))
    inside = 3 * (WIDTH * WIDTH + WIDTH)
    assert stream.coverage.parameters == pytest.approx(inside / sum(p.numel() for p in model.parameters()))
    products = 2 * (4 * WIDTH, 3 * WIDTH * WIDTH, WIDTH * 400)[1]
    total = 2 * (4 * WIDTH + 3 * WIDTH * WIDTH + WIDTH * 400) + 3 * 2 * WIDTH
    assert stream.coverage.operations == pytest.approx((products + 3 * 2 * WIDTH) / total)
    assert ["after them (4)" in note for note in stream.coverage.notes] == [True]
    assert "after them (4)" in str(stream)
    assert "of the operations" in str(stream)


class Step(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(WIDTH, WIDTH)

    def forward(self, h):
        return h + torch.tanh(self.f(h))


class Recurrent(nn.Module):
    """A cell that runs along a sequence; its steps are the depth."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.start, self.cell, self.head = nn.Linear(4, WIDTH), nn.GRUCell(4, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, x):
        h = self.start(x[:, 0])
        for i in range(x.shape[1]):
            h = self.cell(x[:, i], h)
        return self.head(h)


def test_a_gru_cell_is_a_block_with_a_gated_skip():
    """Its Jacobian is that of the cell at the inputs of its step, which are held."""
    model, x = Recurrent().double().eval(), torch.randn(2, DEPTH, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    assert [block.skip_kind for block in stream] == ["gated"] * DEPTH
    states = stream.states(x[:1])
    for i in range(DEPTH):
        expected = torch.func.jacrev(lambda h, i=i: model.cell(x[0, i], h))(states[i][0])
        torch.testing.assert_close(stream.jacobian(i, states, "block").to_dense(), expected.detach())


class Hierarchical(nn.Module):
    """A branch that splits its state and adds the parts up one by one, as in Res2Net and EdgeNeXt."""

    def __init__(self):
        super().__init__()
        self.f, self.g = nn.Linear(WIDTH // 2, WIDTH // 2), nn.Linear(WIDTH, WIDTH)

    def forward(self, h):
        first, second = h.chunk(2, -1)
        first = torch.tanh(self.f(first))
        return h + self.g(torch.cat([first, first + second], -1))


def test_a_sum_of_parts_of_the_state_is_no_block():
    model = nn.Sequential(nn.Linear(4, WIDTH), *(Hierarchical() for _ in range(3)), nn.Linear(WIDTH, 2)).eval()
    stream = resdyn.find_stream(model, torch.randn(1, 4))
    assert [(block.path, block.skip_kind) for block in stream] == [(str(i), "identity") for i in (1, 2, 3)]


class Group(nn.Module):
    """Blocks in a row, a layer and a skip around them all, as in Swin2SR."""

    def __init__(self):
        super().__init__()
        self.f = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(2))
        self.last = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        h = x
        for f in self.f:
            h = h + f(h)
        return x + self.last(h)


def test_a_transition_that_reads_an_earlier_state_says_so():
    """The product of the blocks' Jacobians is then not the model's: the skip around them passes it by."""
    model = nn.Sequential(nn.Linear(4, WIDTH), Group(), Group(), nn.Linear(WIDTH, 2)).eval()
    stream = resdyn.find_stream(model, torch.randn(1, 4))
    assert [block.has_transition for block in stream] == [False, True, False, False]
    (note,) = [note for note in stream.notes if note.startswith("transitions")]
    assert note.endswith("across them: 0 (after block 1)")


class Codes(nn.Module):
    """What is decoded are entries of a codebook, looked up by the nearest, as in a VQ-VAE: no derivative passes."""

    def __init__(self):
        super().__init__()
        self.encoder, self.book = nn.Linear(4, WIDTH), nn.Parameter(torch.randn(9, WIDTH))
        self.f = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x):
        codes = (self.encoder(x)[:, None] - self.book).square().sum(-1).argmin(-1)
        h = self.book[codes]
        for f in self.f:
            h = h + f(h)
        return self.head(h)


def test_blocks_behind_codes_of_the_input_are_found():
    torch.manual_seed(0)
    model, x = Codes().double().eval(), torch.randn(2, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    assert [block.path for block in stream] == [f"f.{i}" for i in range(DEPTH)]
    states = stream.states(x[:1])
    for i, f in enumerate(model.f):
        expected = torch.func.jacrev(lambda h, f=f: h + f(h))(states[i][0])
        torch.testing.assert_close(stream.jacobian(i, states, "block").to_dense(), expected.detach())


class Selected(nn.Module):
    """Attention among those tokens of a sample whose first entry is positive, twice, with a skip around both."""

    def __init__(self):
        super().__init__()
        self.parts, self.out = nn.ModuleList(nn.Linear(4, 4) for _ in range(3)), nn.Linear(4, 3)

    def forward(self, x):
        g = h = x[x[..., 0] > 0]
        for part in self.parts[:2]:
            g = g + torch.softmax(g @ g.T, -1) @ part(g)
        return self.out((h + self.parts[2](g)).sum(0, keepdim=True))


def test_states_whose_size_is_counted_are_refused():
    with pytest.raises(resdyn.errors.ComputationError, match="depends on values there"):
        resdyn.find_stream(Selected().eval(), torch.randn(1, 8, 4))
