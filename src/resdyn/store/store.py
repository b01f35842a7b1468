"""Labelled arrays on disk (zarr v3) that survive `kill -9`, opened as one `xarray.Dataset`.

Everything is allocated when the store is created, under a temporary name that is renamed at the end: a store
exists whole or not at all. A task then writes chunks that are its own, and last of all its flag in `_done`, which
holds a digest of each of its files. What no flag vouches for is not shown; what one vouches for is read as it was
written, or not at all. Metadata and coordinates are sealed by digests in the store's attributes.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
import reprlib
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from resdyn import _checks as checks
from resdyn.errors import StoreError
from resdyn.store import place
from resdyn.store.layout import Layout, Region, Variable
from resdyn.store.objects import METADATA, Objects, SealedObjects, beside, is_url, opened, upload
from resdyn.store.record import DONE, SCHEMA, WHOLE, Opened, check_size, reading, sha256, stored_array, writing
from resdyn.store.seal import SealedStore, chunk_keys, digest

UNSEALED_NOTE = (
    "This store was written by a version of resdyn that kept no checksums: damage to its files, and files that are "
    "missing, would not be noticed."
)
COMPRESSORS = (ZstdCodec(level=0), Crc32cCodec())
MAX_CHUNK_BYTES = 128 * 2**20
# What stores from before these settings were made with.
LATER_SETTINGS = {"position": None, "granularity": "join", "hold": None, "within": None}
LATER_BLOCK: dict[str, Any] = {"held": [], "values": []}  # of a block's description
FORMER_SETTINGS = {"coupling": ("nonsquare",)}  # of probes, which only ever had one value


def create_store(
    path: str | Path, layout: Layout, settings: Mapping[str, Any], provenance: Mapping[str, Any] | None = None
) -> None:
    """Allocate a store with no task done.

    Args:
        path: A folder that is made; nothing may be there but an empty folder.
        layout: All arrays, coordinates and regions.
        settings: Plain values that decide who may resume the store (`check_resumable`).
        provenance: Plain values that are only recorded.

    Raises:
        StoreError: If something is at `path` already, if it cannot be written, or if `layout` has more than a million
            samples.

    Example:
        >>> import tempfile
        >>> regions = (Region(("length",), 0, 1), Region(("length",), 1, 2))
        >>> layout = Layout({"length": Variable(("sample",), (2,), "float64")}, {}, regions)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "lengths.zarr"
        ...     create_store(path, layout, {"seed": 0})
        ...     write_task(path, 0, regions[0], {"length": np.array([3.0])})
        ...     done_tasks(path).tolist(), open_store(path)["length"].values.tolist()
        ([True, False], [3.0])
    """
    if exists(path):
        raise StoreError(f"'{path}' exists already; choose another path or remove it")
    if is_url(path):
        with beside(str(path)) as (objects, folder):
            create_store(folder, layout, settings, provenance)
            upload(objects, folder)
        return
    path = Path(path)
    check_size(path, max((region.stop or 0 for region in layout.regions), default=0))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
            shutil.rmtree(left_over, ignore_errors=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")  # a name that nobody can prepare
        partial.mkdir()
        _allocate(partial, layout, settings, provenance or {})
        os.rename(partial, path)


def overwrite_store(
    path: str | Path, layout: Layout, settings: Mapping[str, Any], provenance: Mapping[str, Any] | None = None
) -> None:
    """As `create_store`, in the place of a store at `path`, which is removed once the new one is there.

    The caller holds the lock of `path`.

    Args:
        path: The store to replace; a link to one is followed. Where nothing is, a store is made.
        layout: All arrays, coordinates and regions of the new store.
        settings: Plain values that decide who may resume it.
        provenance: Plain values that are only recorded.

    Raises:
        StoreError: If what is at `path` is not a store that resdyn wrote, which is left alone; and as for
            `create_store`.
    """
    if not exists(path):
        create_store(path, layout, settings, provenance)
        return
    if is_url(path):
        raise StoreError(f"'{path}' exists, and objects are not replaced; choose another place or remove it")
    place.check_is_store(path)
    new = place.unnamed(place.real(path))
    try:
        create_store(new, layout, settings, provenance)
        place.put_in_place(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    place.remove(place.beside(path), path)


def exists(path: str | Path) -> bool:
    """Whether anything is at `path` already; an empty folder is nothing.

    Args:
        path: Where a store would be made.

    Returns:
        True for a file, a folder with content, and a link, also one to nowhere, but not one to an empty folder.

    Raises:
        StoreError: If what is there cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     exists(folder)
        False
    """
    if is_url(path):
        return Objects(str(path)).has(METADATA)
    path = Path(path)
    with reading(path):
        return os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))


def stored_settings(path: str | Path) -> tuple[dict[str, Any], bool]:
    """Settings of the store at `path`, and whether it is sealed and finished.

    Args:
        path: A store.

    Returns:
        The settings as JSON holds them (tuples are lists), with what was meant by stores older than a setting; and
        whether the store has checksums and no task is left.

    Raises:
        StoreError: If there is no store that this version reads, or a damaged one.
    """
    with opened(path) as found:
        return LATER_SETTINGS | _present(found.record["settings"]), bool(found.sealed and found.done.all())


def check_resumable(path: str | Path, settings: Mapping[str, Any]) -> None:
    """Raise unless a run with `settings` may resume the store at `path`.

    Args:
        path: A store.
        settings: Those of the run that asks, as for `create_store`.

    Raises:
        StoreError: If the store has other settings (each difference is named), if it was begun by a version that kept
            no checksums and is not finished, if there is none or if it is damaged.
    """
    with opened(path) as found:
        record, unsealed = found.record, not found.sealed and not found.done.all()
    earlier = {name: value for name, value in LATER_SETTINGS.items() if name in settings}
    stored = earlier | _present(record["settings"])
    differences = list(_differences(stored, json.loads(json.dumps(settings))))
    if differences:
        raise StoreError(
            f"'{path}' belongs to other settings: {'; '.join(differences)}. "
            "Ask for the stored settings to resume it, or choose another path"
        )
    if unsealed:
        raise StoreError(
            f"'{path}' was begun by a version of resdyn that kept no checksums, and is not finished; "
            "capture again to another path"
        )


def stored_regions(path: str | Path, layout: Layout) -> tuple[Region, ...]:
    """The regions of a store, its variables in the order in which its flags vouch for them.

    Args:
        path: A store.
        layout: What the run that asks would write.

    Returns:
        One region per task, to be used with `write_task`; `layout` may name the same variables in another order.

    Raises:
        StoreError: Unless the store holds the arrays of `layout`; it names the array whose shape or dtype differs.
    """
    with opened(path) as found:
        return _matching_regions(found, layout, path)


def _matching_regions(found: Opened, layout: Layout, path: str | Path) -> tuple[Region, ...]:
    stored = tuple(Region(**region) for region in found.record["regions"])
    advice = "capture again to another path"
    for own, asked in itertools.zip_longest(stored, layout.regions):
        if own is None or asked is None or own.rows != asked.rows or set(own.variables) != set(asked.variables):
            raise StoreError(f"'{path}' holds other arrays than this capture would write; {advice}")
    for name, variable in layout.variables.items():
        array = stored_array(found.path, name)
        stands, expected = (tuple(array.shape), array.dtype.name), (variable.shape, np.dtype(variable.dtype).name)
        if stands != expected:
            raise StoreError(
                f"'{path}/{name}' has shape {stands[0]} and dtype {stands[1]}, expected {expected[0]} and "
                f"{expected[1]}; {advice}"
            )
    return tuple(Region(tuple(own.variables), own.start, own.stop) for own in stored)


def write_task(path: str | Path, task: int, region: Region, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays of one task into its region (that of the layout), and then its `done` flag.

    Only the arrays themselves are opened: the cost of a task does not depend on how many there are.

    Args:
        path: The store.
        task: Its number, that of its region in the layout.
        region: The rows and variables that it owns.
        arrays: One for each of these variables, by name: the rows of the region (all of the variable for a region
            without rows), cast to the variable's dtype. One that is shorter than its variable along an axis other than
            `sample` leaves the rest as filled.

    Raises:
        StoreError: If the store cannot be written.
        ValueError: If `arrays` are not those that the task owns.
    """
    if is_url(path):
        with beside(str(path)) as (objects, folder):
            objects.pull([f"{name}/{METADATA}" for name in (*region.variables, DONE)], folder)
            write_task(folder, task, region, arrays)
            objects.push(folder, [key for name in region.variables for key in _files_in(folder, name)])
            objects.push(folder, _files_in(folder, DONE))
        return
    with writing(path):
        if set(arrays) != set(region.variables):
            raise ValueError(f"task {task} owns {sorted(region.variables)}, got {sorted(arrays)}")
        written = []
        for name in region.variables:
            target = stored_array(path, name, mode="r+")
            rows = () if region.start is None else (slice(region.start, region.stop),)
            target[(*rows, ...)] = _filled(target, arrays[name], rows)
            written += [digest(Path(path) / key) for key in chunk_keys(name, target, region.rows)]
        flag = stored_array(path, DONE, mode="r+")
        flag[task] = [len(written), *written, *[0] * (flag.shape[1] - 1 - len(written))]


