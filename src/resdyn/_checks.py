"""What a caller may give: exact types at the public boundary, numbers of NumPy welcome, and Python's own given back.

Every function returns the value as a plain one (`int`, `float`, `str`, tuples of them), or raises `InputError` that
says what was got, under which name, and what is expected. `of` is whose setting it is, such as a probe's name.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import reprlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resdyn.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

OBJECTS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")  # protocols whose writes are whole or not at all
LARGEST_SEED = 2**63 - 1


def whole(name: str, value: Any, least: int = 0, most: int | None = None, *, expected: str = "", of: str = "") -> int:
    """A whole number; neither a bool nor 2.0 is one."""
    right = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not right or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"between {least} and {most}"
        raise wrong(name, value, expected or f"a whole number {bounds}", of)
    return int(value)


def optional_whole(name: str, value: Any, least: int = 0, *, of: str = "") -> int | None:
    """A whole number, or None."""
    if value is None:
        return None
    try:
        return whole(name, value, least, of=of)
    except InputError as error:
        raise InputError(f"{error}, or None") from None


def seed(value: Any, name: str = "seed") -> int:
    """What random numbers may start from."""
    return whole(name, value, 0, LARGEST_SEED)


def number(
    name: str,
    value: Any,
    expected: str,
    above: float = -math.inf,
    below: float = math.inf,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    of: str = "",
) -> float:
    """A finite number with above < value < below and least <= value <= most; `expected` says so in words."""
    right = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not right or not math.isfinite(value) or not (above < value < below and least <= value <= most):
        raise wrong(name, value, expected, of)
    return float(value)


def tolerance(value: Any) -> float:
    """How large a relative residual may be: one of 1 or more would accept anything."""
    return number("tol", value, "a number of at least 0 and below 1", below=1, least=0)


def flag(name: str, value: Any, *, of: str = "") -> bool:
    """True or False; 0 and 1 are neither."""
    if not isinstance(value, bool | np.bool_):
        raise wrong(name, value, "True or False", of)
    return bool(value)


def one_of(name: str, value: Any, known: Sequence[str], *, of: str = "") -> Any:
    """One of some words."""
    if not isinstance(value, str) or value not in known:
        hint = did_you_mean(value, known) if isinstance(value, str) else ""
        *others, last = (f"'{word}'" for word in known)
        raise wrong(name, value, f"{', '.join(others)} or {last}" if others else last, of, hint)
    return value


def text(name: str, value: Any, *, of: str = "") -> str:
    """A word or more."""
    if not isinstance(value, str):
        raise wrong(name, value, "text", of)
    return value


def words(name: str, value: Any, *, of: str = "") -> tuple[str, ...]:
    """Texts in a list; one text alone is not taken apart into letters."""
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise wrong(name, value, "a list of texts", of)
    return tuple(value)


def wholes(name: str, value: Any, *, of: str = "") -> list[int]:
    """Whole numbers in a list, a range, an array or a tensor of one dimension."""
    items = value.tolist() if isinstance(value, np.ndarray) or is_tensor(value) else value
    if not isinstance(items, list | tuple | range) or not all(
        isinstance(item, int | np.integer) and not isinstance(item, bool) for item in items
    ):
        raise wrong(name, value, "whole numbers, in a list or an array of one dimension", of)
    return [int(item) for item in items]


def path(name: str, value: Any) -> Path:
    """A place on disk."""
    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        raise wrong(name, value, "a path")
    if str(value).partition(":/")[0] in OBJECTS:
        raise wrong(name, str(value), "a place on disk, not a URL")
    return Path(value)


def place(name: str, value: Any) -> Path | str:
    """A place on disk, or the URL of objects, also where a path has lost one of its slashes."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else ""
    protocol, _, rest = text.partition(":/") if isinstance(text, str) else ("", "", "")
    if protocol in OBJECTS and rest.strip("/"):
        return f"{protocol}://{rest.strip('/')}"
    return path(name, value)


def new_place(name: str, value: Any) -> Path | str:
    """A place for a store that is made: a folder of its own, or the URL of objects."""
    found = place(name, value)
    return found if isinstance(found, str) else new_folder(name, value)


def new_folder(name: str, value: Any) -> Path:
    """A place for a folder that is made: not one that the caller works in, nor one that holds it."""
    made = path(name, value).absolute()
    if Path.cwd().is_relative_to(made.resolve()) or made == Path.home():
        raise wrong(name, value, "a folder of its own, such as NAME.zarr, not the one you are in")
    return made


def new_file(name: str, value: Any) -> Path:
    """A place for a file that is written."""
    made = path(name, value)
    if made.is_dir() or not made.name:
        raise wrong(name, str(value), "a file; there is a folder of that name")
    return made


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of PyTorch, which is not loaded for this question."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def floats(name: str, value: Any) -> Tensor:
    """A tensor of finite floating-point numbers."""
    if not is_tensor(value) or not value.is_floating_point():
        raise wrong(name, value, "a tensor of floating-point numbers")
    if not bool(value.isfinite().all()):
        raise InputError(f"{name} holds NaN or infinite values; clean or leave them out first")
    return value


def plain(name: str, value: Any) -> Any:
    """A list of rows that JSON can hold."""
    if isinstance(value, list | tuple) and all(isinstance(row, dict) for row in value):
        with contextlib.suppress(TypeError, ValueError):
            json.dumps(value)
            return value
    raise wrong(name, value, "a list of dictionaries of plain numbers and text")


def instance(name: str, value: Any, kind: Any, expected: str) -> Any:
    """An object of a class."""
    if not isinstance(value, kind):
        raise InputError(f"got {name} of type {type(value).__name__}, expected {expected}")
    return value


def replace_checked(settings: Any, **values: Any) -> None:
    """Put checked values in place of those that a frozen dataclass was made with."""
    for name, value in values.items():
        object.__setattr__(settings, name, value)


def wrong(name: str, value: Any, expected: str, of: str = "", hint: str = "") -> InputError:
    """The error for a value that is not what is expected."""
    got = reprlib.repr(value) if not is_tensor(value) else f"a tensor {tuple(value.shape)} of {value.dtype}"
    whose = f"{of}: " if of else ""
    return InputError(f"{whose}got {name}={' '.join(got.split())}, expected {expected}{'.' * bool(hint)}{hint}")
