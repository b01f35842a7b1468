"""Class labels as people have them: whole numbers of any dtype, one-hot rows, lists, columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from resdyn.errors import InputError

EXPECTED = "whole numbers 0..C-1, shape (N,), or one-hot rows, shape (N, C)"


def class_labels(labels: Any, count: int) -> Tensor:
    """Labels of `count` samples as int64 (count,), on the CPU.

    Args:
        labels: Integers, booleans or whole floats, shape (N,) or (N, 1), or one-hot rows (N, C) of any of these; a
            tensor, an array, or a list.
        count: How many there must be.

    Raises:
        InputError: For another number of them, and for what is neither whole numbers nor one-hot.
    """
    values = _as_array(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2) or len(values) != count:
        raise InputError(
            f"got labels of dtype {_dtype(labels, values)} and shape {values.shape}, expected ({count},), one per "
            f"input: {EXPECTED}"
        )
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    if not np.array_equal(whole, values):
        raise InputError(
            f"got labels of dtype {_dtype(labels, values)} that are not whole, such as "
            f"{values[whole != values][0]:g}, expected {EXPECTED}; class probabilities: pass the most probable class"
        )
    return torch.from_numpy(_from_one_hot(whole) if whole.ndim == 2 else whole)


def _as_array(labels: Any) -> np.ndarray:
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu()
        labels = labels.float() if labels.dtype == torch.bfloat16 else labels
    elif isinstance(labels, list | tuple) and labels and all(isinstance(y, Tensor) for y in labels):
        labels = [y.tolist() for y in labels]
    try:
        values = np.asarray(labels)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"got labels that are not an array ({error}), expected {EXPECTED}") from None
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"got labels of dtype {_dtype(labels, values)}, expected {EXPECTED}; number names of classes first, "
            "as np.unique(labels, return_inverse=True)[1] does"
        )
    return values


def _dtype(labels: Any, values: np.ndarray) -> Any:
    return labels.dtype if isinstance(labels, Tensor) else values.dtype


def _from_one_hot(rows: np.ndarray) -> np.ndarray:
    wrong = ((rows != 0) & (rows != 1)).any(1) | (rows.sum(1) != 1)
    if wrong.any():
        raise InputError(
            f"got labels of shape {rows.shape} whose row {int(wrong.argmax())} is not one-hot, expected {EXPECTED}"
        )
    return rows.argmax(1)