def done_tasks(path: str | Path) -> np.ndarray:
    """Which tasks have written everything.

    Args:
        path: A store.

    Returns:
        One bool per task, (tasks,).

    Raises:
        StoreError: If there is no store that this version reads, or a damaged one.
    """
    with opened(path) as found:
        return found.done


def is_done(path: str | Path, task: int) -> bool:
    """Whether one task has written everything; reads its flag alone.

    Args:
        path: A store.
        task: Its number, from 0.

    Raises:
        StoreError: If the flag cannot be read.
    """
    if is_url(path):
        with beside(str(path)) as (objects, folder):
            objects.pull([f"{DONE}/{METADATA}", f"{DONE}/c/{task}/0"], folder)
            return is_done(folder, task)
    return bool(np.any(stored_array(path, DONE)[task]))


def open_store(path: str | Path) -> xr.Dataset:
    """Open a store as a lazily read `xarray.Dataset`, finished or not.

    If the run was stopped, only what it finished is shown: samples of unfinished tasks are dropped,
    variables of an unfinished task that reads the whole data set are absent, `attrs["complete"]` is False and
    `attrs["tasks_remaining"]` says how many tasks are left. Ragged last axes are padded with NaN, which nothing else
    but a probe writes: a file that is missing or damaged is an error, here or when its values are read. A store
    without checksums, of an earlier version, opens with a note that says so.

    Args:
        path: A folder that `capture` wrote, or the URL of objects that it wrote, such as "s3://bucket/name.zarr".

    Returns:
        The arrays with their coordinates; settings and provenance are its `attrs`.

    Raises:
        StoreError: If `path` holds no store that this version reads, or a damaged one; the message names the file.
    """
    path = checks.place("store", path)
    if not is_url(path):
        place.recover(path)
    with opened(path) as found:
        record, done, sealed, seals = found.record, found.done, found.sealed, found.seals
    files = SealedObjects.at(str(path), seals) if is_url(path) else SealedStore(path, seals=seals)
    with reading(path):
        dataset = xr.open_zarr(files, consolidated=False, zarr_format=3, chunks=None)
        check_size(path, dataset.sizes.get("sample", 0))
        dataset = dataset[record["variables"]].set_coords(record["coords"])
        dataset = _only_finished(dataset, [Region(**region) for region in record["regions"]], done)
        remaining = int((~done).sum())
        dataset.attrs = record["settings"] | record["provenance"]
        if not sealed:
            dataset.attrs["notes"] = [*dataset.attrs.get("notes", ()), UNSEALED_NOTE]
        return dataset.assign_attrs(complete=remaining == 0, tasks_remaining=remaining)


