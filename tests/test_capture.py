"""Captures: labelled, resumable whatever stops them, and never of mixed settings."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import resdyn
from resdyn import store as stores
from resdyn.capturing.run import capture
from resdyn.capturing.selection import choose, labelled_inputs
from resdyn.data import load_data
from resdyn.errors import ComputationError, InputError, StoreError
from resdyn.models import load_model
from resdyn.nets import ResidualMLP
from resdyn.probes import Coupling, Singular, Trajectory
from resdyn.store.lock import locked
from resdyn.stream import find_stream, stream_from_blocks

PROBES = "trajectory,singular(k=3,vectors=true),coupling,features"


def make_net(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return ResidualMLP(in_features=5, width=6, depth=2, classes=3, preactivation=True).double().eval()


def make_data(n: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 5, dtype=torch.float64, generator=generator), torch.arange(n) % 3


@pytest.fixture(scope="module")
def net():
    return make_net()


@pytest.fixture(scope="module")
def stream(net):
    return find_stream(net, make_data()[0][:1])


@pytest.fixture
def captured(net, stream, tmp_path):
    """A capture in which every argument but those given is as usual."""

    def run(probes=PROBES, store="store", data=None, **arguments):
        arguments = {"samples": 4, "stream": stream, "command": "test"} | arguments
        return capture(arguments.pop("model", net), data or make_data(), probes, tmp_path / store, **arguments)

    return run


def test_a_capture_holds_what_the_probes_measured_under_names_of_the_schema(captured):
    ds = captured()
    sizes = {"sample": 4, "depth": 3, "block": 2, "block_j": 2, "rank": 3, "rank_j": 3, "coord": 6}
    assert ds.sizes == sizes | {"class": 3, "class_j": 3, "feature": 6, "fold": 10, "last_coord": 6}
    assert set(ds.coords) == {
        "sample",
        "label",
        "depth",
        "block",
        "stage",
        "stage_of_depth",
        "state_size",
        "rank",
        "class",
    }
    assert ds["states"].dims == ("sample", "depth", "coord")
    assert ds["coupling_uv"].dims == ("sample", "block", "block_j", "rank", "rank_j")
    assert ds["within_projected"].dims == ("depth", "class", "class_j")
    assert not any(ds[name].isnull().any() for name in ds.variables)
    assert ds["state_size"].values.tolist() == [6, 6, 6]


def test_a_capture_says_where_it_comes_from(captured, stream):
    attrs = captured().attrs
    assert attrs["model"] == "ResidualMLP"
    assert len(attrs["weights_hash"]) == 64
    assert (attrs["data"], attrs["split"], attrs["class_names"]) == ("tensors", "given", ["0", "1", "2"])
    assert (attrs["kind"], attrs["dtype"], attrs["seed"]) == ("gated", "float64", 0)
    assert (attrs["batch_norm"], attrs["nonsquare"], attrs["command"]) == ("eval", "skip", "test")
    assert attrs["probes"]["singular"] == {"k": 3, "method": "auto", "tol": 1e-4, "vectors": True, "delta": 0.05}
    assert attrs["versions"]["torch"] == torch.__version__
    assert [block["path"] for block in attrs["stream"]] == [block.path for block in stream.blocks]
    assert attrs["complete"] is True


def test_samples_carry_their_index_and_label(captured):
    x, y = make_data()
    ds = captured("trajectory", samples=[20, 3, 7])
    assert ds["sample"].values.tolist() == [20, 3, 7]
    assert ds["label"].values.tolist() == y[[20, 3, 7]].tolist()
    np.testing.assert_allclose(ds["states"][0, 0], make_net().input_map(x[20:21])[0].detach(), atol=1e-12)


def test_drawn_samples_are_balanced_over_classes_and_belong_to_the_seed():
    x = torch.zeros(40, 5, dtype=torch.float64)
    data = labelled_inputs((x, torch.tensor([0] * 30 + [1] * 8 + [2] * 2)), torch.float64)
    chosen = choose(data, 12, seed=0)
    assert torch.bincount(data.labels[chosen]).tolist() == [5, 5, 2]
    assert choose(data, 12, seed=0).tolist() == chosen.tolist()
    assert choose(data, 12, seed=1).tolist() != chosen.tolist()


def test_samples_do_not_depend_on_chunks_nor_on_the_other_samples(captured):
    one = captured("singular(k=3),trajectory", "a", samples=[1, 2, 3, 4, 5], chunk_size=1)
    two = captured("singular(k=3),trajectory", "b", samples=[5, 3, 1], chunk_size=2)
    xr.testing.assert_identical(one.sel(sample=[5, 3, 1]).drop_attrs(), two.drop_attrs())


def test_coupling_of_fewer_triplets_leaves_the_rest_nan(captured):
    coupling = captured([Singular(k=3), Coupling(k=2)], samples=1)["coupling_uv"]
    assert coupling.shape == (1, 2, 2, 3, 3)
    assert (~np.isnan(coupling)).sum() == 2 * 2 * 2 * 2


def test_feature_samples_limits_what_the_features_probe_reads(captured):
    ds = captured("features", feature_samples=9)
    assert int(ds["num_images"]) == ds.attrs["feature_samples"] == 9
    assert ds["class_count"].values.tolist() == [3, 3, 3]
    assert "sample" not in ds.dims


def test_a_finished_capture_is_returned_without_measuring_again(captured, monkeypatch):
    first = captured()
    monkeypatch.setattr(Trajectory, "measure", None)
    xr.testing.assert_identical(captured(command="another"), first)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            {"probes": "trajectory,singular(k=2,vectors=true),coupling,features"},
            "probes.singular.k: stored 3, asked 2",
        ),
        ({"kind": "block"}, "kind: stored 'gated', asked 'block'"),
        ({"samples": 3}, "samples: stored"),
        ({"seed": 1}, "seed: stored 0, asked 1"),
        ({"chunk_size": 2}, "chunk_size: stored 1, asked 2"),
        ({"model": make_net(1), "stream": None}, "weights_hash: stored"),
        ({"data": (make_data()[0] + 1, make_data()[1])}, "data_hash: stored"),
    ],
)
def test_a_store_of_other_settings_is_refused_with_the_difference(captured, change, difference):
    captured()
    with pytest.raises(StoreError) as error:
        captured(**change)
    assert difference in str(error.value)


class Scaled(torch.nn.Module):
    """A residual net whose code holds a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = make_net(), factor

    def forward(self, x):
        return self.inner(x * self.factor)


