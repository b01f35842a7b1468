"""A stream as a table that a person can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from resdyn._display import Table, table
from resdyn.stream.coverage import Coverage

HEADER = ("block", "module", "parts", "state in", "state out", "skip", "gate", "square", "parameters")


def stream_table(
    model: str,
    blocks: Sequence[dict[str, Any]],
    parameters: int,
    notes: Sequence[str] = (),
    inside: Coverage | None = None,
) -> Table:
    """A line of summary, one row per block (`describe`), a line before each new stage, and notes."""
    kind = "block" if all(block["skip"] == "none" for block in blocks) else "residual block"
    count = f"{len(blocks)} {kind}{'s' if len(blocks) != 1 else ''}"
    caption = f"{model}: {count}, {parameters:,} parameters"
    hold = () if inside is None else (f"The block{'s hold' if len(blocks) != 1 else ' holds'} {inside}.",)
    every = (*notes, *(() if inside is None else inside.notes))
    return table(caption, HEADER, _rows(blocks), *hold, *(f"note: {note}" for note in every))


def shape(sizes: Sequence[int]) -> str:
    """A shape as text."""
    return " x ".join(map(str, sizes))


def _rows(blocks: Sequence[dict[str, Any]]) -> Iterator[tuple[str, ...] | str]:
    for block in blocks:
        yield (
            str(block["index"]),
            block["path"] or "(model)",
            _shorten(", ".join(block["branch_modules"])),
            shape(block["shape_in"]),
            shape(block["shape_out"]),
            block["skip"],
            block["gate"],
            "yes" if block["square"] else "no",
            f"{block['parameters']:,}",
        )
        if block["transition"]:
            yield "(transition)"


def _shorten(text: str, limit: int = 32) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
