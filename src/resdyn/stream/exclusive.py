"""One at a time in a process: export, tracing and forward mode, for which torch has global state alone."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
# Also: torch uses the cores already, and memory bounds hold for one task.
one_at_a_time = threading.RLock()


def serially(function: Callable[P, R]) -> Callable[P, R]:
    """The function, of whose calls a second thread's waits for the first's."""

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with one_at_a_time:
            return function(*args, **kwargs)

    return alone
