"""Blocks of a stream by index or by the path of their module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from resdyn.errors import InputError, did_you_mean


class Named(Protocol):
    @property
    def path(self) -> str: ...


Block = TypeVar("Block", bound=Named)


def block_index(blocks: Sequence[Named], key: int | str) -> int:
    """The index, 0 or more, of the block that `key` names: its index, from the end if negative, or its path.

    A path is that of the block (`block.path`), or of a module around it that holds no other block.

    Raises:
        InputError: For an index beyond, for a path that no block has, and for one that several have.
    """
    if isinstance(key, str):
        return _of_path([block.path for block in blocks], key)
    if not -len(blocks) <= key < len(blocks):
        raise InputError(f"got block {key}, expected 0 to {len(blocks) - 1}")
    return key % len(blocks)


def pick(blocks: Sequence[Block], key: Any) -> Any:
    """`blocks[key]`, where a key may be the path of a block's module as well."""
    return blocks[block_index(blocks, key) if isinstance(key, str) else key]


def _of_path(paths: list[str], path: str) -> int:
    found = [index for index, known in enumerate(paths) if known == path]
    found = found or [index for index, known in enumerate(paths) if known.startswith(f"{path}.")]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"got block {path!r}, which is that of blocks {found}; choose one by its index")
    few = ", ".join(map(repr, paths[:8])) + (", ..." if len(paths) > 8 else "")
    raise InputError(f"got block {path!r}, expected the path of a block: {few}.{did_you_mean(path, paths)}")
