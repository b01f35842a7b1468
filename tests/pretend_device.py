"""A device that is not there: tensors say that they are on "cuda", compute on the CPU, and may not meet others.

Fake tensors of torch stop where a value decides what is done next, as in every iterative solver. Here the values are
real. What torch refuses between a GPU and the CPU is refused here, call by call:

- tensors of both devices in one call, but for scalars (no dimensions), `copy_`, assignment, and indices on the CPU;
- `numpy()` of a tensor on the device, and random numbers on it from a generator of the CPU.

Tensors made inside C++, such as those under `vmap`, have no place; they may meet any.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

CUDA = torch.device("cuda", 0)
MOVES = {"copy_", "__setitem__", "set_", "type_as", "to"}
INDEXED = {"__getitem__", "index_select", "__setitem__"}
FACTORIES = {"full", "empty", "zeros", "ones", "eye", "arange", "randn", "rand", "randint", "randperm", "linspace"}
FACTORIES |= {"logspace", "tensor", "as_tensor", "from_numpy", "complex"}
PLAIN = {"numpy", "__array__"}


class DeviceError(RuntimeError):
    """What would be an error on a machine with a GPU."""


class PretendDevice(TorchFunctionMode):
    """Inside, `put(tensor)` is on the device "cuda:0", and so is all that is made of it or for it."""

    def __init__(self) -> None:
        super().__init__()
        self._places: Any = WeakTensorKeyDictionary()

    def put(self, value: Any) -> Any:
        """Tensors, or a module's parameters and buffers, on the device; returned as they are."""
        tensors = [*value.parameters(), *value.buffers()] if isinstance(value, torch.nn.Module) else tree_leaves(value)
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                self._places[tensor] = "cuda"
        return value

    def place(self, tensor: Tensor) -> str | None:
        """ "cuda", "cpu", or None where it is not known."""
        return self._places.get(tensor)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if func == Tensor.device.__get__:
            return CUDA if self.place(args[0]) == "cuda" else func(*args)
        if func == Tensor.is_cuda.__get__:
            return self.place(args[0]) == "cuda"
        if func is torch.device:
            return func(*args, **kwargs)
        if name == "__get__" and isinstance(args[0], Tensor):
            return self._labelled(func(*args), self.place(args[0]))
        if name in ("cpu", "cuda"):
            return self._labelled(_another(args[0]), name)
        if name in PLAIN and self.place(args[0]) == "cuda":
            raise DeviceError("can't convert cuda:0 device type tensor to numpy; use .cpu() first")
        asked = self._asked(name, args, kwargs)
        self._check(name, args, kwargs, asked)
        args, kwargs = tree_map(_really, args), tree_map(_really, kwargs)
        result = func(*args, **kwargs)
        if name == "to" and result is args[0] and asked != self.place(args[0]):
            result = _another(result)
        return self._labelled(result, asked)

    def _asked(self, name: str, args: Any, kwargs: Any) -> str | None:
        """Where the result is: where it is asked to be, or with the arguments."""
        named = kwargs.get("device") or (name == "to" and next(filter(_names_device, args), None))
        if named:
            return torch.device(named).type
        if name in ("to", "type_as") and len(args) > 1 and isinstance(args[1], Tensor):
            return self.place(args[1])
        if name in MOVES | INDEXED or (name.endswith("_") and not name.endswith("__")):
            return self.place(args[0])
        places = {self.place(t) for t in _tensors(args, kwargs)}
        if "cuda" in places:
            return "cuda"
        return "cpu" if "cpu" in places or name in FACTORIES else None

    def _check(self, name: str, args: Any, kwargs: Any, asked: str | None) -> None:
        generator = kwargs.get("generator")
        if generator is not None and asked == "cuda" and generator.device.type == "cpu" and "rand" in name:
            raise DeviceError(f"{name}: expected a 'cuda' device type for generator but found 'cpu'")
        if name in MOVES - {"__setitem__"}:
            return
        if name in INDEXED:
            host, others = self.place(args[0]), {self.place(t) for t in _tensors(args[1:2], {})}
            if host == "cpu" and "cuda" in others:
                raise DeviceError(f"{name}: indices on cuda for a tensor on the CPU")
            return
        places = {self.place(t) for t in _tensors(args, kwargs) if t.dim() or name in ("stack", "cat")}
        if {"cpu", "cuda"} <= places:
            raise DeviceError(f"{name}: expected all tensors to be on the same device, found cpu and cuda:0")

    def _labelled(self, result: Any, place: str | None) -> Any:
        if place is not None:
            for tensor in tree_leaves(result):
                if isinstance(tensor, Tensor):
                    self._places[tensor] = place
        return result


def _tensors(args: Any, kwargs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]


def _names_device(value: Any) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda"))


def _really(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return "cpu" if isinstance(value, str) and value.partition(":")[0] == "cuda" else value


def _another(tensor: Tensor) -> Tensor:
    """The same values as another tensor, which may have another place."""
    return tensor.view_as(tensor)
