"""Stores on object storage: the same files, as objects; read where they are, written by way of a folder.

An object appears whole or not at all, as a renamed file does. The store's own metadata come last when it is made, and
a task's flag comes after its chunks, so that a run may be killed anywhere. There is no lock: two runs that write one
store waste work and no more.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import FsspecStore

from resdyn.errors import MissingExtraError, ResdynError, StoreError
from resdyn.store.record import Opened, data_arrays
from resdyn.store.seal import Seal, Seals

METADATA = "zarr.json"


def is_url(path: str | Path) -> bool:
    """Whether a place is that of objects."""
    return isinstance(path, str) and "://" in path


class Objects:
    """The objects below a URL.

    Args:
        url: Such as "s3://bucket/name.zarr"; credentials and endpoint are those of the environment.

    Raises:
        MissingExtraError: The package for its protocol is not installed.
        StoreError: The place cannot be used.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self.url = url.rstrip("/")
        with self._reached():
            self.fs, self.root = url_to_fs(self.url)

    def keys(self) -> set[str]:
        """What is there, by its path below the URL."""
        with self._reached():
            self.fs.invalidate_cache()
            start = len(self.root.rstrip("/")) + 1
            return {key[start:] for key in self.fs.find(self.root)}

    def has(self, key: str) -> bool:
        """Whether an object is there."""
        with self._reached():
            self.fs.invalidate_cache()
            return bool(self.fs.isfile(f"{self.root}/{key}"))

    def pull(self, keys: Sequence[str], folder: Path) -> None:
        """Copy some objects into a folder, those that are there."""
        with self._reached():
            places = {f"{self.root}/{key}": key for key in keys}
            found = self.fs.cat(list(places), on_error="omit") if places else {}
        for place, content in found.items():
            if ".." in places[place].split("/"):
                raise StoreError(f"'{place}' is not the name of a file of a store; remove it")
            file = folder / places[place]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def push(self, folder: Path, keys: Sequence[str]) -> None:
        """Write files of a folder as objects, in any order."""
        with self._reached():
            self.fs.pipe({f"{self.root}/{key}": (folder / key).read_bytes() for key in keys})

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except ResdynError:
            raise
        except ImportError as error:
            said = f"'{self.url}' needs the package of its protocol ({error}): pip install 'resdyn[s3]'"
            raise MissingExtraError(said) from error
        except Exception as error:  # every protocol raises its own
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreError(f"cannot use '{self.url}': {reason}; check the address and the credentials") from error


@contextlib.contextmanager
def beside(url: str) -> Iterator[tuple[Objects, Path]]:
    """The objects of a URL and an empty folder for them; what is said of the folder is said of the URL."""
    objects = Objects(url)
    with tempfile.TemporaryDirectory(prefix="resdyn-") as made:
        folder = Path(made) / "store"
        try:
            yield objects, folder
        except StoreError as error:
            raise StoreError(str(error).replace(str(folder), objects.url)) from error


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Opened]:
    """The record of a store, on disk or, by URL, of objects of which only the data stay where they are."""
    if not is_url(path):
        yield Opened(path)
        return
    with beside(str(path)) as (objects, folder):
        keys = objects.keys()
        if METADATA not in keys:
            raise StoreError(f"no store at '{objects.url}'; 'resdyn capture' makes one")
        objects.pull([METADATA], folder)
        data = data_arrays(folder)
        objects.pull([key for key in keys if key.endswith(METADATA) or key.partition("/c")[0] not in data], folder)
        yield Opened(folder, keys)


def upload(objects: Objects, folder: Path) -> None:
    """Write a new store, its own metadata last.

    Raises:
        StoreError: Something else than the rest of a killed run is there.
    """
    made = sorted(str(file.relative_to(folder).as_posix()) for file in folder.rglob("*") if file.is_file())
    if left := objects.keys() - set(made):
        raise StoreError(f"'{objects.url}' holds other objects ('{min(left)}'); choose another place or remove them")
    objects.push(folder, [key for key in made if key != METADATA])
    objects.push(folder, [METADATA])


class SealedObjects(FsspecStore):
    """Objects of which every one with a seal is there, with the content that the seal says, whenever it is read."""

    def __init__(self, fs: Any, path: str, url: str, seals: Mapping[str, Seal]) -> None:
        super().__init__(fs, read_only=True, path=path)
        self.url, self.seals = url, Seals(url, seals)

    @classmethod
    def at(cls, url: str, seals: Mapping[str, Seal]) -> SealedObjects:
        """The objects below a URL, read only."""
        plain = FsspecStore.from_url(url, read_only=True)
        return cls(plain.fs, plain.path, url, seals)

    def with_read_only(self, read_only: bool = False) -> SealedObjects:
        return SealedObjects(self.fs, self.path, self.url, self.seals.known)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype or default_buffer_prototype(), byte_range)
        self.seals.check(key, None if found is None else found.to_bytes())
        return found
