"""Files that are written as a whole or not at all, through names that nobody can prepare."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

LEFT_OVER_SECONDS = 3600.0  # what is older was left by a run that was killed


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A new empty file beside `path` to write into, which takes its place at the end, flushed to disk.

    Its name is random and the file is made here: a link that waits under a guessed name is never followed, and a link
    at `path` itself is replaced, not followed. Where writing fails, what is at `path` stays as it was. Partial files
    that killed runs left, older than an hour, are removed.

    Args:
        path: The file to make or replace; its folder exists.

    Yields:
        The file to write into.

    Raises:
        OSError: If the folder is not there or may not be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_file(Path(folder) / "note.txt") as partial:
        ...         _ = partial.write_text("all of it", encoding="utf-8")
        ...     (Path(folder) / "note.txt").read_text(encoding="utf-8")
        'all of it'
    """
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - left_over.lstat().st_mtime > LEFT_OVER_SECONDS:
                left_over.unlink()
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
