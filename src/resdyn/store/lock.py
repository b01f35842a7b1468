"""One writing run for each store, on a lock that the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from resdyn.errors import StoreError
from resdyn.store.record import writing

try:
    import fcntl
except ImportError:  # no such lock on Windows; tasks are idempotent, so two writers waste work and no more
    fcntl = None  # type: ignore[assignment]

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # Windows has neither


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Be the only run that writes the store at `path`.

    Raises `StoreError` that names the process which holds it.
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(lock, path)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _acquire(lock: Path, path: Path) -> int:
    while True:
        handle = _open(lock)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode() or "unknown"
            os.close(handle)
            raise StoreError(f"'{path}' is being written by process {holder}; wait or choose another path") from None
        except OSError:
            pass  # a file system without locks: tasks are idempotent, so this costs work, not data
        if _is_same_file(handle, lock):  # else its last holder removed it between our open and our lock
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            return handle
        os.close(handle)


def _open(lock: Path) -> int:
    """A file that holds a process number and nothing else; no link is followed to another's file."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o644)
    except OSError as error:
        if not lock.is_symlink():
            raise
        raise StoreError(f"'{lock}' is a symbolic link, where a lock is expected; remove it") from error
    if stat.S_ISREG(os.fstat(handle).st_mode):
        content = os.pread(handle, 32, 0)
        if not content or content.isdigit():
            return handle
    os.close(handle)
    raise StoreError(f"'{lock}' is not a lock that resdyn wrote; move it away")


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