def _files_in(folder: Path, name: str) -> list[str]:
    """Chunks of an array, as keys; the only one of a number is its `c` itself."""
    files = (file for file in (folder / name).rglob("*") if file.is_file() and file.name != METADATA)
    return sorted(file.relative_to(folder).as_posix() for file in files)


def _present(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings without those that there are no longer, and blocks with what is said of them since."""
    probes = {
        name: {key: value for key, value in values.items() if key not in FORMER_SETTINGS.get(name, ())}
        for name, values in settings.get("probes", {}).items()
    }
    blocks = [LATER_BLOCK | block for block in settings.get("stream", []) if isinstance(block, dict)]
    return dict(settings) | ({"probes": probes} if probes else {}) | ({"stream": blocks} if blocks else {})


def _allocate(path: Path, layout: Layout, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    group = zarr.create_group(path, zarr_format=3)
    arrays = {}
    for name, variable in layout.variables.items():
        arrays[name] = group.create_array(
            name,
            shape=variable.shape,
            dtype=variable.dtype,
            chunks=_chunks(variable, layout.chunk_size),
            fill_value=variable.fill,
            dimension_names=variable.dims,
            attributes=dict(variable.attributes),
            compressors=COMPRESSORS,
            config=WHOLE,
        )
    for name, (dims, values) in layout.coords.items():
        group.create_array(
            name,
            data=np.asarray(values),
            dimension_names=dims,
            attributes=dict(layout.coord_attributes.get(name, {})),
            compressors=COMPRESSORS,
            config=WHOLE,
        )
    tasks, most = len(layout.regions), max((_count(arrays, region) for region in layout.regions), default=0)
    group.create_array(
        DONE,
        shape=(tasks, 1 + most),
        chunks=(1, 1 + most),
        dtype="uint64",
        fill_value=0,
        dimension_names=("task", "file"),
        compressors=COMPRESSORS,
    )
    # names and other text only here: zarr v3 has no settled format for unicode arrays
    record = {
        "settings": dict(settings),
        "provenance": dict(provenance),
        "variables": list(layout.variables) + list(layout.coords),
        "coords": list(layout.coords),
        "regions": [asdict(region) for region in layout.regions],
        "files": {str(file.relative_to(path)): f"{digest(file):016x}" for file in _sealed_files(path)},
    }
    text = json.dumps(record)
    group.attrs.update({"resdyn_schema": SCHEMA, "resdyn": text, "resdyn_sha256": sha256(text)})


def _sealed_files(path: Path) -> list[Path]:
    """All but the group's own metadata, which holds the seal."""
    return sorted(file for file in path.rglob("*") if file.is_file() and file != path / "zarr.json")


def _count(arrays: Mapping[str, Any], region: Region) -> int:
    """How many files a task writes."""
    return sum(1 for name in region.variables for _ in chunk_keys(name, arrays[name], region.rows))


def _filled(target: Any, values: np.ndarray, rows: tuple[slice, ...]) -> np.ndarray:
    """The values in their corner of the whole region: every chunk of it is written."""
    start, stop = (rows[0].start, min(rows[0].stop, target.shape[0])) if rows else (0, 0)
    shape = ((stop - start,) if rows else ()) + target.shape[len(rows) :]
    if values.shape == shape:
        return values.astype(target.dtype)
    whole = np.full(shape, target.fill_value, dtype=target.dtype)
    whole[tuple(slice(0, length) for length in values.shape)] = values
    return whole


def _chunks(variable: Variable, chunk_size: int) -> tuple[int, ...]:
    """A task's rows along `sample`; other axes whole, the first ones cut where a chunk grows too large."""
    along_sample = variable.dims[:1] == ("sample",)
    chunks = [max(1, length) for length in variable.shape]
    if along_sample:
        chunks[0] = min(chunk_size, chunks[0])
    for axis in range(int(along_sample), len(chunks)):
        per_step = int(np.prod(chunks)) // chunks[axis] * np.dtype(variable.dtype).itemsize
        chunks[axis] = max(1, min(chunks[axis], MAX_CHUNK_BYTES // per_step))
    return tuple(chunks)


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
