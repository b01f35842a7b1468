"""Progress for the person who waits: bars with the time left, spinners where nobody can tell it.

A library is quiet: its long steps, each a `stage` or items to `track`, show themselves only where they begin inside
`shown`, as under the command line and in `capture`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SHOWN_AFTER_SECONDS = 2.0
Item = TypeVar("Item")
_shown: ContextVar[bool] = ContextVar("shown", default=False)


@contextlib.contextmanager
def shown(quiet: bool = False) -> Iterator[None]:
    """Let the steps that begin inside show themselves, unless `quiet`."""
    token = _shown.set(not quiet)
    try:
        yield
    finally:
        _shown.reset(token)


@contextlib.contextmanager
def stage(title: str) -> Iterator[None]:
    """A step of a library's work of which nobody can tell how long it takes."""
    with progress_bars({title: None}, quiet=not _shown.get()):
        yield


def track(items: Sequence[Item], title: str) -> Iterator[Item]:
    """The items one by one: a step of a library's work that consists of them."""
    with progress_bars({title: len(items)}, quiet=not _shown.get()) as advance:
        for item in items:
            yield item
            advance(title, 1)


@contextlib.contextmanager
def progress_bars(totals: Mapping[str, int | None], quiet: bool = False) -> Iterator[Callable[[str, int], None]]:
    """Bars with the time left, on standard error of a terminal, of work that lasts longer than two seconds.

    Without a total there is a spinner with the time since the start. Yields `advance(title, n)`. Steps inside
    belong to this work and do not show themselves.
    """
    # The bar starts on a thread of its own, maybe while the work has standard error redirected for a moment: it writes
    # to the stream of now, and leaves `sys.stderr` alone, which it would put back to that moment's.
    console = Console(file=sys.stderr, emoji=False)
    progress = Progress(
        *(_spinner() if None in totals.values() else _bar()),
        console=console,
        disable=quiet or not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    rows = {title: progress.add_task(title, total=total) for title, total in totals.items()}
    timer = threading.Timer(SHOWN_AFTER_SECONDS, progress.start)
    timer.daemon = True
    timer.start()
    try:
        with shown(quiet=True):
            yield lambda title, n: progress.advance(rows[title], n)
    finally:
        timer.cancel()
        timer.join()
        progress.stop()


def _bar() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()


def _spinner() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), SpinnerColumn(), TimeElapsedColumn()
