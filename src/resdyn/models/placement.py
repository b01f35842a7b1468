"""Where a model computes and in which precision, checked before anything is moved."""

from __future__ import annotations

import re
from itertools import chain

import torch
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn.errors import InputError

DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}


def resolve_device(device: str | torch.device) -> torch.device:
    """The device of a name: "cpu", "cuda", "cuda:1", "mps", or "auto", the first CUDA device, else the CPU.

    Args:
        device: A name, or a `torch.device`. "auto" never chooses MPS, which has no float64.

    Raises:
        InputError: For any other name, and for a device that this PyTorch does not see.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    name = str(device) if isinstance(device, torch.device) else checks.text("device", device)
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", name):
        raise InputError(f"got device {name!r}, expected auto, cpu, cuda, cuda:INDEX or mps")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if not there:
        raise InputError(f"got device {name}, but this PyTorch sees no {kind.upper()} device; use device cpu")
    if int(index or 0) >= there:
        raise InputError(f"got device {name}, but this PyTorch sees no more than cuda:{there - 1}; use one of these")
    return torch.device(name)


def resolve_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The floating dtype of a name.

    Args:
        dtype: "float32", "float64", "float16" or "bfloat16", or the `torch.dtype` itself.

    Raises:
        InputError: For anything else.

    Example:
        >>> resolve_dtype("float64")
        torch.float64
    """
    name = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype
    return DTYPES[checks.one_of("dtype", name, tuple(DTYPES))]


def place(model: nn.Module, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> None:
    """Move a model to a device, and cast its real floating-point parameters and buffers.

    Args:
        model: Changed in place.
        device: See `resolve_device`; None leaves the model where it is, and "auto" one that is not on the CPU.
        dtype: See `resolve_dtype`; None leaves every tensor in its precision.

    Raises:
        InputError: For a device that is absent or has no float64 where the model needs it, for complex weights, of
            which a cast would keep the real parts alone, and for weights that overflow in the new precision.
    """
    tensors = dict(chain(model.named_parameters(), model.named_buffers()))
    here = {tensor.device.type for tensor in tensors.values()}
    target = None if device is None or (device == "auto" and here - {"cpu"}) else resolve_device(device)
    precision = None if dtype is None else resolve_dtype(dtype)
    if precision is not None:
        _check_castable(tensors, precision)
    if target is not None and target.type == "mps":
        _check_single(tensors, precision)
    if precision is not None and any(t.is_floating_point() and t.dtype != precision for t in tensors.values()):
        model.to(dtype=precision)
    if target is not None and any(tensor.device != target for tensor in tensors.values()):
        model.to(device=target)


def _check_castable(tensors: dict[str, Tensor], precision: torch.dtype) -> None:
    for name, tensor in tensors.items():
        if tensor.is_complex():
            raise InputError(f"got dtype {precision} and complex weights '{name}', which it would cut to real parts")
        if tensor.is_floating_point() and bool((torch.isfinite(tensor) & ~torch.isfinite(tensor.to(precision))).any()):
            raise InputError(f"'{name}' overflows in {precision}; use float32")


def _check_single(tensors: dict[str, Tensor], precision: torch.dtype | None) -> None:
    for name, tensor in tensors.items():
        double = (precision or tensor.dtype) if tensor.is_floating_point() else tensor.dtype
        if double in (torch.float64, torch.complex128):
            raise InputError(f"'{name}' is {double}, which device mps lacks; use dtype float32, or device cpu")
