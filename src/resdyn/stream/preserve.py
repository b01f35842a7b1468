"""A model is run and looks afterwards as it did before: its tensors, its attributes, and what its hooks write into.

A forward pass may append to a list, count its calls, fill a cache. What the model's modules, their classes, hooks and
functions can reach by name is looked at once; what a pass has changed there is changed back.
"""

from __future__ import annotations

import dis
import gc
import operator
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Undo = Callable[[], None]
HOPS = 3  # how many objects that are not modules, or globals, are passed on the way to a value, such as a recorder
COPY_LIMIT = (
    1 << 26
)  # bytes of an array or tensor that is neither parameter nor buffer, copied in case a pass writes it
FOREIGN = {*sys.stdlib_module_names, "torch", "numpy", "resdyn"} - {"__main__"}  # queues, threads: of others too
CONTAINERS = (dict, list, set, deque)
ATOMS = {str, bytes, int, float, complex, bool, type(None), torch.Size, torch.dtype, torch.device, CodeType, ModuleType}
LRU_CACHE = type(lru_cache(len))
CACHE_LEVELS = 4  # a cached function refers to its entries, an entry to its value, a tuple to its parts
STORE_GLOBAL = dis.opmap["STORE_GLOBAL"]
SLOTS_OF_CLASSES = {"__dict__", "__weakref__"}


@contextmanager
def preserve_state(model: nn.Module, parameters: bool = False) -> Iterator[None]:
    """Undo what happens inside to the model and to whatever its modules and hooks write into.

    That is: values of buffers, parameters that were given other storage, attributes, lists, dicts, sets, deques and
    arrays in them, the same of plain objects, closures, globals and classes that the model's code and its hooks name.
    With `parameters` also what is written into parameters in place, which takes a copy of them. Not undone: files, and
    what belongs to other threads (queues).
    """
    state = ModelState(model, parameters)
    _run_as_written(model)
    try:
        yield
    finally:
        state.restore()


def preserved(model: nn.Module) -> Callable[..., Any]:
    """The model as a function that leaves nothing behind: each call is undone before the next."""
    state = ModelState(model)

    def call(*args: Any, **kwargs: Any) -> Any:
        _run_as_written(model)
        try:
            return model(*args, **kwargs)
        finally:
            state.restore()

    return call


def _run_as_written(model: nn.Module) -> None:
    """Not what `module.compile()` would make of it first."""
    for module in model.modules():
        if vars(module).get("_compiled_call_impl") is not None:
            vars(module)["_compiled_call_impl"] = None


class ModelState:
    """What can be reached from a model when this is made, and how to make it so again."""

    def __init__(self, model: nn.Module, parameters: bool = False) -> None:
        self._undo: list[Undo] = []
        self._seen: dict[int, Any] = {}  # the objects themselves, so that no id is used twice
        self._values = {id(value) for value in (*model.parameters(), *model.buffers())}
        for parameter in model.parameters():
            (self._keep_tensor if parameters else self._keep_storage)(parameter)
        for buffer in model.buffers():
            self._keep_tensor(buffer)
        hooks = vars(nn.modules.module)
        pending = [(module, 0) for module in model.modules()]
        pending += [(value, 0) for name, value in hooks.items() if name.startswith("_global") and value]
        self._empty: list[Any] = []  # most containers of a module
        while pending:
            item, hops = pending.pop()
            if type(item) in ATOMS or id(item) in self._seen or hops > HOPS:
                continue
            self._seen[id(item)] = item
            if isinstance(item, CONTAINERS) and not item:
                self._empty.append(item)
            else:
                pending += [(part, hops + further) for part, further in self._parts(item)]

    def restore(self) -> None:
        """Change back whatever has changed."""
        with torch.no_grad():
            for item in filter(None, self._empty):
                _restore_content(item, ())
            for undo in self._undo:
                undo()

    def _parts(self, item: Any) -> Iterator[tuple[Any, int]]:
        """Note how to restore `item`; give what it leads to, and whether that is one object farther away."""
        if isinstance(item, CONTAINERS):
            content = _content(item)
            self._undo.append(partial(_restore_content, item, content))
            yield from ((part, 0) for part in (content.values() if isinstance(content, dict) else content))
        elif isinstance(item, Tensor):
            self._keep_attached(item)
        elif isinstance(item, np.ndarray):
            self._keep_array(item)
        elif isinstance(item, torch.Generator):
            self._undo.append(partial(_set_generator, item, item.get_state()))
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
        elif isinstance(item, SimpleNamespace) or not (_is_foreign(type(item)) or isinstance(item, ModuleType)):
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
            self._undo.append(partial(_forget_traced, item, item.cache_info().misses))
            yield item.__wrapped__, 0
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
            self._undo.append(partial(_set_attribute, cell, "cell_contents", value))
            yield value

    def _named(self, namespace: dict[str, Any], code: CodeType) -> Iterator[Any]:
        """Values of a module's globals that code names, and of those of modules that it names."""
        names = _names(code)
        present = {name: namespace[name] for name in names if name in namespace}
        self._undo.append(partial(_restore_names, namespace, present, _assigned_globals(code) - present.keys()))
        yield from present.values()
        for module in [value for value in present.values() if isinstance(value, ModuleType)]:
            if module.__name__.split(".")[0] not in FOREIGN:
                inside = {name: vars(module)[name] for name in names if name in vars(module)}
                self._undo.append(partial(_restore_names, vars(module), inside, set()))
                yield from inside.values()

    def _class_parts(self, kind: type) -> Iterator[Any]:
        before = {name: value for name, value in vars(kind).items() if name not in SLOTS_OF_CLASSES}
        self._undo.append(partial(_restore_class, kind, before))
        yield from before.values()

    def _object_parts(self, item: Any) -> Iterator[Any]:
        yield from (type(item), getattr(item, "__dict__", None))
        for kind in type(item).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if hasattr(item, name):
                    value = getattr(item, name)
                    self._undo.append(partial(_set_attribute, item, name, value))
                    yield value

    def _keep_storage(self, value: Tensor) -> None:
        if _is_plain(value):
            self._undo.append(partial(_restore_storage, value, value.detach()))

    def _keep_tensor(self, value: Tensor) -> None:
        if _is_plain(value):
            self._undo.append(partial(_restore_tensor, value, value.detach().clone(), value.detach()))

    def _keep_attached(self, value: Tensor) -> None:
        if id(value) not in self._values and _is_plain(value) and value.nbytes <= COPY_LIMIT:
            self._keep_tensor(value)

    def _keep_array(self, value: np.ndarray) -> None:
        if type(value) is np.ndarray and value.nbytes <= COPY_LIMIT and value.flags.writeable:
            self._undo.append(partial(_restore_array, value, value.copy()))


