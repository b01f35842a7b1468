"""Files of a store as they were written, or an error that names the file: nothing else reaches a reader."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from resdyn.errors import StoreError


class Seal(NamedTuple):
    """What a file's content must be, and which task wrote it (None: it was written with the store)."""

    digest: int
    task: int | None = None


def digest(file: Path) -> int:
    """64 bits of BLAKE2b of a file's content, never 0.

    A chunk ends with its own crc32c, which any zarr reader checks; a crc32c over all of that would be the same number
    for every chunk, and a chunk in another's place would pass.
    """
    return _digest(file.read_bytes())


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") or 1


def chunk_keys(name: str, array: Any, rows: tuple[int, int] | None = None) -> Iterator[str]:
    """Keys of the chunks of an array that hold `rows` (start, stop) of its first axis, or (None) of all."""
    grid = [range(-(-length // chunk)) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    if rows is not None:
        first, last = (min(row, array.shape[0]) for row in rows)
        grid[0] = range(first // array.chunks[0], -(-last // array.chunks[0]))
    for place in itertools.product(*grid):
        yield "/".join((name, "c", *map(str, place)))


class Seals:
    """What the files below a place must be; the place is how they are called in messages."""

    def __init__(self, place: str, known: Mapping[str, Seal] | None = None) -> None:
        self.place, self.known = place, dict(known or {})

    def check(self, key: str, content: bytes | None) -> None:
        """Raise `StoreError` where a sealed file is missing (None) or has another content."""
        seal, file = self.known.get(key), f"{self.place}/{key}"
        if seal is not None and content is None:
            whose = "" if seal.task is None else f", though task {seal.task} is marked as done"
            raise StoreError(f"'{file}' is missing{whose}; {self._advice(seal)}")
        if seal is not None and content is not None and _digest(content) != seal.digest:
            raise StoreError(f"'{file}' is damaged: it does not hold what was written; {self._advice(seal)}")

    def _advice(self, seal: Seal) -> str:
        restore = "restore it from a copy, or"
        if seal.task is None:
            return f"{restore} capture again to another path"
        return f"{restore} remove '{self.place}/_done/c/{seal.task}' and run the same capture again"


class SealedStore(LocalStore):
    """A folder of which every file with a seal is there, with the content that the seal says, whenever it is read.

    Files without a seal are passed on. Raises `StoreError` that names the file.
    """

    def __init__(self, root: Path | str, *, read_only: bool = True, seals: Mapping[str, Seal] | None = None) -> None:
        super().__init__(Path(root).absolute(), read_only=read_only)
        self.seals = Seals(str(self.root), seals)

    def with_read_only(self, read_only: bool = False) -> SealedStore:
        return SealedStore(self.root, read_only=read_only, seals=self.seals.known)

    def check_present(self) -> None:
        """Raise unless every sealed file exists; none is read."""
        for key in self.seals.known:
            if not (self.root / key).is_file():
                self._check(key, None)

    def check_content(self) -> None:
        """Raise unless every sealed file is as it was written."""
        for key in self.seals.known:
            self.get_sync(key)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        assert byte_range is None, "parts of files are read of sharded arrays only, and none is"
        self._is_open = True  # else a folder that was moved is looked for, and made where it is to be written
        try:
            file = self.root / key
            found = super().get_sync(key, prototype=prototype) if file.is_file() else None  # a pipe would never end
        except OSError as error:
            raise StoreError(f"cannot read '{self.root / key}': {error.strerror}; make it readable") from error
        self._check(key, None if found is None else found.to_bytes())
        return found

    def _check(self, key: str, content: bytes | None) -> None:
        if content is None and not self.root.is_dir():
            raise StoreError(
                f"'{self.root}' is gone: it was moved or removed while it was open; open it where it is now"
            )
        self.seals.check(key, content)
