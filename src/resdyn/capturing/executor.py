"""Runs independent tasks: in this process, in local processes, or on a cluster (dask.distributed).

A task is idempotent: it writes its result to disk itself, skips what is done, and returns a small token. So
a worker killed in the middle costs its task, which is run again, and a run stopped at any moment resumes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from resdyn import _checks as checks
from resdyn.errors import ComputationError, InputError, require
from resdyn.progress import Remarks, progress_bars, show_progress, tell
from resdyn.stream.exclusive import one_at_a_time

Tick = Callable[[int], None]
CONNECT_TIMEOUT = "10s"
MEMORY_SETTINGS = {"MALLOC_TRIM_THRESHOLD_": 1_000_000_000, "MALLOC_MMAP_THRESHOLD_": 1_000_000_000}  # bytes
_SPAWN = "distributed.nanny.pre-spawn-environ"
MOST_WORKERS = 1024  # local ones; a scheduler may have more


@dataclass(frozen=True)
class Task:
    """What `task_fn` gets, and how much of the progress bar named `title` it is worth."""

    payload: Any
    title: str = "tasks"
    ticks: int = 1


class TaskFunction(Protocol):
    def __call__(self, shared: Any, payload: Any, tick: Tick, /) -> Any: ...


def check_workers(workers: int, scheduler: str | None) -> int:
    """The number of workers, before anything is written: a whole one, and whoever runs tasks is there.

    Raises `InputError` for another, and for a scheduler that does not answer; `MissingExtraError`.
    """
    workers = _whole(workers)
    if scheduler is not None:
        with _client(workers, checks.text("scheduler", scheduler)):
            pass
    elif workers:
        require("distributed", "cluster")
    return workers


def tell_resuming(done: Any, show: bool) -> None:
    """How many parts an earlier run left finished, where there are some."""
    if 0 < sum(done) < len(done):  # bool (tasks,)
        with show_progress(show):
            tell(f"resuming: {int(sum(done))} of {len(done)} parts are done")


def run_tasks(
    task_fn: TaskFunction,
    tasks: Sequence[Task],
    shared: Any = None,
    *,
    workers: int = 0,
    scheduler: str | None = None,
    show_progress: bool = True,
    remarks: Remarks = lambda totals, done, seconds: None,
) -> list[Any]:
    """Run `task_fn(shared, task.payload, tick)` for every task and return what the calls returned, in order.

    Args:
        task_fn: Calls of `tick(n)` in it move the bar while a task runs in this process.
        tasks: What to run.
        shared: Sent to a worker once, not with every task.
        workers: 0 runs them here, N in N local processes.
        scheduler: Address of a running dask.distributed scheduler, whose workers must see the same file system.
        show_progress: Show bars on the standard error of a terminal.
        remarks: Lines to be shown with them, as `progress_bars` takes them.

    Raises:
        Exception: What a task raised.
        ComputationError: For a task that killed several workers.
        MissingExtraError: Without the `cluster` extra.
        InputError: For a scheduler that does not answer.
    """
    workers = _whole(workers)
    if not tasks:
        return []
    totals = {t.title: sum(u.ticks for u in tasks if u.title == t.title) for t in tasks}
    with progress_bars(totals, quiet=not show_progress, remarks=remarks) as bars:
        if workers == 0 and scheduler is None:
            return [_run_here(task_fn, task, shared, bars) for task in tasks]
        with _client(workers, scheduler) as client:
            return _run_on(client, task_fn, tasks, shared, bars)


def _whole(workers: Any) -> int:
    expected = f"0 (this process) or more, up to {MOST_WORKERS}"
    return checks.whole("workers", workers, 0, MOST_WORKERS, expected=expected)


def _run_here(task_fn: TaskFunction, task: Task, shared: Any, bars: Callable[[str, int], None]) -> Any:
    ticked = 0

    def tick(n: int) -> None:
        nonlocal ticked
        ticked += n
        bars(task.title, n)

    with one_at_a_time:
        token = task_fn(shared, task.payload, tick)
    bars(task.title, task.ticks - ticked)
    return token


def _run_there(task_fn: TaskFunction, shared: Any, payload: Any) -> Any:
    # what a model prints is not a result: the standard output of a worker is that of the process that asked
    with one_at_a_time, contextlib.redirect_stdout(sys.stderr):
        return task_fn(shared, payload, lambda n: None)


def _keep(shared: Any) -> Any:
    return shared


def _run_on(
    client: Any, task_fn: TaskFunction, tasks: Sequence[Task], shared: Any, bars: Callable[[str, int], None]
) -> list[Any]:
    distributed = require("distributed", "cluster")
    with warnings.catch_warnings():
        # a task, not scattered data: the scheduler can make it again when the workers that held it are gone
        warnings.filterwarnings("ignore", message="Sending large graph")
        kept = client.submit(_keep, shared, pure=False)
        futures = {client.submit(_run_there, task_fn, kept, t.payload, pure=False): t for t in tasks}
    tokens = {}
    try:
        for future in distributed.as_completed(futures):
            tokens[future] = future.result()
            bars(futures[future].title, futures[future].ticks)
        return [tokens[future] for future in futures]
    except distributed.KilledWorker as error:
        raise ComputationError(
            f"a task killed its worker {error.allowed_failures + 1} times, often for lack of memory; "
            "use fewer workers or a smaller chunk_size, then resume"
        ) from error
    finally:
        client.cancel(list(futures), force=True)


@contextlib.contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    distributed = require("distributed", "cluster")
    if scheduler is None:
        # a worker has one thread of its own and dask gives its torch one; memory is watched by the user
        with (
            _own_memory_settings(),
            distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,  # what a task raises comes back; a worker lost is replaced
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_TIMEOUT)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"no dask scheduler answers at '{scheduler}' ({error}); check the address") from error
    with client:
        _warn_of_slow_memory(client)
        yield client


def _own_memory_settings() -> Any:
    """Workers started meanwhile keep memory that they will need again.

    dask sets the threshold for trimming alone, which ends glibc's adjusting of the other one: every tensor above
    128 KiB is then mapped and faulted in again, and a capture takes about twice as long.
    """
    dask = require("dask", "cluster")
    return dask.config.set({_SPAWN: dask.config.get(_SPAWN, {}) | MEMORY_SETTINGS})


def _memory_settings() -> tuple[bool, bool]:
    """Whether a process was started with a threshold for trimming, and with one for mapping."""
    trim, mmap = MEMORY_SETTINGS
    return trim in os.environ, mmap in os.environ


def _warn_of_slow_memory(client: Any) -> None:
    """Once per connection, where workers that others started were given the first threshold without the second."""
    found = client.run(_memory_settings)
    slow = sum(trim and not mmap for trim, mmap in found.values())
    if slow:
        remedy = " ".join(f"{name}={value}" for name, value in MEMORY_SETTINGS.items())
        warnings.warn(
            f"{slow} of {len(found)} workers return memory to the system after every tensor, which can double the time "
            f"of a capture; start them with {remedy} in their environment",
            stacklevel=2,
        )
