"""What is on disk where a store should be: its record, its flags, and all that these vouch for, checked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from resdyn.errors import ResdynError, StoreError
from resdyn.store.layout import Region
from resdyn.store.seal import Seal, SealedStore, Seals, chunk_keys

SCHEMA = 2
UNSEALED = 1  # the schema of stores that carry no digests
DONE = "_done"
MAX_SAMPLES = 10**6
WHOLE: Any = {"write_empty_chunks": True}  # a chunk of NaN is there, and one that is not there is an error


class Opened:
    """The record of a store, its flags, and the seals of all files that these vouch for; checked.

    Args:
        path: The store, or a folder with its metadata, coordinates and flags.
        keys: All files of the store, where they are not in the folder.
    """

    def __init__(self, path: str | Path, keys: Collection[str] | None = None) -> None:
        self.path = Path(path)
        attributes = _attributes(self.path)
        self.sealed = attributes["resdyn_schema"] != UNSEALED
        self.record = _record(attributes, self.path)
        with reading(self.path):
            self.seals = {key: Seal(int(value, 16)) for key, value in self.record.get("files", {}).items()}
            SealedStore(self.path, seals=self.seals).check_content()
            regions = [Region(**region) for region in self.record["regions"]]
            check_size(self.path, max((region.stop or 0 for region in regions), default=0))
            flags = self._flags(len(regions))
            self.done = np.asarray(flags[:, 0] > 0)
            if self.sealed:
                self.seals |= self._written(regions, flags)
        if keys is None:
            SealedStore(self.path, seals=self.seals).check_present()
        else:
            seals = Seals(str(self.path), self.seals)
            for key in self.seals.keys() - keys:
                seals.check(key, None)

    def _flags(self, tasks: int) -> np.ndarray:
        """What each task has left in its flag; only those that exist are looked at."""
        array = stored_array(self.path, DONE)
        if array.shape[0] != tasks:
            raise StoreError(f"'{self.path / DONE}' has {array.shape[0]} flags, expected {tasks}; capture again")
        flags = np.zeros((tasks, *array.shape[1:]), dtype=array.dtype)
        folder = self.path / DONE / "c"
        for task in sorted(int(name) for name in _names(folder)):
            file = folder.joinpath(str(task), *["0"] * (array.ndim - 1))
            if not os.path.lexists(file):  # a run was killed when it had made the folder
                continue
            with reading(file, f"remove '{folder / str(task)}' and run the same capture again"):
                flags[task] = array[task]
                if not flags[task].any():
                    raise ValueError("it says nothing")
        return flags.reshape(tasks, -1)

    def _written(self, regions: Sequence[Region], flags: np.ndarray) -> dict[str, Seal]:
        targets = {name: stored_array(self.path, name) for name in self.record["variables"]}
        seals: dict[str, Seal] = {}
        for task in np.flatnonzero(flags[:, 0]).tolist():
            region = regions[task]
            keys = [key for name in region.variables for key in chunk_keys(name, targets[name], region.rows)]
            if len(keys) != flags[task, 0]:
                raise StoreError(f"'{self.path / DONE / 'c' / str(task)}' is damaged: it vouches for other files")
            seals |= {key: Seal(int(value), task) for key, value in zip(keys, flags[task, 1:], strict=False)}
        return seals


def data_arrays(path: Path) -> set[str]:
    """Names of the arrays that tasks write, by the metadata of a store."""
    record = _record(_attributes(path), path)
    return set(record["variables"]) - set(record["coords"]) if isinstance(record.get("coords"), list) else set()


def check_size(path: str | Path, samples: int) -> None:
    """Refuse a store that declares more samples than a capture can make: a small file may declare any number."""
    if samples > MAX_SAMPLES:
        raise StoreError(f"'{path}' declares {samples} samples, expected at most {MAX_SAMPLES}; capture fewer")


def stored_array(path: str | Path, name: str, mode: Any = "r") -> Any:
    with reading(Path(path) / name):
        files = SealedStore(path, read_only=mode == "r")
        return zarr.open_array(files, path=name, mode=mode, zarr_format=3).with_config(WHOLE)


def _attributes(path: Path) -> dict[str, Any]:
    """The group's attributes; those of a store that this version reads."""
    with reading(path):
        if not path.exists():
            raise StoreError(f"no store at '{path}'; 'resdyn capture' makes one")
        file = path / "zarr.json"
        if not file.is_file():
            raise StoreError(f"'{path}' is not a resdyn store: it has no file zarr.json; choose another path")
        try:
            attributes = dict(zarr.open_group(path, mode="r", zarr_format=3).attrs)
        except Exception as error:  # zarr raises whatever comes on metadata that are none
            raise StoreError(
                f"'{file}' is not the metadata of a store ({type(error).__name__}): restore it from a copy, or choose "
                "another path"
            ) from error
    schema = attributes.get("resdyn_schema")
    if schema is None:
        raise StoreError(f"'{file}' is of a zarr store that resdyn did not write; choose another path")
    if schema not in (UNSEALED, SCHEMA) or isinstance(schema, bool):
        raise StoreError(
            f"'{path}' has schema {reprlib.repr(schema)}, this version reads {UNSEALED} and {SCHEMA}; "
            "open it with the version of resdyn that wrote it, or capture again"
        )
    return attributes


def is_store(path: Path) -> bool:
    """Whether there is a folder, not a link, with the metadata of a store that this version reads."""
    if path.is_symlink() or not path.is_dir():
        return False
    try:
        return bool(_attributes(path))
    except StoreError:
        return False


def _record(attributes: Mapping[str, Any], path: Path) -> dict[str, Any]:
    file = path / "zarr.json"
    try:
        text = attributes["resdyn"]
        record = json.loads(text)
        right = attributes["resdyn_schema"] == UNSEALED or attributes["resdyn_sha256"] == sha256(text)
        parts = {"settings": dict, "provenance": dict, "variables": list, "coords": list, "regions": list}
        right = right and all(isinstance(record[name], kind) for name, kind in parts.items())
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"'{file}' is damaged ({error}); choose another path and capture again") from error
    if not right:
        raise StoreError(
            f"'{file}' is damaged: its attributes are not what was written; restore it from a copy, or choose another "
            "path and capture again"
        )
    return record


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _names(folder: Path) -> list[str]:
    """Numbers of the flags in a folder, which the first of them makes."""
    try:
        return [name for name in os.listdir(folder) if name.isdecimal()]
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write '{path}': {error}; choose a place where you may write") from error


@contextlib.contextmanager
def reading(path: Path | str, advice: str = "restore it from a copy, or capture again") -> Iterator[None]:
    """Whatever a reader of damaged files raises, as one line that names them."""
    try:
        yield
    except ResdynError:
        raise
    except OSError as error:
        raise StoreError(f"cannot read '{error.filename or path}': {error.strerror or error}; {advice}") from error
    except Exception as error:
        raise StoreError(f"'{path}' is damaged ({type(error).__name__}: {error}); {advice}") from error
