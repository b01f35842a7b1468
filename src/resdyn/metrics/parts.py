"""Which blocks are of one sort: attention and feed-forward alternate, and stages change the size of the state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

MAX_SORTS = 4
ACROSS = "across stages or parts"
ATTENTION, FEED_FORWARD = "attention", "feed-forward"


@dataclass(frozen=True)
class BlockGroup:
    """Blocks of one stage and one sort.

    Attributes:
        label: What distinguishes them from the other groups; empty where there is one group.
        positions: Of the blocks in the dataset, ascending.
    """

    label: str
    positions: NDArray[np.int64]


def block_parts(blocks: Sequence[dict[str, Any]]) -> list[str]:
    """The part that every block is, where a few sorts of blocks alternate; else empty texts.

    Args:
        blocks: What `stream.describe()` returns, as in `ds.attrs["stream"]`.

    Returns:
        One text per block: "attention", "feed-forward", or the modules of its branch.

    Example:
        >>> block_parts([{"branch_modules": ["ln_1", "attn"]}, {"branch_modules": ["ln_2", "mlp"]}] * 2)
        ['attention', 'feed-forward', 'attention', 'feed-forward']
    """
    sorts = [tuple(re.sub(r"\d+", "", str(name)) for name in block.get("branch_modules") or ()) for block in blocks]
    count = Counter(sorts)
    if not 1 < len(count) <= MAX_SORTS or min(count.values()) < 2 or () in count:
        return [""] * len(sorts)
    attending = {sort for sort in count if any("att" in name.lower() for name in sort)}
    names = {sort: " + ".join(sort) for sort in count}
    if len(attending) == 1:
        names |= dict.fromkeys(attending, ATTENTION)
        if len(count) == 2:
            names |= dict.fromkeys(set(count) - attending, FEED_FORWARD)
    return [names[sort] for sort in sorts]


def block_names(ds: xr.Dataset) -> list[str]:
    """What every block is called where a person reads: its number, its module, and its part where sorts alternate.

    Args:
        ds: A captured dataset; without a description of the stream the names are the numbers alone.

    Returns:
        One text per block, such as "3: transformer.h.1, feed-forward".
    """
    numbers = [str(int(number)) for number in ds["block"].values] if "block" in ds.coords else []
    blocks = ds.attrs.get("stream") or []
    if len(blocks) != len(numbers):
        return numbers
    parts = block_parts(blocks)
    said = [", ".join(filter(None, (str(b.get("path") or ""), part))) for b, part in zip(blocks, parts, strict=True)]
    return [f"{number}: {words}" if words else number for number, words in zip(numbers, said, strict=True)]


def block_groups(ds: xr.Dataset) -> list[BlockGroup]:
    """Blocks by stage and part, within which a quantity may be followed over depth.

    Args:
        ds: A captured dataset.

    Returns:
        The groups in order of their first block.
    """
    count = ds.sizes["block"]
    described = ds.attrs.get("stream") or []
    parts = block_parts(described) if len(described) == count else [""] * count
    stages = ds["stage"].values.tolist() if "stage" in ds.coords else [0] * count
    keys = list(zip(stages, parts, strict=True))
    several = len(set(stages)) > 1
    return [
        BlockGroup(
            ", ".join(filter(None, (f"stage {stage}" if several else "", part))),
            np.array([k for k, key in enumerate(keys) if key == (stage, part)]),
        )
        for stage, part in dict.fromkeys(keys)
    ]
