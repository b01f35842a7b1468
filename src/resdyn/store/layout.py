"""What a store holds: its arrays, its coordinates, and which task writes which part of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Variable:
    """One array of a store: its axes, its dtype, and what is recorded of it.

    What no task has written is filled: float arrays with NaN, integers with -1, booleans with False.

    Attributes:
        dims: Name of every axis, such as ("sample", "block"). Tasks share out the axis `sample`, which comes first.
        shape: Length of every axis, as many as `dims`.
        dtype: NumPy's name of the dtype, such as "float32".
        attributes: Plain values that are kept with the array, such as its unit or a description.

    Example:
        >>> Variable(("sample", "block"), (4, 9), "int64").fill
        -1
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fill(self) -> float | int | bool:
        """NaN, False or -1, by the kind of `dtype`."""
        kind = np.dtype(self.dtype).kind
        return {"f": np.nan, "b": False}.get(kind, -1)


@dataclass(frozen=True)
class Region:
    """What one task owns: some rows of some variables, or the whole of them.

    Attributes:
        variables: Names of the arrays that the task writes.
        start: Its first row along `sample`, counted from 0; None: the task owns the arrays as a whole.
        stop: The row after its last one; None as for `start`.

    Example:
        >>> Region(("states",), 0, 64).rows, Region(("features_mean",)).rows
        ((0, 64), None)
    """

    variables: tuple[str, ...]
    start: int | None = None
    stop: int | None = None

    @property
    def rows(self) -> tuple[int, int] | None:
        """(start, stop), or None where the arrays are owned as a whole."""
        return None if self.start is None or self.stop is None else (self.start, self.stop)


@dataclass(frozen=True)
class Layout:
    """All arrays of a store, its coordinates, and the regions, one per task.

    Attributes:
        variables: The arrays that tasks write, by name.
        coords: Name -> (dims, values) of the coordinates, which are written with the store.
        regions: What each task owns; the position of a region is the number of its task. Together they cover every
            array once.
        chunk_size: Rows along `sample` per chunk, a file on disk: those of one task, so that no two tasks write the
            same file.
        coord_attributes: Plain values that are kept with a coordinate, by its name.

    Example:
        >>> lengths = Variable(("sample",), (2,), "float64")
        >>> layout = Layout({"length": lengths}, {}, (Region(("length",), 0, 1), Region(("length",), 1, 2)))
        >>> len(layout.regions)
        2
    """

    variables: Mapping[str, Variable]
    coords: Mapping[str, tuple[tuple[str, ...], np.ndarray]]
    regions: tuple[Region, ...]
    chunk_size: int = 1
    coord_attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
