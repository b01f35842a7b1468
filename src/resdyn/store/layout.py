"""What a store holds: its arrays, its coordinates, and which task writes which part of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Variable:
    """Name of every axis, its length, the dtype, and what is recorded of the array.

    Float arrays are filled with NaN, integers with -1.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fill(self) -> float | int | bool:
        kind = np.dtype(self.dtype).kind
        return {"f": np.nan, "b": False}.get(kind, -1)


@dataclass(frozen=True)
class Region:
    """What one task owns: rows `start:stop` of these variables, or (start None) the whole of them."""

    variables: tuple[str, ...]
    start: int | None = None
    stop: int | None = None

    @property
    def rows(self) -> tuple[int, int] | None:
        return None if self.start is None or self.stop is None else (self.start, self.stop)


@dataclass(frozen=True)
class Layout:
    """All arrays of a store, its coordinates (name -> dims, values), and the regions, one per task.

    `coord_attributes` are what is recorded of the coordinates.
    """

    variables: Mapping[str, Variable]
    coords: Mapping[str, tuple[tuple[str, ...], np.ndarray]]
    regions: tuple[Region, ...]
    chunk_size: int = 1
    coord_attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