def test_a_store_is_refused_when_a_constant_of_the_model_changed(captured):
    captured("trajectory", model=Scaled(2.0).eval(), stream=None)
    with pytest.raises(StoreError, match="graph_hash: stored"):
        captured("trajectory", model=Scaled(3.0).eval(), stream=None)


def test_a_model_resumes_its_store_however_its_file_is_spelt(captured, tmp_path, monkeypatch):
    source = "from test_capture import make_net, make_data\ndef make():\n    return make_net(), make_data()[0][:1]\n"
    (tmp_path / "m.py").write_text(source)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    first = captured("trajectory", model=load_model("m.py:make"), stream=None)
    monkeypatch.setattr(Trajectory, "measure", None)
    xr.testing.assert_identical(captured("trajectory", model=load_model("folder/../m.py:make"), stream=None), first)
    assert first.attrs["model"] == "m.py:make"


@pytest.mark.parametrize(("probes", "seen"), [("trajectory", False), ("trajectory,features", True)])
def test_inputs_that_only_the_features_probe_reads_belong_to_the_data(captured, probes, seen):
    x, y = make_data()
    captured(probes, samples=[0, 1], data=(x, y))
    changed = x.clone()
    changed[7] += 1
    if not seen:
        captured(probes, samples=[0, 1], data=(changed, y))
        return
    with pytest.raises(StoreError, match="data_hash: stored"):
        captured(probes, samples=[0, 1], data=(changed, y))


def test_classes_numbered_anew_are_refused_where_the_model_has_others(tmp_path):
    model, digits = load_model("resdyn:mlp,width=8,depth=2"), load_data("digits")
    with pytest.raises(InputError, match=r"got 2 classes of digits, numbered 0..1, and a model with 10 logits"):
        capture(model, digits.of_classes(digits.class_names[3:5]), "trajectory", tmp_path / "s")
    fitting = load_model("resdyn:mlp,width=8,depth=2,classes=2")
    ds = capture(fitting, digits.of_classes(digits.class_names[3:5]), "trajectory", tmp_path / "s", samples=2)
    assert not ds["loss"].isnull().any()


def test_a_model_of_more_logits_than_classes_is_measured_with_a_note_and_without_a_loss(tmp_path):
    model = load_model("resdyn:mlp,width=8,depth=2,classes=20")
    ds = capture(model, load_data("digits"), "trajectory", tmp_path / "s", samples=2)
    assert ds["loss"].isnull().all()
    assert any("20 logits and the data 10 classes" in note for note in ds.attrs["notes"])


