"""A model that keeps what passes through it is left as it was: by modules, by hooks, by classes, by globals."""

from __future__ import annotations

from array import array
from collections import OrderedDict, UserDict, UserList, defaultdict, deque
from functools import lru_cache, partial
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import resdyn
from resdyn.errors import InputError
from resdyn.stream.preserve import preserve_state, preserved

KEPT_BY_NAME: list[torch.Tensor] = []
LAST = None


@lru_cache
def ones(size: int) -> torch.Tensor:
    return torch.ones(size)


class Recorder:
    everything: list[torch.Tensor] = []  # noqa: RUF012, of the class on purpose
    __slots__ = ("count", "inner")

    def __init__(self):
        self.count = 0
        self.inner = SimpleNamespace(values=[])

    def __call__(self, module, args, output):
        self.count += 1
        self.inner.values.append(output)
        Recorder.everything.append(output)


class Keeping(nn.Module):
    """A residual block that leaves its branch wherever a module can."""

    latest = None

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 5)
        self.kept = {"list": [], "deque": deque(maxlen=2), "set": set(), "ordered": OrderedDict()}
        self.by_shape = defaultdict(list)
        self.array = np.zeros(2)
        self.total = torch.zeros(5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        global LAST
        y = torch.tanh(self.a(x)) * ones(5)
        self.kept["list"].append(y)
        self.kept["deque"].append(y)
        self.kept["set"].add(y)
        self.kept["ordered"][len(self.kept["ordered"])] = y
        self.by_shape[y.shape].append(y)
        self.array += 1
        self.calls += 1
        self.new = y
        Keeping.latest = LAST = y
        KEPT_BY_NAME.append(y)
        return x + y


def keeping():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), Keeping(), Keeping(), nn.Linear(5, 3)).eval()


def contents(model, *more):
    """Everything that the model, its classes and hooks could have kept, by identity and by value."""
    blocks = list(model)[1:3]
    numbers = [(block.array.tolist(), block.total.tolist(), float(block.calls)) for block in blocks]
    containers = [list(map(id, kept)) for block in blocks for kept in block.kept.values()]
    names = [(sorted(vars(block)), len(block.by_shape)) for block in blocks]
    globals_ = (list(map(id, KEPT_BY_NAME)), id(LAST), id(Keeping.latest), list(map(id, Recorder.everything)))
    return numbers, containers, names, globals_, [list(map(id, kept)) for kept in more]


@pytest.mark.parametrize("ran_before", [False, True])
def test_whatever_a_module_or_a_hook_keeps_is_as_before(ran_before, tmp_path):
    model, x, recorder = keeping(), torch.randn(6, 3), Recorder()
    closed_over: list[torch.Tensor] = []
    given: list[torch.Tensor] = []
    model[1].register_forward_hook(recorder)
    model[2].register_forward_hook(lambda module, args, output: closed_over.append(output))
    model[3].register_forward_hook(partial(lambda kept, module, args, output: kept.append(output), given))
    if ran_before:
        model(x)
    kept = (closed_over, given, recorder.inner.values)
    before, count = contents(model, *kept), recorder.count
    stream = resdyn.find_stream(model, x)
    stream.states(x)
    resdyn.noise_response(model, x, [0.1], draws=2)
    probes = "trajectory,singular(k=2),robustness(directions=2)"
    resdyn.capture(model, (x, torch.arange(6) % 3), probes, tmp_path / "a.zarr", samples=2, show_progress=False)
    assert contents(model, *kept) == before
    assert recorder.count == count
    assert type(ones(5)) is torch.Tensor


def test_a_model_is_as_before_after_an_interruption_too():
    model, x = keeping(), torch.randn(2, 3)
    before = contents(model)

    def interrupt(module, args):
        raise KeyboardInterrupt

    model[3].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        resdyn.noise_response(model, x, [0.1], draws=2)
    assert contents(model) == before


def test_each_call_of_a_preserved_model_starts_from_the_same_state():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return x * self.seen

    model = Counting()
    call = preserved(model)
    assert [float(call(torch.ones(()))) for _ in range(3)] == [1, 1, 1]
    assert model.seen == 0


def test_parameters_that_a_pass_rewrites_are_as_before():
    class Clamped(nn.Linear):
        def forward(self, x):
            self.weight.data.clamp_(-0.1, 0.1)
            self.bias.data = self.bias.data / 2
            return super().forward(x)

    layer = Clamped(4, 4)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with preserve_state(layer, parameters=True), torch.no_grad():
        layer(torch.randn(1, 4))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_collections_arrays_and_generators_are_as_before():
    kept = {"list": UserList(), "dict": UserDict(), "bytes": bytearray(), "numbers": array("d")}
    generators = {"python": Random(0), "numpy": np.random.default_rng(0)}

    class Block(nn.Linear):
        def forward(self, x):
            kept["list"].append(x)
            kept["dict"][len(kept["dict"])] = x
            kept["bytes"].append(1)
            kept["numbers"].append(generators["python"].random() + generators["numpy"].random())
            return x + torch.tanh(super().forward(x))

    model, x = nn.Sequential(Block(5, 5), nn.Linear(5, 3)).eval(), torch.randn(2, 5)
    resdyn.find_stream(model, x).states(x)
    resdyn.noise_response(model, x, [0.1], draws=2)
    assert [len(values) for values in kept.values()] == [0, 0, 0, 0]
    assert generators["python"].random() == Random(0).random()
    assert generators["numpy"].random() == np.random.default_rng(0).random()


def test_a_hook_that_reads_values_leaves_the_comparison_with_autograd_alone():
    norms = []
    model, x = keeping(), torch.randn(2, 3)
    model[1].register_forward_hook(lambda module, args, output: norms.append(output.detach().numpy().max()))
    assert not resdyn.find_stream(model, x).notes
    assert not norms


def test_a_hook_that_fails_on_traced_values_is_left_out_of_the_graph_if_it_changes_nothing():
    printed = []
    model, x = keeping(), torch.randn(4, 3)
    model[1].a.register_forward_hook(lambda module, args, output: printed.append(output.sum().item()))
    stream = resdyn.find_stream(model, x)
    torch.testing.assert_close(stream.states(x).output, model(x))
    assert len(printed) == 1


def test_a_hook_that_depends_on_values_and_changes_them_is_not_left_out():
    model, x = keeping(), torch.randn(1, 3)
    model[1].a.register_forward_hook(lambda module, args, output: output * 2 if output.sum().item() < 1e9 else output)
    with pytest.raises(resdyn.errors.ComputationError, match="does not reproduce the model"):
        resdyn.find_stream(model, x)


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # that torch.compile itself still calls
def test_the_wrapper_of_compile_is_taken_off():
    model, x = keeping(), torch.randn(2, 3)
    stream = resdyn.find_stream(torch.compile(model), x)
    assert stream.model is model
    with pytest.raises(InputError, match=r"pass model\.module"):
        resdyn.find_stream(nn.DataParallel(model).eval(), x)
