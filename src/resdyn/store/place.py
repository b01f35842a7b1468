"""One store in the place of another: the old one is there until the new one is, whenever the process is killed."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from pathlib import Path

from resdyn.errors import StoreError
from resdyn.store.lock import locked
from resdyn.store.record import is_store, writing


def real(path: str | Path) -> Path:
    """Where a store is: a link to it is followed."""
    return Path(os.path.realpath(path))


def beside(path: str | Path) -> Path:
    """Place of the store that is made while the one at `path` is extended."""
    path = real(path)
    return path.with_name(f".{path.name}.extended")


def unnamed(path: Path, suffix: str = "partial") -> Path:
    """A hidden place beside `path` that nobody can prepare; what is left at a partial one is removed some day."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.{suffix}")


def check_is_store(path: str | Path) -> None:
    """Raise `StoreError` unless resdyn wrote what is at `path`: nothing else is ever replaced."""
    if not is_store(real(path)):
        raise StoreError(f"'{path}' is not a store that resdyn wrote, so it is not replaced; choose another path")


def put_in_place(new: Path, path: str | Path) -> None:
    """Rename a store to `path` and remove the one that was there; the caller holds the lock of `path`.

    A folder cannot take another's place in one step, so the old one is moved aside first; `recover` moves it back if
    the process is killed between the two steps.
    """
    path = real(path)
    old = unnamed(path, "old")
    with writing(path):
        os.rename(path, old)
        try:
            os.rename(new, path)
        except OSError:
            os.rename(old, path)
            raise
    for moved in _moved_aside(path):
        remove(moved, path)


def remove(store: Path, path: str | Path) -> None:
    """Remove a store beside `path`; a link, or what resdyn did not write, is an error."""
    if not os.path.lexists(store):
        return
    check_is_store(store)
    if store.is_symlink():
        raise StoreError(f"'{store}' is a symbolic link, where a store of resdyn is expected; remove it")
    partial = unnamed(real(path))
    with writing(store):
        os.rename(store, partial)  # half of a store is none
        shutil.rmtree(partial, ignore_errors=True)


def recover(path: str | Path) -> None:
    """Undo a replacement in which a process was killed: the old store returns to `path` if there is nothing.

    Args:
        path: Where the store was; a link is followed.

    Raises:
        StoreError: If the process is alive and about to finish, or if the store cannot be moved.
    """
    path = real(path)
    if os.path.lexists(path) or not _moved_aside(path):
        return
    with locked(path):
        moved = _moved_aside(path)
        if moved and not os.path.lexists(path):
            with writing(path):
                os.rename(moved[0], path)


def _moved_aside(path: Path) -> list[Path]:
    return [old for old in path.parent.glob(f".{glob.escape(path.name)}.*.old") if is_store(old)]
