"""A stream as a table that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resdyn._display import table

HEADER = ("block", "module", "parts", "state in", "state out", "skip", "gate", "square", "parameters")


def stream_table(model: str, blocks: list[dict[str, Any]], parameters: int, notes: Sequence[str] = ()) -> str:
    """Aligned plain text: a line of summary, a header, one line a block, a rule before each new stage, notes."""
    rows = [_row(block) for block in blocks]
    widths = [max(len(row[column]) for row in [HEADER, *rows]) for column in range(len(HEADER))]
    lines = [_line(HEADER, widths), _line(["-" * width for width in widths], widths)]
    for block, row in zip(blocks, rows, strict=True):
        lines.append(_line(row, widths))
        if block["transition"]:
            lines.append("  (transition)")
    count = f"{len(blocks)} residual block{'s' if len(blocks) != 1 else ''}"
    below = [line for note in notes for line in ("", f"note: {note}")]
    return "\n".join([f"{model}: {count}, {parameters:,} parameters", "", *lines, *below])


def stream_html(model: str, blocks: list[dict[str, Any]], parameters: int, notes: Sequence[str] = ()) -> str:
    """The same as an HTML table for notebooks."""
    caption = f"{model}: {len(blocks)} residual block{'s' if len(blocks) != 1 else ''}, {parameters:,} parameters"
    return table(caption, HEADER, [_row(block) for block in blocks], "; ".join(notes))


def _row(block: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(block["index"]),
        block["path"] or "(model)",
        _shorten(", ".join(block["branch_modules"])),
        _shape(block["shape_in"]),
        _shape(block["shape_out"]),
        block["skip"],
        block["gate"],
        "yes" if block["square"] else "no",
        f"{block['parameters']:,}",
    )


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _shorten(text: str, limit: int = 32) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _line(cells: Any, widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
