"""Labelled arrays on disk (zarr v3) that survive `kill -9`, opened as one `xarray.Dataset`.

Everything is allocated when the store is created, under a temporary name that is renamed at the end: a store
exists whole or not at all. A task then writes chunks that are its own, and last of all its flag in `_done`.
What no flag vouches for is not shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import reprlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.errors import BaseZarrError

from resdyn.errors import StoreError

SCHEMA = 1
MAX_CHUNK_BYTES = 128 * 2**20
LATER_SETTINGS = {"position": None, "granularity": "join"}  # what stores from before these settings were made with


@dataclass(frozen=True)
class Variable:
    """Name of every axis, its length, and the dtype; float arrays are filled with NaN, integers with -1."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

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


@dataclass(frozen=True)
class Layout:
    """All arrays of a store, its coordinates (name -> dims, values), and the regions, one for each task."""

    variables: Mapping[str, Variable]
    coords: Mapping[str, tuple[tuple[str, ...], np.ndarray]]
    regions: tuple[Region, ...]
    chunk_size: int = 1


def create_store(
    path: str | Path, layout: Layout, settings: Mapping[str, Any], provenance: Mapping[str, Any] | None = None
) -> None:
    """Allocate a store with no task done. `settings` decide who may resume it; `provenance` is only recorded.

    Raises `StoreError` if something is at `path` already, or if it cannot be written.
    """
    path = Path(path)
    if exists(path):
        raise StoreError(f"'{path}' exists already; choose another path or remove it")
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        _allocate(partial, layout, settings, provenance or {})
        os.rename(partial, path)


def exists(path: str | Path) -> bool:
    """Whether anything is at `path` already; an empty folder is not."""
    path = Path(path)
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def check_resumable(path: str | Path, settings: Mapping[str, Any]) -> None:
    """Raise a `StoreError` that names each difference unless the store at `path` has the same settings."""
    earlier = {name: value for name, value in LATER_SETTINGS.items() if name in settings}
    stored = earlier | _record(_group(path), path)["settings"]
    differences = list(_differences(stored, json.loads(json.dumps(settings))))
    if differences:
        raise StoreError(
            f"'{path}' belongs to other settings: {'; '.join(differences)}. "
            "Ask for the stored settings to resume it, or choose another path"
        )


