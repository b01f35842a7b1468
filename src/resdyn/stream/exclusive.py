"""One at a time per process: export, tracing and forward mode, for which torch has only global state."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
# Besides, torch already uses all cores, and memory bounds hold for one task.
one_at_a_time = threading.RLock()


def serially(function: Callable[P, R]) -> Callable[P, R]:
    """The function under a lock: a call from a second thread waits for the first."""

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with one_at_a_time:
            return function(*args, **kwargs)

    return alone
