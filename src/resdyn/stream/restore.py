"""Restoring containers, classes, globals, tensors and arrays, each only if it differs."""

from __future__ import annotations

import gc
import operator
from collections import OrderedDict, deque
from collections.abc import Collection
from random import Random
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resdyn._torch import FakeTensor

CACHE_LEVELS = 4  # a cached function refers to its entries, an entry to its value, a tuple to its parts
SLOTS_OF_CLASSES = {"__dict__", "__weakref__"}


def _plain_kind(item: Any) -> Any:
    """The container type that a class derives from: its own methods may compute values, or forbid removing entries."""
    return next(kind for kind in (OrderedDict, dict, list, set, deque) if isinstance(item, kind))


def restore_sequence(item: Any, before: Any) -> None:
    """Restore a bytearray or an array of numbers."""
    if item != before:
        item[:] = before


def restore_random(item: Any, before: Any) -> None:
    """Restore a random generator of Python or NumPy."""
    if isinstance(item, Random):
        item.setstate(before)
    else:
        item.bit_generator.state = before


def content(item: Any) -> dict[Any, Any] | list[Any]:
    kind = _plain_kind(item)
    return dict(kind.items(item)) if isinstance(item, dict) else list(kind.__iter__(item))


def restore_content(item: Any, before: Any) -> None:
    now, kind = content(item), _plain_kind(item)
    if _is_same(now, before) and (not isinstance(now, dict) or _is_same(now.values(), before.values())):
        return
    kind.clear(item)
    (kind.extend if isinstance(item, (list, deque)) else kind.update)(item, before)


def restore_names(namespace: dict[str, Any], present: dict[str, Any], absent: Collection[str]) -> None:
    for name, value in present.items():
        if namespace.get(name) is not value:
            namespace[name] = value
    for name in absent:
        namespace.pop(name, None)


def restore_class(kind: type, before: dict[str, Any]) -> None:
    for name in set(vars(kind)) - before.keys() - SLOTS_OF_CLASSES:
        type.__delattr__(kind, name)
    for name, value in before.items():
        if vars(kind).get(name) is not value:
            type.__setattr__(kind, name, value)


def forget_traced(function: Any, misses: int) -> None:
    """Empty the cache of a function that was called during tracing: what it returned then has no values."""
    if function.cache_info().misses != misses:
        entries: list[Any] = [function]
        for _ in range(CACHE_LEVELS):
            entries = gc.get_referents(*entries)
            if any(isinstance(entry, FakeTensor) for entry in entries):
                function.cache_clear()
                return
            entries = [entry for entry in entries if not isinstance(entry, (Tensor, FunctionType, type, ModuleType))]


def set_generator(generator: torch.Generator, state: Tensor) -> None:
    generator.set_state(state)


def set_attribute(item: Any, name: str, value: Any) -> None:
    if getattr(item, name, None) is not value:
        setattr(item, name, value)


def restore_storage(value: Tensor, before: Tensor) -> None:
    """Undo ``value.data = ...``."""
    if value.data_ptr() != before.data_ptr() or value.shape != before.shape or value.stride() != before.stride():
        value.data = before


def restore_tensor(value: Tensor, content: Tensor, before: Tensor) -> None:
    restore_storage(value, before)
    if not _equal(value, content):
        value.copy_(content)


def restore_array(value: np.ndarray, content: np.ndarray) -> None:
    if value.tobytes() != content.tobytes():
        np.copyto(value, content)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal; by their bytes for types of one byte (float8 has no comparison)."""
    return torch.equal(a.view(torch.uint8), b.view(torch.uint8)) if a.dtype.itemsize == 1 else torch.equal(a, b)


def _is_same(a: Any, b: Any) -> bool:
    """Whether these are the same objects in the same order."""
    return len(a) == len(b) and all(map(operator.is_, a, b))
