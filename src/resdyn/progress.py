"""Progress for whoever waits: bars on a terminal and in a notebook, a line every 30 seconds in a log.

A library is quiet: its long steps, each a `stage` or items to `track`, show themselves only where they begin inside
`show_progress`, as under the command line and in `capture`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TextIO, TypeVar

SHOWN_AFTER_SECONDS = 2.0
REFRESH_SECONDS = 0.5
LOG_SECONDS = 30.0
LOG_FORMAT = "{desc}: {percentage:.0f} %, {n_fmt} of {total_fmt} after {elapsed}, {remaining} left"
STAGE_FORMAT = "{desc}: {elapsed}"
Item = TypeVar("Item")
Totals = Mapping[str, int | None]
Done = Mapping[str, int]
Remarks = Callable[[Totals, Done, float], str | None]
_showing: ContextVar[bool] = ContextVar("showing", default=False)


@contextlib.contextmanager
def show_progress(show: bool = True) -> Iterator[None]:
    """Let the steps that begin inside show themselves, or (`show=False`) keep quiet."""
    token = _showing.set(show)
    try:
        yield
    finally:
        _showing.reset(token)


def tell(message: str) -> None:
    """A line about a library's work, where its steps show themselves."""
    if _showing.get():
        print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def stage(title: str) -> Iterator[None]:
    """A step of a library's work whose length is not known beforehand."""
    with progress_bars({title: None}, quiet=not _showing.get()):
        yield


def track(items: Sequence[Item], title: str) -> Iterator[Item]:
    """The items one by one: a step of a library's work that consists of them."""
    with progress_bars({title: len(items)}, quiet=not _showing.get()) as advance:
        for item in items:
            yield item
            advance(title, 1)


@contextlib.contextmanager
def progress_bars(
    totals: Totals,
    quiet: bool = False,
    remarks: Remarks = lambda totals, done, seconds: None,
    before: Done = MappingProxyType({}),
) -> Iterator[Callable[[str, int], None]]:
    """Show on standard error how far some work is, once it has lasted two seconds (in a log, 30).

    Args:
        totals: Title of each part of the work -> its number of steps, None where that is not known.
        quiet: Show nothing.
        remarks: Asked now and then, after the first two seconds, with the totals, the steps done and the seconds since
            the start: a line to be shown, or None.
        before: Title -> steps done in an earlier run, which say nothing about the time that is left.

    Yields:
        `advance(title, n)`, which counts n more steps. Steps inside belong to this work and do not show themselves.
    """
    # A thread of its own draws, so that time passes while a step lasts, and counting costs nothing. It writes to the
    # stream of now: the work may redirect standard error for a moment.
    done = dict.fromkeys(totals, 0) | dict(before)

    def advance(title: str, n: int) -> None:
        done[title] += n

    over, stream = threading.Event(), sys.stderr
    draw = _draw if is_interactive(stream) else _log
    drawing = threading.Thread(target=draw, args=(totals, before, done, remarks, over, stream), daemon=True)
    if not quiet:
        drawing.start()
    try:
        with show_progress(False):
            yield advance
    finally:
        over.set()
        if not quiet:
            drawing.join()


def is_interactive(stream: TextIO) -> bool:
    """Whether a person watches: a terminal, or the output of a notebook's cell."""
    return stream.isatty() or type(stream).__module__.startswith("ipykernel")


def _draw(totals: Totals, before: Done, done: Done, remarks: Remarks, over: threading.Event, stream: TextIO) -> None:
    """Bars that disappear when the work is over; remarks stay above them."""
    start = time.time()
    if over.wait(SHOWN_AFTER_SECONDS):
        return
    bars = {title: _bar(title, total, before.get(title, 0), stream, start) for title, total in totals.items()}
    try:
        while True:
            if line := remarks(totals, done, time.time() - start):
                next(iter(bars.values())).write(line, file=stream)
            for title, bar in bars.items():
                bar.update(done[title] - bar.n)
                bar.refresh()
            if over.wait(REFRESH_SECONDS):
                return
    finally:
        for bar in reversed(bars.values()):
            bar.close()


def _bar(title: str, total: int | None, before: int, stream: TextIO, start: float) -> Any:
    from tqdm.auto import tqdm

    bar_format = STAGE_FORMAT if total is None else None
    bar = tqdm(
        desc=title,
        total=total,
        initial=before,
        leave=False,
        dynamic_ncols=True,
        bar_format=bar_format,
        file=stream,
    )
    bar.start_t = start
    return bar


def _log(totals: Totals, before: Done, done: Done, remarks: Remarks, over: threading.Event, stream: TextIO) -> None:
    """A line for each part that has begun and is not done, every 30 seconds, and remarks when they are made."""
    start = logged = time.time()
    while not over.wait(min(REFRESH_SECONDS, LOG_SECONDS)):
        now = time.time()
        lines = [remarks(totals, done, now - start)] if now - start >= SHOWN_AFTER_SECONDS else []
        if now - logged >= LOG_SECONDS:
            logged = now
            lines += _lines(totals, before, done, now - start)
        for line in filter(None, lines):
            with contextlib.suppress(OSError, ValueError):  # whoever read it is gone
                print(line, file=stream, flush=True)


def _lines(totals: Totals, before: Done, done: Done, seconds: float) -> Iterator[str]:
    from tqdm import tqdm

    for title, total in totals.items():
        if total is None or done[title] not in (0, total) or len(totals) == 1:
            bar_format = STAGE_FORMAT if total is None else LOG_FORMAT
            initial = before.get(title, 0)
            yield tqdm.format_meter(done[title], total, seconds, prefix=title, bar_format=bar_format, initial=initial)
