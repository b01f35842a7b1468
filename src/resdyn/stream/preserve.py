"""Running a model without side effects: its tensors, its attributes, and what its hooks write to are restored.

A forward pass may append to a list, count its calls, fill a cache. What the model's modules, their classes, hooks and
functions can reach by name is inspected once; what a pass has changed there is changed back.
"""

from __future__ import annotations

import dis
import sys
from array import array
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from random import Random
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resdyn._torch import FakeTensor, is_traceable_wrapper_subclass
from resdyn.stream.restore import (
    SLOTS_OF_CLASSES,
    content,
    forget_traced,
    restore_array,
    restore_class,
    restore_content,
    restore_names,
    restore_random,
    restore_sequence,
    restore_storage,
    restore_tensor,
    set_attribute,
    set_generator,
)

Undo = Callable[[], None]
HOPS = 3  # objects (such as a recorder) or globals between a module and a value that are followed
COPY_LIMIT = 1 << 26  # bytes of an array or tensor that is copied, though it is neither parameter nor buffer
FOREIGN = {*sys.stdlib_module_names, "torch", "numpy", "resdyn"} - {"__main__"}  # queues, threads: others use them too
CONTAINERS = (dict, list, set, deque)
ATOMS = {str, bytes, int, float, complex, bool, type(None), torch.Size, torch.dtype, torch.device, CodeType, ModuleType}
WRAPPERS = (SimpleNamespace, UserList, UserDict, ChainMap)
LRU_CACHE = type(lru_cache(len))
CODES = 1 << 14  # functions whose names are remembered: a model's code is read before each of its passes
STORE_GLOBAL = dis.opmap["STORE_GLOBAL"]


@contextmanager
def preserve_state(model: nn.Module, parameters: bool = False) -> Iterator[None]:
    """Undo what happens inside to the model and to whatever its modules and hooks write to.

    That is: values of buffers, parameters given other storage, attributes, lists, dicts, sets, deques and
    arrays in them, random generators, the same of plain objects, closures, globals and classes that the model's code
    and its hooks name. Not undone: files, iterators, and what belongs to other threads (queues).

    Args:
        model: The model.
        parameters: Also undo in-place writes to parameters, which takes a copy of them (default False).

    Yields:
        Nothing; the state is restored when the block ends, also by an error.

    Example:
        >>> import torch
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> with preserve_state(norm):
        ...     _ = norm(torch.randn(8, 2))
        >>> int(norm.num_batches_tracked)
        0
    """
    kept = _kept.get()
    state = kept[1] if kept is not None and kept[0] is model and not parameters else ModelState(model, parameters)
    _drop_compiled_calls(model)
    try:
        yield
    finally:
        state.restore()


_kept: ContextVar[tuple[nn.Module, ModelState] | None] = ContextVar("resdyn_kept", default=None)


@contextmanager
def preserve_state_once(model: nn.Module) -> Iterator[None]:
    """Within the context `preserve_state` of this model restores what is here, and does not search for it each time."""
    before = _kept.set((model, ModelState(model)))
    try:
        yield
    finally:
        _kept.reset(before)


def preserved(model: nn.Module) -> Callable[..., Any]:
    """The model as a function without side effects: each call is undone before the next."""
    state = ModelState(model)

    def call(*args: Any, **kwargs: Any) -> Any:
        _drop_compiled_calls(model)
        try:
            return model(*args, **kwargs)
        finally:
            state.restore()

    return call


def _drop_compiled_calls(model: nn.Module) -> None:
    """Drop what ``module.compile()`` has compiled, so that the module runs as written."""
    for module in model.modules():
        if vars(module).get("_compiled_call_impl") is not None:
            vars(module)["_compiled_call_impl"] = None


