"""The stream section: drawing and table of the blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import xarray as xr
from markupsafe import Markup

from resdyn.report.stream_svg import shape_text, stream_svg

COLUMNS = ("block", "path", "state in", "state out", "skip", "gate", "square", "stage", "parameters")


@dataclass(frozen=True)
class StreamView:
    """What the template needs to show the stream."""

    how: str
    svg: Markup
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def stream_view(ds: xr.Dataset) -> StreamView | None:
    """The blocks that `ds.attrs["stream"]` describes, or None without such a description."""
    blocks = ds.attrs.get("stream") or []
    if not blocks:
        return None
    stages = len({block.get("stage", 0) for block in blocks})
    how = (
        f"{_count(len(blocks), 'residual block')} in {_count(stages, 'stage')}: each block takes the state "
        "h from the left, adds its branch F to what the skip carries past it, and passes the sum through the "
        "gate. Blocks of one colour share a stage, where nothing changes the shape of the state."
    )
    return StreamView(how, stream_svg(blocks), COLUMNS, [_row(block) for block in blocks])


def _row(block: dict[str, Any]) -> tuple[str, ...]:
    parameters = block.get("parameters")
    return (
        str(block["index"]),
        str(block["path"]),
        shape_text(block["shape_in"]),
        shape_text(block["shape_out"]),
        str(block["skip"]),
        str(block["gate"]).replace("_", " "),
        "yes" if block.get("square") else "no",
        str(block.get("stage", "")),
        f"{parameters:,}" if isinstance(parameters, int) else "",
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