def arrived_job(captured, monkeypatch, **arguments):
    """The job of a capture as a worker receives it."""
    jobs = []
    monkeypatch.setattr(
        sys.modules["resdyn.capturing.run"], "run_tasks", lambda run, tasks, job, **options: jobs.append(job)
    )
    captured("trajectory", **arguments)
    return pickle.loads(pickle.dumps(jobs[0]))


def test_a_job_may_be_sent_on_to_another_worker_while_its_model_is_traced(captured, monkeypatch):
    job = arrived_job(captured, monkeypatch)
    undisturbed, sent = pickle.dumps(job), []
    traced = threading.Event()

    def send() -> None:
        while not traced.wait(0.002):
            sent.append(pickle.dumps(job))

    with ThreadPoolExecutor() as pool:
        sending = pool.submit(send)
        try:
            assert len(job.stream) == 2
        finally:
            traced.set()
        sending.result()
    assert set(sent) == {undisturbed}


@pytest.mark.parametrize("skip", ["auto", "none"])
def test_a_job_finds_a_stream_again_by_the_way_it_was_named(net, captured, monkeypatch, skip):
    named = stream_from_blocks(net, ["blocks.0", "blocks.1"], make_data()[0][:1], skip=skip)
    arrived = arrived_job(captured, monkeypatch, stream=named)
    assert arrived.stream is not named
    assert arrived.stream.named == named.named
    assert arrived.stream.describe() == named.describe()


def test_a_store_that_another_run_writes_is_refused(captured, tmp_path):
    with locked(tmp_path / "store"), pytest.raises(StoreError, match="is being written by process"):
        captured()


