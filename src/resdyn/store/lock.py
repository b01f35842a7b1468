"""One writing run per store, on a lock that the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from resdyn.errors import StoreError
from resdyn.store.record import writing

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # Windows has neither
PATIENCE_SECONDS = 0.2  # the last holder may be removing its file just now


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Be the only run that writes the store at `path`.

    The lock is a file beside the store that holds the number of its process, `.NAME.lock`; it is removed in the end. On
    a file system without locks there is none: tasks are idempotent, so two writers waste work and no more.

    Raises:
        StoreError: Where another process holds the lock (it is named), where something else is in the lock's place (it
            is left as it is), and where the folder cannot be written.
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _acquire(lock, path)
    try:
        with writing(path):
            _sign(lock)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows removes no file that is open
                lock.unlink(missing_ok=True)
    finally:
        held.release()


def _acquire(lock: Path, path: Path) -> FileLock:
    held = FileLock(lock, timeout=PATIENCE_SECONDS, poll_interval=0.02, fallback_to_soft=False)
    try:
        held.acquire()
    except Timeout:
        with _opened(lock) as (_, holder):
            raise StoreError(
                f"'{path}' is being written by process {holder or 'unknown'}; wait or choose another path"
            ) from None
    except OSError:
        with _opened(lock):  # a file system without locks; or no lock can be there, and that is said
            pass
    return held


def _sign(lock: Path) -> None:
    with _opened(lock) as (handle, _):
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)


@contextlib.contextmanager
def _opened(lock: Path) -> Iterator[tuple[int, str]]:
    """A file that holds a process number and nothing else, and the number; no link is followed to another's file."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o644)
    except OSError as error:
        if not lock.is_symlink():
            raise
        raise StoreError(f"'{lock}' is a symbolic link, where a lock is expected; remove it") from error
    try:
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        content = os.pread(handle, 32, 0) if regular else b""
        if not regular or (content and not content.isdigit()):
            raise StoreError(f"'{lock}' is not a lock that resdyn wrote; move it away")
        yield handle, content.decode()
    finally:
        os.close(handle)
