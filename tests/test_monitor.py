"""Watching a training run: what the monitor reports, and that it changes nothing."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import resdyn
from resdyn import capture
from resdyn.data import load_data
from resdyn.errors import InputError
from resdyn.metrics import Metric, summarize
from resdyn.monitor import Monitor
from resdyn.monitor.monitor import _standard_error
from resdyn.monitor.runner import ProbeRunner
from resdyn.nets import ResidualMLP
from resdyn.probes import Trajectory
from resdyn.stream.isolation import isolated
from resdyn.training import DIGITS_RECIPE, Recipe, train, train_digits

RECIPE = replace(DIGITS_RECIPE, epochs=3)
NET = {"width": 8, "depth": 3, "recipe": RECIPE}


class Block(nn.Module):
    """Everything that a clumsy measurement would disturb: batch norm, dropout."""

    def __init__(self, width):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, x):
        return x + self.branch(x)


def net(depth=2, width=6, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), *(Block(width) for _ in range(depth)), nn.Linear(width, classes))


def batch(n=12):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 4, generator=generator), torch.arange(n) % 3


def plain_loop(monitor=None, epochs=3, around=torch.enable_grad):
    """Momentum and batches drawn by torch, Python and numpy: losses, weights, rows."""
    model, (inputs, labels) = net(), batch(24)
    model[1].eval()  # frozen parts
    model[0].bias.requires_grad_(False)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    state = monitor and monitor.init(model, inputs[:8], labels[:8])
    losses = []
    for epoch in range(epochs):
        for _ in range(4):
            some = [random.randrange(24), *np.random.permutation(24)[:3], *torch.randperm(24)[:4].tolist()]  # noqa: NPY002
            loss = nn.functional.cross_entropy(model(inputs[some]), labels[some])
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        learning = [p for p in model.parameters() if p.requires_grad]
        gradients = [p.grad.clone() for p in learning]
        with around():
            state = monitor and monitor.update(state, model, epoch + 1, loss=loss)
        assert all(torch.equal(p.grad, g) for p, g in zip(learning, gradients, strict=True))
        assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["0.bias"]
        assert model[0].bias.grad is None
        assert torch.get_default_dtype() is torch.float32
        assert [module.training for module in model] == [True, False, True, True]
    return losses, model.state_dict(), monitor and monitor.result(state)


class Time:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def expensive(monkeypatch):
    """Measurements that only take time: finding the stream 4 s, trajectories 1 s, singular triplets 10 s."""
    clock = Time()

    def take(seconds):
        clock.now += seconds

    def answers(questions, model, group):
        take(10.0 if len(group) > 1 else 1.0)
        return []

    def find(questions, model):
        take(4.0)
        questions.found = True

    monkeypatch.setattr(ProbeRunner, "find_stream", find)
    monkeypatch.setattr(ProbeRunner, "has_stream", lambda runner, model: hasattr(runner, "found"))
    monkeypatch.setattr(ProbeRunner, "is_outdated", lambda runner, model: False)
    monkeypatch.setattr(ProbeRunner, "measure", answers)
    return clock


def test_a_monitor_reports_the_start_every_nth_epoch_and_the_end():
    watched = train_digits(**NET, callbacks=[Monitor(every=2, samples=2, probes="trajectory,singular(k=3),coupling")])
    rows = watched.history.results[0]
    assert [row["epoch"] for row in rows] == [0, 2, 3]
    assert all(-1 <= row["collinearity"] <= 1 and 0 <= row["diagonal_energy_uv"] <= 1 for row in rows)
    assert "loss" not in rows[0]
    assert rows[-1]["loss"] == watched.history.records[-1]["loss"]


def test_training_is_the_same_to_the_bit_with_and_without_a_monitor():
    alone = train_digits(**NET)
    watched = train_digits(**NET, callbacks=[Monitor(every=1, samples=2, probes="trajectory")])
    assert alone.history.records == watched.history.records
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name])


def test_a_report_of_a_watched_run_shows_its_training(tmp_path):
    watched = train_digits(**NET, callbacks=[Monitor(every=1, samples=2, probes="trajectory")])
    ds = resdyn.capture(
        watched.model,
        watched.train,
        "trajectory",
        tmp_path / "a.zarr",
        samples=2,
        show_progress=False,
        training=watched.history.results[0],
    )
    page = resdyn.write_report(ds, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "As the network trained" in page
    assert "epochs 0 → 3" in page


class Kill:
    """A callback that stops a run after some epochs."""

    def __init__(self, epochs=None):
        self.epochs = epochs

    def init(self, model, data, *, state=None):
        return {}

    def update(self, state, end):
        if end.epoch == self.epochs:
            raise KeyboardInterrupt
        return state

    def result(self, state):
        return None


def test_a_killed_run_of_the_own_loop_goes_on_with_its_rows_and_measures_the_start_once(tmp_path):
    data = resdyn.load_data("digits", "train").subset(range(40))
    recipe = Recipe(epochs=4, lr=0.05, weight_decay=0.0, batch_size=20)
    told = []

    def run(checkpoint, stop=None):
        torch.manual_seed(0)
        model = ResidualMLP(in_features=(1, 8, 8), width=6, depth=2)
        monitor = Monitor(every=2, samples=1, probes="trajectory", log=lambda values, at: told.append(at))
        return train(model, data, recipe, [monitor, Kill(stop)], checkpoint).results[0]

    rows = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", stop=2)
    assert run(tmp_path / "killed") == rows
    assert told == [0, 2, 4, 0, 2, 4]


@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_plain_loop_is_the_same_to_the_bit_with_and_without_a_monitor(around):
    losses, weights, _ = plain_loop()
    probes = "trajectory,features" if around is torch.no_grad else "singular(k=3),coupling,robustness"
    watched, same, rows = plain_loop(Monitor(every=1, samples=2, probes=probes), around=around)
    assert losses == watched
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert [row["error"] for row in rows] == [None] * 4
    assert rows[-1]["loss"] == losses[-1]
    measured = "within_class_variability" if around is torch.no_grad else "diagonal_energy_uv"
    assert len({row[measured] for row in rows}) == 4


def disturb(model):
    """Draw numbers and fail, in the middle of a measurement."""
    with isolated(model):
        assert torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert not any(module.training for module in model.modules())
        numbers = [torch.rand(1), random.random(), np.random.rand()]  # noqa: NPY002
        raise ZeroDivisionError(numbers)


def test_what_measuring_leaves_behind_is_nothing_also_after_an_error():
    model = net()
    model[1].branch.eval()
    modes = {module: module.training for module in model.modules()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), pytest.raises(ZeroDivisionError):
        disturb(model)
    assert {module: module.training for module in model.modules()} == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2][1])  # noqa: NPY002


def test_a_state_is_plain_and_a_resumed_run_goes_on_with_its_rows():
    model, (inputs, labels) = net(), batch()
    told = []
    monitor = Monitor(
        every=2, unit="step", samples=2, probes=[Trajectory()], log=lambda row, at: told.append((at, row))
    )
    state = monitor.init(model, inputs, labels)
    assert monitor.update(state, model, 1)["rows"] == state["rows"]
    state = json.loads(json.dumps(monitor.update(state, model, 2)))
    again = Monitor(every=2, unit="step", samples=2, probes="trajectory")
    state = again.init(model, inputs, labels, state=state)
    assert [row["step"] for row in state["rows"]] == [0, 2]
    state = again.update(state, model, 2)  # told twice
    state = again.update(state, model, 3, last=True, loss=np.float32(0.5))
    assert [row["step"] for row in again.result(state)] == [0, 2, 3]
    assert again.result(state)[-1]["loss"] == 0.5
    assert again.result(state)[-1]["collinearity"] == again.result(state)[0]["collinearity"]
    assert [at for at, _ in told] == [0, 2]
    assert told[0][1] == monitor.values(state["rows"][0])
    assert {"line_shape_score", "collinearity"} >= set(told[0][1]) != set()


def test_the_budget_skips_expensive_probes_first_and_waits_for_init(expensive):
    monitor = Monitor(every=1, budget=0.1, clock=expensive)
    model = net()
    state = monitor.init(model, batch()[0])
    assert state["costs"] == {"stream": 4.0, "trajectory": 1.0, "singular, coupling": 10.0}
    assert (state["measuring_seconds"], state["rows"][0]["skipped"]) == (15.0, [])
    skipped = []
    for epoch, seconds in enumerate((100.0, 59.0, 1.0, 100.0), start=1):  # 10 %: 10, 15.9, 16, 26 s
        expensive.now += seconds
        state = monitor.update(state, model, epoch)
        skipped.append(state["rows"][-1]["skipped"])
        assert state["measuring_seconds"] <= max(15.0, 0.1 * state["training_seconds"])
    everything = ["trajectory", "singular", "coupling"]
    assert skipped == [everything, everything, ["singular", "coupling"], ["singular", "coupling"]]
    assert state["training_seconds"] == 260.0
    assert state["measuring_seconds"] == 17.0


def test_the_budget_is_that_of_all_sessions_and_knows_what_finding_the_stream_costs(expensive):
    first = Monitor(every=1, budget=0.1, clock=expensive)
    model = net()
    state = first.init(model, batch()[0])
    expensive.now += 150.0
    state = first.update(state, model, 1, last=False)
    expensive.now += 1000.0  # between the sessions
    second = Monitor(every=1, budget=0.1, clock=expensive)
    state = second.init(model, batch()[0], state=state)
    expensive.now += 49.0
    state = second.update(state, model, 2)  # 19.9 s are allowed, 4 + 1 would be 20
    assert state["training_seconds"] == 199.0
    assert state["rows"][-1]["skipped"] == ["trajectory", "singular", "coupling"]
    expensive.now += 1.0
    state = second.update(state, model, 3)
    assert state["rows"][-1]["skipped"] == ["singular", "coupling"]
    assert state["measuring_seconds"] == 20.0


def test_an_expensive_probe_is_measured_when_enough_is_saved_up_for_it(expensive):
    monitor, model = Monitor(every=1, budget=0.1, clock=expensive), net()
    state = monitor.init(model, batch()[0])
    for epoch in range(1, 401):  # half a second an epoch is allowed, a trajectory takes one
        expensive.now += 5.0
        state = monitor.update(state, model, epoch)
        assert state["measuring_seconds"] <= max(15.0, 0.1 * state["training_seconds"])
    measured = [name for row in state["rows"][1:] for name in {"trajectory", "singular"} - set(row["skipped"])]
    assert measured.count("trajectory") == 99  # of 200 s half, less what it took at the beginning
    assert measured.count("singular") == 8  # 200 s without 15 at the beginning and 99 for the other
    assert state["spent"] == {"stream": 4.0, "trajectory": 100.0, "singular, coupling": 90.0}


def test_training_goes_on_when_measuring_fails():
    model, (inputs, labels) = net(), batch()
    monitor = Monitor(every=1, probes="trajectory,features", samples=2, budget=1e9)
    state = monitor.init(model, inputs, labels)
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    with pytest.warns(
        RuntimeWarning, match="at epoch 1, training continues: InputError: weight '0.weight' holds 1 NaN"
    ):
        state = monitor.update(state, model, 1)
    state = monitor.update(state, model, 2, loss=1.0)
    assert state["rows"][-1]["error"].count("NaN") == 1
    assert state["rows"][-1]["collinearity"] is None
    assert json.dumps(state)
    with pytest.raises(InputError, match="NaN"):
        monitor.init(model, inputs, labels)
    with pytest.raises(InputError, match="no residual stream"):
        monitor.init(nn.Sequential(nn.Linear(4, 4)), inputs)


def test_a_monitor_sees_through_wrappers_and_notices_that_the_network_changed():
    model, (inputs, labels) = net(depth=3), batch()
    monitor = Monitor(every=1, probes="trajectory", metrics=("tortuosity",), samples=2)
    state = monitor.init(torch.compile(nn.DataParallel(model), backend="eager"), inputs, labels)
    state = monitor.update(state, model, 1)
    del model[3]
    state = monitor.update(state, model, 2)
    whole, same, shorter = (row["tortuosity"] for row in monitor.result(state))
    assert whole == same != shorter
    assert model.training


def test_without_labels_nothing_is_said_about_classes_and_small_blocks_have_fewer_triplets():
    monitor = Monitor(samples=1)
    (row,) = monitor.result(monitor.init(net(), batch()[0]))
    assert row["within_class_variability"] is None
    assert 0 <= row["diagonal_energy_uv"] <= 1


def test_wrong_use_of_a_monitor_is_named():
    for wrong in ({"every": 0}, {"unit": "batch"}, {"budget": 0}, {"samples": 0}):
        with pytest.raises(InputError, match=f"got {next(iter(wrong))}="):
            Monitor(**wrong)
    with pytest.raises(InputError, match="a monitor takes kind, position"):
        Monitor(evry=3)
    with pytest.raises(InputError, match="unknown probe"):
        Monitor(probes="trajektory")
    with pytest.raises(InputError, match="call init"):
        Monitor(every=1).update({"rows": []}, net(), 1)
    with pytest.raises(InputError, match="got data of type tuple"):
        Monitor().init(net(), (*batch(), batch()[1]))
    with pytest.raises(InputError, match="expected them beside arrays"):
        Monitor().init(net(), batch(), batch()[1])


def test_a_monitor_sees_a_number_that_changes_in_the_code_of_a_network():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
            self.scale = 0.1

        def forward(self, x):
            for step in self.steps:
                x = x + self.scale * torch.tanh(step(x))
            return x

    options = {"every": 1, "samples": 2, "probes": "trajectory", "metrics": ("tortuosity",)}
    model, inputs = Scaled(), torch.randn(4, 4)
    monitor = Monitor(**options)
    state = monitor.init(model, inputs)
    model.scale = 1.0
    before, after = monitor.result(monitor.update(state, model, 1))
    (fresh,) = Monitor(**options).init(model, inputs)["rows"]
    assert before["tortuosity"] != after["tortuosity"] == fresh["tortuosity"]


def test_a_buffer_that_a_forward_pass_assigns_anew_is_the_loops_own():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = nn.Linear(4, 4)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls = self.calls + 1
            return x + torch.tanh(self.step(x))

    model = Counting()
    monitor = Monitor(every=1, samples=2, probes="trajectory")
    state = monitor.init(model, torch.randn(4, 4))
    monitor.update(state, model, 1)
    assert float(model.calls) == 0


def test_rows_hold_the_standard_errors_of_their_numbers():
    digits = load_data("digits", "train")
    images, labels = digits.inputs(range(60)), digits.labels[:60]
    torch.manual_seed(0)
    model = ResidualMLP(in_features=(1, 8, 8), width=16, depth=6).eval()
    row = Monitor(samples=4).init(model, images, labels)["rows"][0]
    errors = row["standard_errors"]
    assert {"collinearity", "diagonal_energy_uv", "inverse_scaling_r_squared", "within_class_variability"} <= set(
        errors
    )
    assert set(errors) <= {name for name, value in row.items() if value is not None}
    assert all(error >= 0 for error in errors.values())
    table = capture(model, (images, labels), "trajectory", store=None, samples=4, show_progress=False)
    known = {metric.name: metric.standard_error for metric in summarize(table)}
    assert errors["collinearity"] == pytest.approx(known["collinearity"])


def test_the_error_over_stages_is_that_of_the_samples_own_means():
    rows = [
        Metric("m", "", float(np.mean(values)), 1.0, 3, f"stage {k}", "", "", per_sample=values)
        for k, values in enumerate([(1.0, 2.0, 3.0), (3.0, 2.0, 1.0)])
    ]
    assert _standard_error(rows, "m") == 0  # opposite in the two stages
    assert _standard_error([replace(row, per_sample=None) for row in rows], "m") == 1
    assert _standard_error([rows[0], replace(rows[1], standard_error=None)], "m") is None