@pytest.mark.parametrize(
    ("stopped_by", "message"),
    [
        (ComputationError("no convergence"), r"sample \d+, block 1 \(blocks.1.*\): no convergence"),
        (KeyboardInterrupt(), None),
    ],
)
def test_what_is_done_when_a_task_fails_or_the_user_stops_it_stays_done(captured, monkeypatch, stopped_by, message):
    svd, calls = Singular.svd, iter(range(100))

    def stops_at_the_fourth(self, jacobian, seed):
        if next(calls) == 3:
            raise stopped_by
        return svd(self, jacobian, seed)

    monkeypatch.setattr(Singular, "svd", stops_at_the_fourth)
    with pytest.raises(type(stopped_by), match=message):
        captured("singular(k=3)")
    monkeypatch.undo()
    xr.testing.assert_identical(captured("singular(k=3)"), captured("singular(k=3)", "undisturbed"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"data": (torch.zeros(0, 5, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))},
            "at least one sample",
        ),
        (
            {"data": (torch.zeros(3, 5), torch.arange(3))},
            r"torch.float32, expected the model's torch.float64",
        ),
        ({"data": (torch.zeros(3, 5, dtype=torch.uint8), torch.arange(3))}, "uint8"),
        ({"data": (make_data()[0], torch.arange(29))}, r"shape \(29,\), expected \(30,\)"),
        (
            {"data": (make_data()[0], torch.arange(30))},
            r"labels from 0 to 29, expected 0..2: there are 3 classes",
        ),
        ({"data": (make_data()[0], torch.arange(30) - 1)}, "labels from -1 to 28"),
        ({"data": (make_data()[0] * torch.nan, make_data()[1])}, "NaN or infinite"),
        ({"data": {1, 2}}, "expected ImageData, TokenData, a DataLoader"),
        (
            {"data": (torch.zeros(3, 4, dtype=torch.float64), torch.arange(3))},
            r"input 0 has shape \(1, 4\), expected \(N, 5\)",
        ),
        ({"samples": 31}, "31 samples, expected between 1 and the 30 of tensors"),
        ({"samples": [1, 99]}, "99 is not one of them"),
        ({"samples": []}, "expected different indices"),
        ({"kind": "whole"}, "kind='whole'"),
        ({"seed": -1}, "seed=-1"),
        ({"chunk_size": 0}, "chunk_size=0"),
        ({"probes": "singular(k=7)"}, "k=7, but the Jacobian of block 0"),
        ({"probes": []}, "at least one"),
        ({"model": make_net().train()}, "training mode"),
        ({"model": make_net()}, "a stream of another model"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(captured, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        captured(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_loaded_model_is_fed_prepared_images_and_its_notes_are_kept(tmp_path):
    model = load_model("resdyn:mlp,width=8,depth=2")
    ds = capture(model, load_data("digits"), "trajectory", tmp_path / "s", samples=10, command="")
    assert ds.attrs["model"] == model.name
    assert (ds.attrs["data"], ds.attrs["split"]) == ("digits", "test")
    assert ds.attrs["weights_hash"] == model.weights_hash
    assert set(model.notes) <= set(ds.attrs["notes"])
    assert ds["label"].values.tolist().count(3) == 1


KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, {tests!r})
import test_capture as t
from resdyn import store as stores

net, data = t.make_net(), t.make_data()
stream = t.find_stream(net, data[0][:1])

def run(path):
    return t.capture(net, data, t.PROBES, path, samples=3, stream=stream, command="")

def killed_at(path, write):
    writes, replace = iter(range(10**6)), os.replace
    def counting(source, target):
        if next(writes) == write:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(source, target)
    os.rename, pathlib.Path.replace = counting, counting
    run(path)

for write in range(0, 10**6, 20):
    path = pathlib.Path({root!r}) / f"s{{write:03}}"
    child = os.fork()
    if child == 0:
        killed_at(path, write)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    seen = stores.open_store(path).load().attrs["tasks_remaining"] if stores.exists(path) else -1
    run(path)
    print(status, seen)
    if status == 0:
        break
"""


def test_a_capture_killed_at_any_moment_is_finished_by_the_same_call(tmp_path):
    script = KILLED.format(tests=str(Path(__file__).parent), root=str(tmp_path))
    # The script forks, and a fork does not survive OpenMP's threads.
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, env=alone)
    assert ran.returncode == 0, ran.stderr
    outcomes = [tuple(map(int, line.split())) for line in ran.stdout.splitlines()]
    assert all(status == 9 for status, _ in outcomes[:-1])
    seen = {seen for _, seen in outcomes}
    assert {-1, 0} < seen
    assert seen & {1, 2, 3}
    undisturbed, *others = (stores.open_store(path) for path in sorted(tmp_path.glob("s*"), reverse=True))
    for finished in others:
        xr.testing.assert_identical(finished, undisturbed)


def kill_a_worker_once_something_is_done(path: Path) -> None:
    import psutil

    while not (stores.exists(path) and stores.done_tasks(path).any()):
        time.sleep(0.01)
    children = psutil.Process().children(recursive=True)
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    workers[-1].kill()


def test_local_workers_make_the_same_store_even_if_one_is_killed(tmp_path):
    pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    arguments = {"samples": 12, "seed": 3, "command": ""}
    assassin = threading.Thread(target=kill_a_worker_once_something_is_done, args=[tmp_path / "a"], daemon=True)
    assassin.start()
    there = capture(
        make_net(), make_data(), "singular(k=3)", tmp_path / "a", workers=2, show_progress=False, **arguments
    )
    assassin.join()
    here = capture(make_net(), make_data(), "singular(k=3)", tmp_path / "b", **arguments)
    xr.testing.assert_allclose(there, here, rtol=1e-9)
    assert there.attrs == here.attrs


def test_the_public_names_are_capture_and_open():
    assert resdyn.capture is capture
    assert resdyn.open is resdyn.open_store is stores.open_store


def test_half_precision_is_refused_before_a_store_is_begun(tmp_path):
    model = ResidualMLP(in_features=make_data()[0].shape[1], width=8, depth=2).eval().bfloat16()
    with pytest.raises(InputError, match=r"model\.float\(\)"):
        resdyn.capture(model, make_data()[0].bfloat16(), "singular(k=2)", tmp_path / "a.zarr", show_progress=False)
    assert not (tmp_path / "a.zarr").exists()


class Annealed(torch.nn.Module):
    """Its branches are scaled by a number that is no tensor."""

    def __init__(self):
        super().__init__()
        self.steps = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(3))
        self.scale = 0.1

    def forward(self, x):
        for step in self.steps:
            x = x + self.scale * torch.tanh(step(x))
        return x


def test_a_stream_of_what_the_model_no_longer_computes_is_refused(tmp_path):
    model, x = Annealed().eval(), torch.randn(3, 4)
    stream = find_stream(model, x)
    capture(model, x, "trajectory", tmp_path / "a.zarr", samples=2, stream=stream, show_progress=False)
    model.scale = 1.0
    with pytest.raises(ComputationError, match="since the stream was found: find it again"):
        capture(model, x, "trajectory", tmp_path / "b.zarr", samples=2, stream=stream, show_progress=False)


def test_captures_in_two_threads_equal_captures_one_after_the_other(captured, tmp_path):
    nets, data = [make_net() for _ in range(4)], make_data()

    def measured(n):
        return capture(
            nets[n], data, "trajectory,singular(k=2)", tmp_path / f"t{n}", samples=[1, 2], show_progress=False
        )

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(measured, range(4)))
    for ds in found:
        xr.testing.assert_identical(ds.drop_attrs(), captured("trajectory,singular(k=2)", samples=[1, 2]).drop_attrs())