def write_task(path: str | Path, task: int, region: Region, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays of one task into its region (that of the layout), and then its `done` flag.

    An array shorter than its variable along an axis other than `sample` leaves the rest as filled. Only the
    arrays themselves are opened: what a task costs does not depend on how many there are.
    """
    with writing(path):
        if set(arrays) != set(region.variables):
            raise ValueError(f"task {task} owns {sorted(region.variables)}, got {sorted(arrays)}")
        for name, values in arrays.items():
            target = _array(path, name, mode="r+")
            rows = () if region.start is None else (slice(region.start, region.stop),)
            corner = tuple(slice(0, length) for length in values.shape[len(rows) :])
            target[(*rows, *corner)] = values.astype(target.dtype)
        _array(path, "_done", mode="r+")[task] = 1


def done_tasks(path: str | Path) -> np.ndarray:
    """One bool for each task: has it written everything?"""
    return np.asarray(_array(path, "_done")[:], dtype=bool)


def is_done(path: str | Path, task: int) -> bool:
    """Has this task written everything? Reads its flag alone."""
    return bool(_array(path, "_done")[task])


def open(path: str | Path) -> xr.Dataset:
    """Open a store as a lazily read `xarray.Dataset`, finished or not.

    Of a store whose run was stopped only what is finished is shown: samples of unfinished tasks are dropped,
    variables of an unfinished task that reads the whole data set are absent, `attrs["complete"]` is False and
    `attrs["tasks_remaining"]` says how many tasks are left. Ragged last axes are padded with NaN.

    Raises `StoreError` if `path` holds no store of this schema.
    """
    group = _group(path)
    record = _record(group, path)
    done = done_tasks(path)
    dataset = xr.open_zarr(path, consolidated=False, zarr_format=3, chunks=None)
    dataset = dataset[record["variables"]].set_coords(record["coords"])
    dataset = _only_finished(dataset, [Region(**region) for region in record["regions"]], done)
    remaining = int((~done).sum())
    dataset.attrs = record["settings"] | record["provenance"]
    return dataset.assign_attrs(complete=remaining == 0, tasks_remaining=remaining)


def _allocate(path: Path, layout: Layout, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    group = zarr.create_group(path, zarr_format=3)
    for name, variable in layout.variables.items():
        group.create_array(
            name,
            shape=variable.shape,
            dtype=variable.dtype,
            chunks=_chunks(variable, layout.chunk_size),
            fill_value=variable.fill,
            dimension_names=variable.dims,
        )
    for name, (dims, values) in layout.coords.items():
        group.create_array(name, data=np.asarray(values), dimension_names=dims)
    tasks = len(layout.regions)
    group.create_array("_done", shape=(tasks,), chunks=(1,), dtype="uint8", fill_value=0, dimension_names=("task",))
    # names and other text only here: zarr v3 has no settled format for unicode arrays
    record = {
        "settings": dict(settings),
        "provenance": dict(provenance),
        "variables": list(layout.variables) + list(layout.coords),
        "coords": list(layout.coords),
        "regions": [asdict(region) for region in layout.regions],
    }
    group.attrs.update({"resdyn_schema": SCHEMA, "resdyn": json.dumps(record)})


def _chunks(variable: Variable, chunk_size: int) -> tuple[int, ...]:
    """A task's rows along `sample`; other axes whole, the first ones cut where a chunk grows too large."""
    along_sample = variable.dims[:1] == ("sample",)
    chunks = [max(1, length) for length in variable.shape]
    if along_sample:
        chunks[0] = chunk_size
    for axis in range(int(along_sample), len(chunks)):
        per_step = int(np.prod(chunks)) // chunks[axis] * np.dtype(variable.dtype).itemsize
        chunks[axis] = max(1, min(chunks[axis], MAX_CHUNK_BYTES // per_step))
    return tuple(chunks)


def _group(path: str | Path, mode: Any = "r") -> zarr.Group:
    if not Path(path).exists():
        raise StoreError(f"no store at '{path}'; 'resdyn capture' makes one")
    try:
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except (BaseZarrError, OSError, ValueError, KeyError) as error:
        raise StoreError(f"'{path}' is not a resdyn store ({type(error).__name__}); choose another path") from error


def _array(path: str | Path, name: str, mode: Any = "r") -> Any:
    try:
        return zarr.open_array(Path(path) / name, mode=mode, zarr_format=3)
    except (BaseZarrError, OSError, ValueError, KeyError) as error:
        raise StoreError(f"'{path}' holds no array '{name}' ({type(error).__name__}); choose another path") from error


def _record(group: zarr.Group, path: str | Path) -> dict[str, Any]:
    schema = group.attrs.get("resdyn_schema")
    if schema is None:
        raise StoreError(f"'{path}' is a zarr store that resdyn did not write; choose another path")
    if schema != SCHEMA:
        raise StoreError(
            f"'{path}' has schema {schema}, this version reads {SCHEMA}; "
            "open it with the version of resdyn that wrote it, or capture again"
        )
    try:
        return json.loads(str(group.attrs["resdyn"]))
    except (KeyError, ValueError) as error:
        raise StoreError(f"'{path}' is damaged ({error}); choose another path and capture again") from error


def _only_finished(dataset: xr.Dataset, regions: list[Region], done: np.ndarray) -> xr.Dataset:
    unfinished = [region for region, flag in zip(regions, done) if not flag]
    whole = [name for region in unfinished if region.start is None for name in region.variables]
    dataset = dataset.drop_vars(whole)
    keep = np.ones(dataset.sizes.get("sample", 0), dtype=bool)
    for region in unfinished:
        if region.start is not None:
            keep[region.start : region.stop] = False
    return dataset if keep.all() else dataset.isel(sample=np.flatnonzero(keep))


def _differences(stored: Any, asked: Any, prefix: str = "") -> Iterator[str]:
    if not (isinstance(stored, dict) and isinstance(asked, dict)):
        if stored != asked:
            yield f"{prefix}: stored {reprlib.repr(stored)}, asked {reprlib.repr(asked)}"
        return
    for key in sorted(stored.keys() | asked.keys()):
        name = f"{prefix}.{key}" if prefix else key
        yield from _differences(stored.get(key, "nothing"), asked.get(key, "nothing"), name)


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write '{path}': {error}; choose a place where you may write") from error