class ModelState:
    """What can be reached from a model at construction, and how to restore it."""

    def __init__(self, model: nn.Module, parameters: bool = False) -> None:
        self._undo: list[Undo] = []
        self._seen: dict[int, Any] = {}  # the objects themselves, so that no id is used twice
        self._values = {id(value) for value in (*model.parameters(), *model.buffers())}
        for parameter in model.parameters():
            (self._keep_tensor if parameters else self._keep_storage)(parameter)
        for buffer in model.buffers():
            self._keep_tensor(buffer)
        hooks = vars(nn.modules.module)
        self._empty: list[Any] = []  # most containers of a module
        items = [*model.modules(), *(value for name, value in hooks.items() if name.startswith("_global"))]
        for _ in range(HOPS + 1):  # nearest first, so that nothing is reached by a longer way first
            items = self._visit(items)

    def _visit(self, items: list[Any]) -> list[Any]:
        """Visit all that can be reached without another hop; returns what is one hop farther."""
        farther: list[Any] = []
        while items:
            item = items.pop()
            if type(item) in ATOMS or id(item) in self._seen:
                continue
            self._seen[id(item)] = item
            if isinstance(item, CONTAINERS) and not item:
                self._empty.append(item)
                continue
            for part, hops in self._parts(item):
                (farther if hops else items).append(part)
        return farther

    def restore(self) -> None:
        """Change back whatever has changed."""
        with torch.no_grad():
            for item in filter(None, self._empty):
                restore_content(item, ())
            for undo in self._undo:
                undo()

    def _parts(self, item: Any) -> Iterator[tuple[Any, int]]:
        """Record how to restore ``item``; yield what it leads to, and whether that is one hop farther."""
        if isinstance(item, CONTAINERS):
            before = content(item)
            self._undo.append(partial(restore_content, item, before))
            yield from ((part, 0) for part in (before.values() if isinstance(before, dict) else before))
        elif isinstance(item, Tensor):
            self._keep_attached(item)
        elif isinstance(item, np.ndarray):
            self._keep_array(item)
        elif isinstance(item, (bytearray, array)):
            self._undo.append(partial(restore_sequence, item, item[:]))
        elif isinstance(item, Random):
            self._undo.append(partial(restore_random, item, item.getstate()))
        elif isinstance(item, np.random.Generator):
            self._undo.append(partial(restore_random, item, item.bit_generator.state))
        elif isinstance(item, torch.Generator):
            self._undo.append(partial(set_generator, item, item.get_state()))
        elif isinstance(item, (tuple, frozenset)):
            yield from ((part, 0) for part in item)
        elif isinstance(item, (FunctionType, MethodType, partial, staticmethod, classmethod, property, LRU_CACHE)):
            yield from self._function_parts(item)
        elif isinstance(item, type):
            if not _is_foreign(item):
                yield from ((part, 0) for part in self._class_parts(item))
        elif isinstance(item, nn.Module):
            yield vars(item), 0
            yield from ((kind, 0) for kind in type(item).__mro__)
        elif isinstance(item, WRAPPERS) or not (_is_foreign(type(item)) or isinstance(item, ModuleType)):
            yield from ((part, 1) for part in self._object_parts(item))

    def _function_parts(self, item: Any) -> Iterator[tuple[Any, int]]:
        if isinstance(item, MethodType):
            yield from ((item.__self__, 0), (item.__func__, 0))
        elif isinstance(item, partial):
            yield from ((item.func, 0), (item.args, 0), (item.keywords, 0))
        elif isinstance(item, (staticmethod, classmethod)):
            yield item.__func__, 0
        elif isinstance(item, property):
            yield from ((item.fget, 0), (item.fset, 0))
        elif isinstance(item, LRU_CACHE):
            self._undo.append(partial(forget_traced, item, item.cache_info().misses))
            yield from ((item.__wrapped__, 0), (vars(item), 0))
        elif not _is_foreign(item):
            yield from ((part, 0) for part in self._closure(item))
            yield from ((part, 0) for part in (item.__defaults__, item.__kwdefaults__, item.__dict__))
            yield from ((part, 1) for part in self._named(item.__globals__, item.__code__))

    def _closure(self, function: FunctionType) -> Iterator[Any]:
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            self._undo.append(partial(set_attribute, cell, "cell_contents", value))
            yield value

    def _named(self, namespace: dict[str, Any], code: CodeType) -> Iterator[Any]:
        """Values of a module's globals that code names, and of those of modules that it names."""
        names = _names(code)
        present = {name: namespace[name] for name in names if name in namespace}
        self._undo.append(partial(restore_names, namespace, present, _assigned_globals(code) - present.keys()))
        yield from present.values()
        for module in [value for value in present.values() if isinstance(value, ModuleType)]:
            if module.__name__.split(".")[0] not in FOREIGN:
                inside = {name: vars(module)[name] for name in names if name in vars(module)}
                self._undo.append(partial(restore_names, vars(module), inside, set()))
                yield from inside.values()

    def _class_parts(self, kind: type) -> Iterator[Any]:
        before = {name: value for name, value in vars(kind).items() if name not in SLOTS_OF_CLASSES}
        self._undo.append(partial(restore_class, kind, before))
        yield from before.values()

    def _object_parts(self, item: Any) -> Iterator[Any]:
        yield from (type(item), getattr(item, "__dict__", None))
        for kind in type(item).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if hasattr(item, name):
                    value = getattr(item, name)
                    self._undo.append(partial(set_attribute, item, name, value))
                    yield value

    def _keep_storage(self, value: Tensor) -> None:
        if _is_plain(value):
            self._undo.append(partial(restore_storage, value, value.detach()))

    def _keep_tensor(self, value: Tensor) -> None:
        if _is_plain(value):
            self._undo.append(partial(restore_tensor, value, value.detach().clone(), value.detach()))

    def _keep_attached(self, value: Tensor) -> None:
        if id(value) not in self._values and _is_plain(value) and value.nbytes <= COPY_LIMIT:
            self._keep_tensor(value)

    def _keep_array(self, value: np.ndarray) -> None:
        if type(value) is np.ndarray and value.nbytes <= COPY_LIMIT and value.flags.writeable:
            self._undo.append(partial(restore_array, value, value.copy()))


def _is_foreign(item: Any) -> bool:
    """Whether a class or function belongs to a library whose objects others may be using concurrently."""
    return str(getattr(item, "__module__", None)).split(".")[0] in FOREIGN


def _is_plain(value: Tensor) -> bool:
    """A tensor with values in one piece of memory: not sparse, nested, fake, on the meta device or of another kind."""
    if isinstance(value, FakeTensor) or nn.parameter.is_lazy(value) or is_traceable_wrapper_subclass(value):
        return False
    return value.layout is torch.strided and not value.is_nested and not value.is_meta


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@lru_cache(CODES)
def _names(code: CodeType) -> frozenset[str]:
    return frozenset(name for part in _codes(code) for name in part.co_names)


@lru_cache(CODES)
def _assigned_globals(code: CodeType) -> frozenset[str]:
    """Names that code makes global: they may exist only after it has run."""
    parts = [part for part in _codes(code) if STORE_GLOBAL in part.co_code[::2]]
    steps = [step for part in parts for step in dis.get_instructions(part)]
    return frozenset(step.argval for step in steps if step.opcode == STORE_GLOBAL)
