"""Modules that have moved: their old names still import, with a `DeprecationWarning`, for one version."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

MOVED = {
    "resdyn.boundary": "resdyn.interventions.boundary",
    "resdyn.executor": "resdyn.capturing.executor",
    "resdyn.flows": "resdyn.papers.flows",
    "resdyn.lock": "resdyn.store.lock",
    "resdyn.noise": "resdyn.interventions.noise",
    "resdyn.pruning": "resdyn.interventions.pruning",
    "resdyn.stream.position": "resdyn.stream.token",
    "resdyn.training.monitor": "resdyn.monitor",
    "resdyn.transfer": "resdyn.interventions.transfer",
}


class _Forwarding(MetaPathFinder, Loader):
    """Makes, under an old name, a module whose attributes are those of the new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        new = importlib.import_module(MOVED[module.__name__])
        warnings.warn(
            f"{module.__name__} has moved to {new.__name__}; the old name will be removed in the next version",
            DeprecationWarning,
            stacklevel=2,
        )
        module.__doc__ = new.__doc__
        module.__dict__["__getattr__"] = lambda name: getattr(new, name)  # names that the new module forwards itself
        module.__dict__.update({name: value for name, value in vars(new).items() if not name.startswith("__")})


def forward_moved_modules() -> None:
    """Let the old names be imported; called once, by the package."""
    if not any(isinstance(finder, _Forwarding) for finder in sys.meta_path):
        sys.meta_path.append(_Forwarding())


def renamed(old: str, new: str, value: Any) -> Any:
    """The value of an argument under its old name, after a `DeprecationWarning` that says the new one."""
    warnings.warn(f"the argument {old} is now {new}; the old name will be removed", DeprecationWarning, stacklevel=3)
    return value


def renamed_argument(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function be called with the old name of a keyword, with a `DeprecationWarning`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def accepting(*args: P.args, **kwargs: P.kwargs) -> R:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{function.__name__}() got both {new} and {old}, its old name")
                warnings.warn(
                    f"{old}= of {function.__name__} is now {new}=; the old name will be removed in the next version",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return accepting

    return decorate
