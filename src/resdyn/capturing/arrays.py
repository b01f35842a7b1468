"""Inputs that are held in memory or mapped from a file: tensors, NumPy arrays, lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resdyn.errors import InputError
from resdyn.stream.arguments import Arguments

NUMBERS = "biuf"


def as_inputs(value: Any) -> Tensor | np.ndarray | dict[str, Any] | None:
    """A tensor, an array or a mapping of them as it is, a list of numbers or of samples as one; None for the rest."""
    if isinstance(value, Tensor | np.ndarray):
        return value
    if isinstance(value, Mapping):
        return {name: value[name] if (found := as_inputs(value[name])) is None else found for name in value}
    if isinstance(value, list) and value:
        return _stacked(value)
    if hasattr(value, "__array__") and not isinstance(value, np.generic):  # a pandas Series, an array of xarray
        return np.asarray(value)
    return None


def _stacked(samples: list[Any]) -> Tensor | np.ndarray | None:
    """A list of samples as one array; two tensors of one shape may as well be inputs and labels."""
    arrays = all(isinstance(sample, Tensor | np.ndarray) for sample in samples)
    if arrays and len(samples) == 2 and samples[0].shape and len(samples[0]) > 1:
        raise InputError(
            f"got a list of two arrays of shapes {tuple(samples[0].shape)} and {tuple(samples[1].shape)}, which may be "
            "two samples or (inputs, labels); pass a tuple (inputs, labels), or stack the samples"
        )
    try:
        if all(isinstance(sample, Tensor) for sample in samples):
            return torch.stack([sample.detach() for sample in samples])
        array = np.asarray(samples)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"got a list of {len(samples)} inputs that do not fit into one array "
            f"({str(error).splitlines()[0]}); pad or crop them to one shape"
        ) from None
    if array.dtype.kind not in NUMBERS:
        return None
    # Python's floats have no precision of their own: they get the model's
    return array


@dataclass(frozen=True)
class ArrayRows:
    """Reads rows of arrays as tensors: of NumPy's floats in the model's dtype, of whole numbers as int64.

    An array that is mapped from a file is read row by row.
    """

    arrays: Mapping[str, Any]
    shared: frozenset[str]
    dtype: torch.dtype

    def __call__(self, rows: Tensor) -> Arguments:
        read = {
            name: self._tensor(x if name in self.shared else x[rows if isinstance(x, Tensor) else rows.numpy()])
            for name, x in self.arrays.items()
        }
        return Arguments((read.pop(""),) if "" in read else (), read, self.shared)

    def _tensor(self, value: Any) -> Tensor:
        if isinstance(value, Tensor):
            return value
        if value.dtype.kind == "f":
            return torch.tensor(value.astype(np.float64, copy=False), dtype=self.dtype)
        if value.dtype.kind in "iu" and value.dtype not in (np.int32, np.int64):
            value = value.astype(np.int64)
        return torch.tensor(value)


def check_arrays(arrays: Mapping[str, Any], shared: frozenset[str], dtype: torch.dtype) -> int:
    """The number of samples. Raises `InputError` for empty inputs, and for a dtype that the model does not take."""
    for name, values in arrays.items():
        what = f"inputs {name!r}" if name else "inputs"
        _check_kind(what, values)
        if name not in shared and (values.ndim == 0 or len(values) == 0):
            raise InputError(f"got {what} of shape {tuple(values.shape)}, expected at least one sample (N, ...)")
        tensor = isinstance(values, Tensor)
        wrong = tensor and values.is_floating_point() and values.dtype != dtype
        if wrong or values.dtype in (torch.uint8, np.uint8):
            raise InputError(
                f"got {what} of dtype {values.dtype}, expected the model's {dtype}; "
                "convert them as in training, for images (x.float() / 255 - mean) / std"
            )
    return next(len(values) for name, values in arrays.items() if name not in shared)


def _check_kind(what: str, values: Any) -> None:
    if isinstance(values, Tensor) and (values.layout is not torch.strided or values.is_meta or values.is_nested):
        kind = "on the meta device, without values" if values.is_meta else f"of layout {values.layout}"
        raise InputError(f"got {what} {kind}, expected a plain tensor of numbers: pass x.to_dense() or padded samples")
    if isinstance(values, np.ndarray) and values.dtype.kind not in NUMBERS:
        raise InputError(f"got {what} of dtype {values.dtype}, expected numbers; convert them to an array of numbers")