def _is_foreign(item: Any) -> bool:
    """Whether a class or function belongs to a library whose objects others may be using at the same time."""
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


def _names(code: CodeType) -> set[str]:
    return {name for part in _codes(code) for name in part.co_names}


def _assigned_globals(code: CodeType) -> set[str]:
    """Names that code makes global: they may exist only after it has run."""
    parts = [part for part in _codes(code) if STORE_GLOBAL in part.co_code[::2]]
    return {step.argval for part in parts for step in dis.get_instructions(part) if step.opcode == STORE_GLOBAL}


def _plain_kind(item: Any) -> Any:
    """The container that a class is made from: its own methods may compute values, or forbid to take entries out."""
    return next(kind for kind in (OrderedDict, dict, list, set, deque) if isinstance(item, kind))


def _content(item: Any) -> dict[Any, Any] | list[Any]:
    kind = _plain_kind(item)
    return dict(kind.items(item)) if isinstance(item, dict) else list(kind.__iter__(item))


def _restore_content(item: Any, before: Any) -> None:
    now, kind = _content(item), _plain_kind(item)
    if _is_same(now, before) and (not isinstance(now, dict) or _is_same(now.values(), before.values())):
        return
    kind.clear(item)
    (kind.extend if isinstance(item, (list, deque)) else kind.update)(item, before)


def _restore_names(namespace: dict[str, Any], present: dict[str, Any], absent: set[str]) -> None:
    for name, value in present.items():
        if namespace.get(name) is not value:
            namespace[name] = value
    for name in absent:
        namespace.pop(name, None)


def _restore_class(kind: type, before: dict[str, Any]) -> None:
    for name in set(vars(kind)) - before.keys() - SLOTS_OF_CLASSES:
        type.__delattr__(kind, name)
    for name, value in before.items():
        if vars(kind).get(name) is not value:
            type.__setattr__(kind, name, value)


def _forget_traced(function: Any, misses: int) -> None:
    """Empty the cache of a function that was called while it was only traced: what it returned then has no values."""
    if function.cache_info().misses != misses:
        entries: list[Any] = [function]
        for _ in range(CACHE_LEVELS):
            entries = gc.get_referents(*entries)
            if any(isinstance(entry, FakeTensor) for entry in entries):
                function.cache_clear()
                return
            entries = [entry for entry in entries if not isinstance(entry, (Tensor, FunctionType, type, ModuleType))]


def _set_generator(generator: torch.Generator, state: Tensor) -> None:
    generator.set_state(state)


def _set_attribute(item: Any, name: str, value: Any) -> None:
    if getattr(item, name, None) is not value:
        setattr(item, name, value)


def _restore_storage(value: Tensor, before: Tensor) -> None:
    """After `value.data = ...`."""
    if value.data_ptr() != before.data_ptr() or value.shape != before.shape or value.stride() != before.stride():
        value.data = before


def _restore_tensor(value: Tensor, content: Tensor, before: Tensor) -> None:
    _restore_storage(value, before)
    if not _equal(value, content):
        value.copy_(content)


def _restore_array(value: np.ndarray, content: np.ndarray) -> None:
    if value.tobytes() != content.tobytes():
        np.copyto(value, content)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Of the same bytes, for types of one byte (float8 knows no comparison)."""
    return torch.equal(a.view(torch.uint8), b.view(torch.uint8)) if a.dtype.itemsize == 1 else torch.equal(a, b)


def _is_same(a: Any, b: Any) -> bool:
    """The same objects in the same order."""
    return len(a) == len(b) and all(map(operator.is_, a, b))
