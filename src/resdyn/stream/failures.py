"""Why a model could not be run or exported, in one line: the reason, the place in the model's code, what to do."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import nn

LIBRARIES = Path(torch.__file__).parent, Path(__file__).parent
DATA_DEPENDENT = ("data-dependent", "data dependent", "DataDependent", "unbacked", "Could not guard")
VALUES = (
    "what it computes depends on values there (.item(), if, while, a size that is counted), so the graph of one sample "
    "would not be that of another; write it with torch.where and fixed sizes, or measure a part of the model without it"
)
COMPLEX = (
    "has no residual stream of real states: its sums are of complex values, for which resdyn has no Jacobian; write "
    "real and imaginary parts as separate channels (torch.view_as_real)"
)
NO_TENSORS = (
    "returns no tensors, alone or in a tuple, list, dict or dataclass, so its values cannot be traced to an output; "
    "return the tensors themselves, from a module around the model if need be"
)
NO_STREAM = (
    "has no residual stream: no sum in it adds to a value, or to a linear projection of it, what weights compute from "
    "it; nor has it two layers without skips that keep the shape of their input and that every path to the output "
    "passes. Name blocks by hand with resdyn.stream_from_blocks(model, [module paths], *inputs)"
)


def first_line(error: BaseException) -> str:
    """The message of an error, in one line."""
    return next((line.strip() for line in str(error).split("\n") if line.strip()), type(error).__name__)


def export_failure(model: nn.Module, error: Exception) -> str:
    """The message for a model that runs and cannot be exported."""
    where = _module(model, error) + _line(error)
    message = f"{type(error).__name__}: {first_line(error)}"
    if any(mark in f"{message} {error}" for mark in DATA_DEPENDENT):
        reason = VALUES
    else:
        reason = "torch.export cannot trace what it does there; replace it by plain operations on tensors"
    return f"{type(model).__name__} runs, but could not be exported as a graph{where}: {reason} ({message})"


@dataclass(frozen=True)
class Hook:
    """A forward hook, by the registry that holds it."""

    registry: dict[int, Callable[..., Any]]
    key: int

    def remove(self) -> None:
        del self.registry[self.key]


def failing_hook(model: nn.Module, error: BaseException) -> Hook | None:
    """The hook in which an error was raised, if it was one."""
    ran = {frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)}
    for module in model.modules():
        for registry in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in registry.items():
                if ran & set(_codes(hook)):
                    return Hook(registry, key)
    return None


def _codes(hook: Any) -> Iterator[CodeType]:
    if isinstance(hook, partial):
        yield from _codes(hook.func)
    elif isinstance(hook, MethodType):
        yield from _codes(hook.__func__)
    elif isinstance(code := getattr(hook, "__code__", None), CodeType):
        yield code
    elif not isinstance(hook, type) and isinstance(call := type(hook).__call__, FunctionType):
        yield call.__code__


def _module(model: nn.Module, error: BaseException) -> str:
    """In which module a forward pass failed: the innermost one of the traceback."""
    names = {id(module): name for name, module in model.named_modules() if name}
    owners = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    inside = [owner for owner in owners if id(owner) in names]
    return f", in {names[id(inside[-1])]} ({type(inside[-1]).__name__})" if inside else ""


def _line(error: BaseException) -> str:
    """The last line of the traceback outside torch and resdyn."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if not _is_of_a_library(f.filename) and f.line]
    return f", at {Path(own[-1].filename).name}:{own[-1].lineno} `{own[-1].line}`" if own else ""


def _is_of_a_library(filename: str) -> bool:
    return filename.startswith("<") or any(Path(filename).is_relative_to(folder) for folder in LIBRARIES)
