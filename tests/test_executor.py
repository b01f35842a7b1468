"""The executor: results in order, failures passed on, and a killed worker that costs its task only."""

from __future__ import annotations

import importlib
import os
import signal
from pathlib import Path

import pytest

from resdyn.capturing import executor
from resdyn.capturing.executor import Task, run_tasks
from resdyn.errors import InputError, MissingExtraError


def square(shared, payload, tick):
    tick(1)
    return shared * payload**2


def fail(shared, payload, tick):
    raise InputError(f"task {payload} refused")


def write_once(folder: Path, payload: int, tick) -> int:
    """Die in the middle of task 1, the first time."""
    result, started = folder / f"done{payload}", folder / f"started{payload}"
    with started.open("a") as log:
        log.write("x")
    if payload == 1 and started.read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)
    result.write_text(" ".join(os.environ[name] for name in executor.MEMORY_SETTINGS))
    return payload


def test_results_come_in_the_order_of_the_tasks():
    assert run_tasks(square, [Task(3), Task(1), Task(2)], 10) == [90, 10, 40]


def test_no_tasks_are_done_at_once():
    assert run_tasks(square, [], workers=5) == []


def test_what_a_task_raises_is_raised():
    with pytest.raises(InputError, match="task 7 refused"):
        run_tasks(fail, [Task(7)])


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(InputError, match=r"workers=-1, expected 0 \(this process\) or more"):
        run_tasks(square, [Task(1)], 1, workers=-1)


def test_without_the_cluster_extra_workers_say_what_to_install(monkeypatch):
    def missing(package):
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'resdyn\[cluster\]'"):
        run_tasks(square, [Task(1)], 1, workers=1)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    monkeypatch.setattr(executor, "CONNECT_TIMEOUT", "0.2s")
    with pytest.raises(InputError, match=r"no dask scheduler answers at 'tcp://127.0.0.1:9'"):
        run_tasks(square, [Task(1)], 1, scheduler="tcp://127.0.0.1:9")


def test_a_running_scheduler_is_given_the_tasks():
    distributed = pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster:
        assert run_tasks(square, [Task(3), Task(1)], 10, scheduler=cluster.scheduler_address) == [90, 10]


def test_what_a_task_raises_on_a_worker_is_raised_here():
    distributed = pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
        pytest.raises(InputError, match="task 7 refused"),
    ):
        run_tasks(fail, [Task(7)], scheduler=cluster.scheduler_address)


def test_a_worker_killed_in_the_middle_costs_its_task_only(tmp_path):
    pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    assert run_tasks(write_once, [Task(n) for n in range(4)], tmp_path, workers=2, show_progress=False) == [0, 1, 2, 3]
    assert len((tmp_path / "started1").read_text()) == 2
    assert {(tmp_path / f"done{n}").read_text() for n in range(4)} == {"1000000000 1000000000"}


def test_workers_that_give_memory_back_after_every_tensor_are_warned_of(monkeypatch):
    distributed = pytest.importorskip("distributed")
    trim, mmap = executor.MEMORY_SETTINGS
    monkeypatch.setenv(trim, "65536")
    monkeypatch.delenv(mmap, raising=False)
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster:
        with pytest.warns(UserWarning, match=f"1 of 1 workers return memory.*{mmap}=1000000000"):
            assert run_tasks(square, [Task(3)], 10, scheduler=cluster.scheduler_address) == [90]
        monkeypatch.setenv(mmap, "1000000000")
        assert run_tasks(square, [Task(3)], 10, scheduler=cluster.scheduler_address) == [90]
