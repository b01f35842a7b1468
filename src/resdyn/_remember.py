"""What several parts of a page need is computed once: results of functions of a dataset, kept while it is made."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
_kept: ContextVar[dict[Hashable, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Keep the results of `remembered` functions until the end; inside another one, until the end of that."""
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def remembered(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function of a dataset whose result is the same object whenever it is asked again inside `remembering`.

    Whoever calls it leaves result and arguments unchanged; the first argument is known by identity, others by value,
    and None is what they are by default.
    """

    @functools.wraps(function)
    def once(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        kept = _kept.get()
        if kept is None or not args:
            return function(*args, **kwargs)
        named = tuple(sorted((name, value) for name, value in kwargs.items() if value is not None))
        positional = args[1:] if any(value is not None for value in args[1:]) else ()
        key = (function, id(args[0]), positional, named)
        if key not in kept:
            kept[key] = (args[0], function(*args, **kwargs))  # the dataset is kept too, so that its id stays its own
        found: Result = kept[key][1]
        return found

    return once
