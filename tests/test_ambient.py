"""What surrounds a measurement does not change it, and a model that has become another is measured as it is."""

from __future__ import annotations

from queue import SimpleQueue

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import resdyn
from resdyn.errors import ComputationError, InputError
from resdyn.stream.sensitivities import sensitivity
from resdyn.stream.tail import tail_jacobian


class Adapted(nn.Module):
    """h + tanh(W h + A h) with an adapter A that can be switched off."""

    def __init__(self):
        super().__init__()
        self.inner, self.adapter, self.on = nn.Linear(6, 6), nn.Linear(6, 6), True

    def forward(self, h):
        z = self.inner(h)
        return h + torch.tanh(z + self.adapter(h) if self.on else z)


def built(dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), Adapted(), Adapted(), nn.Linear(6, 3)).to(dtype).eval()
    return model, torch.randn(5, 4, dtype=dtype)


def dense(function, h):
    return torch.autograd.functional.jacobian(lambda z: function(z[None])[0], h)


AMBIENT = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
}


@pytest.mark.parametrize("name", AMBIENT)
def test_numbers_do_not_depend_on_what_surrounds_a_call(name, tmp_path):
    model, x = built(torch.float32)
    stream = resdyn.find_stream(model, x)
    expected = stream.states(x)
    one = expected.sample(0)
    X = torch.randn(6, 3)
    products = stream.jacobian(1, one).matmat(X), stream.jacobian(1, one).rmatmat(X)
    kept = resdyn.capture(model, x, "trajectory,singular(k=2)", tmp_path / "a.zarr", samples=2, show_progress=False)
    with AMBIENT[name]():
        again = resdyn.find_stream(model, x + 0)
        states = again.states(x + 0)
        for h, known in zip(states, expected, strict=True):
            assert torch.equal(h, known)
        assert torch.equal(again[0].block(states[0]), expected[1])
        jacobian = again.jacobian(1, states.sample(0))
        torch.testing.assert_close(jacobian.matmat(X + 0), products[0])
        torch.testing.assert_close(jacobian.rmatmat(X + 0), products[1])
        torch.testing.assert_close(jacobian.matvec(X[:, 0] + 0), products[0][:, 0])
        inside = resdyn.capture(
            model, x, "trajectory,singular(k=2)", tmp_path / "b.zarr", samples=2, show_progress=False
        )
    assert inside.states.equals(kept.states)
    assert float(abs(inside.singular_values - kept.singular_values).max()) < 1e-5


@pytest.mark.parametrize("name", AMBIENT)
def test_solvers_do_not_depend_on_what_surrounds_them(name):
    model, x = built(torch.float32)
    stream = resdyn.find_stream(model, x)
    jacobian = stream.jacobian(0, stream.states(x[:1]))
    singular, values = resdyn.svd(jacobian, 3), resdyn.eigenvalues(jacobian)
    with AMBIENT[name]():
        assert torch.equal(resdyn.svd(jacobian, 3).S, singular.S)
        assert torch.equal(resdyn.eigenvalues(jacobian).values, values.values)


def test_float32_products_are_made_in_float32():
    model, x = built(torch.float32)
    seen = SimpleQueue()  # lists that hooks fill are put back
    model[1].inner.register_forward_pre_hook(lambda *_: seen.put(torch.get_float32_matmul_precision()))
    torch.set_float32_matmul_precision("medium")
    try:
        resdyn.find_stream(model, x).states(x)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert {seen.get() for _ in range(seen.qsize())} == {"highest"}


def switch_off(model):
    model[1].on = model[2].on = False


def exchange(model):
    model[2].inner = nn.Linear(6, 6).double()


def replace_weights(model):
    for module in model[1:3]:
        module.inner.weight = nn.Parameter(torch.randn(6, 6, dtype=torch.float64))


def other_forward(model):
    model[1].forward = lambda h: h + 2 * torch.sin(model[1].inner(h))


@pytest.mark.parametrize("change", [switch_off, exchange, replace_weights, other_forward])
@pytest.mark.parametrize("named", [False, True])
def test_a_model_that_has_become_another_is_measured_as_it_is(change, named):
    model, x = built()
    stream = resdyn.stream_from_blocks(model, ["1", "2"], x) if named else resdyn.find_stream(model, x)
    before = stream.states(x).sample(0)
    change(model)
    for i in range(2):
        expected = dense(model[i + 1], before[i][0])
        torch.testing.assert_close(stream.jacobian(i, before, "block").to_dense(), expected)
        torch.testing.assert_close(stream.jacobian(i, before[i], "block").to_dense(), expected)
    after = stream.states(x)
    torch.testing.assert_close(after.output, model(x).detach())
    torch.testing.assert_close(after[1], model[1](model[0](x)).detach())
    if named:
        return
    whole = dense(model, x[0]).detach()
    torch.testing.assert_close(sensitivity(stream, after.sample(0))[0] @ model[0].weight.detach(), whole)


@pytest.mark.parametrize("measure", [sensitivity, lambda stream, states: tail_jacobian(stream, 0, states)])
def test_what_is_measured_from_a_state_on_is_renewed_too(measure):
    model, x = built()
    stream = resdyn.find_stream(model, x)
    before = stream.states(x).sample(0)
    graph = stream._graph
    measure(stream, before)
    assert stream._graph is graph
    switch_off(model)
    measure(stream, before)
    assert stream._graph is not graph


@pytest.mark.parametrize("recorded", [True, False])
def test_a_switch_that_only_stops_a_gradient_is_seen(recorded):
    class Held(Adapted):
        def forward(self, h):
            with torch.set_grad_enabled(self.on):
                scale = self.adapter(h)
            return h + self.inner(h) * scale

    model, x = built()
    model[1] = Held().double()
    model[1].on = recorded
    stream = resdyn.find_stream(model, x)
    states = stream.states(x).sample(0)
    model[1].on = not recorded
    expected = dense(model[1], states[0][0])
    torch.testing.assert_close(stream.jacobian(0, states, "block").to_dense(), expected)


REBUILT = {
    "a bias taken out": lambda model: setattr(model[1].inner, "bias", None),
    "another number of classes": lambda model: model.__setitem__(3, nn.Linear(6, 5).double()),
    "a pruning mask": lambda model: prune.l1_unstructured(model[1].inner, "weight", 0.5),
    "a hook in the branch": lambda model: model[1].inner.register_forward_hook(lambda _, __, z: 2 * z),
}


@pytest.mark.parametrize("change", REBUILT)
def test_a_model_that_was_built_otherwise_is_measured_as_it_is(change):
    model, x = built()
    stream = resdyn.find_stream(model, x)
    REBUILT[change](model)
    states = stream.states(x)
    torch.testing.assert_close(states.output, model(x).detach())
    expected = dense(model[1], states[0][0])
    torch.testing.assert_close(stream.jacobian(0, states.sample(0), "block").to_dense(), expected)


@pytest.mark.parametrize("more", [True, False])
def test_another_number_of_blocks_is_another_stream(more):
    model, x = built()
    stream = resdyn.find_stream(model, x)
    if more:
        model.insert(2, Adapted().double())
    else:
        del model[2]
    for measure in (lambda: stream.states(x), lambda: stream.jacobian(0, model[0](x[:1]))):
        with pytest.raises(ComputationError, match=r"has other blocks.*find it again"):
            measure()


def test_a_compiled_piece_runs_as_it_was_written():
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    model, x = built()
    states = resdyn.find_stream(model, x).states(x)
    model[1] = torch.compile(model[1], backend=backend)
    for h, known in zip(resdyn.find_stream(model, x).states(x), states, strict=True):
        assert torch.equal(h, known)
    resdyn.noise_response(model, x, [0.1], draws=2)
    assert not compiled


def test_other_blocks_are_another_stream():
    model, x = built()
    stream = resdyn.find_stream(model, x)
    model[2].forward = model[2].inner.forward
    with pytest.raises(ComputationError, match="changed since the stream was found: find it again"):
        stream.states(x)
    model.train()
    with pytest.raises(InputError, match="training mode"):
        stream.jacobian(0, torch.randn(6, dtype=torch.float64))


def test_a_capture_looks_once_and_not_at_every_sample(tmp_path):
    model, x = built()
    passes = SimpleQueue()  # lists that hooks fill are put back
    model.register_forward_pre_hook(lambda *_: passes.put(1))
    stream = resdyn.find_stream(model, x)
    before = passes.qsize()
    resdyn.capture(
        model, x, "trajectory,singular(k=2)", tmp_path / "a.zarr", samples=5, show_progress=False, stream=stream
    )
    assert passes.qsize() == before + 1


@pytest.mark.parametrize("probe", ["features", "robustness", "cushion"])
def test_a_stream_at_a_position_refuses_what_a_position_refuses(probe, tmp_path):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head((x + torch.tanh(self.inner(x))).mean(1))

    model, x = Tokens().double().eval(), torch.randn(4, 3, 4, dtype=torch.float64)
    data = (x, torch.tensor([0, 1, 0, 1]))
    stream = resdyn.find_stream(model, x).at(0)
    for options in ({"position": 0}, {"stream": stream}):
        with pytest.raises(InputError, match="measured for the whole state only"):
            resdyn.capture(model, data, probe, tmp_path / "a.zarr", samples=1, show_progress=False, **options)
    kept = resdyn.capture(model, data, None, tmp_path / "b.zarr", samples=1, show_progress=False, stream=stream)
    assert kept.attrs["position"] == 0
