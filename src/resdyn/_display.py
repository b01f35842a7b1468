"""Results as a person reads them: one table, as text in a terminal and as HTML in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

MAX_LINES = 25
Item = TypeVar("Item")


@dataclass(frozen=True)
class Table:
    """Cells by row under a caption, with notes below; a row may be one text instead, which runs over all columns."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Sequence[str] | str, ...]
    notes: tuple[str, ...] = ()

    def text(self, max_lines: int | None = MAX_LINES) -> str:
        """Aligned plain text; rows in the middle are left out so that there are at most `max_lines` lines."""
        rows: Sequence[Sequence[str] | str] = self.rows
        if max_lines is not None:
            rows = elided(rows, max(3, max_lines - 4 - 2 * len(self.notes)))
        cells = [self.columns, *(row for row in rows if not isinstance(row, str))]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        header = [_line(self.columns, widths), _line(["-" * width for width in widths], widths)]
        body = [f"  {row}" if isinstance(row, str) else _line(row, widths) for row in rows]
        return "\n".join([self.caption, "", *header, *body, *(line for note in self.notes for line in ("", note))])

    def html(self, max_lines: int | None = MAX_LINES) -> str:
        """The same as HTML; every word is escaped."""
        rows = self.rows if max_lines is None else elided(self.rows, max_lines)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(f"<tr>{self._cells(row)}</tr>" for row in rows)
        below = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        grid = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"<div><b>{html.escape(self.caption)}</b>{grid}{below}</div>"

    def _cells(self, row: Sequence[str] | str) -> str:
        if isinstance(row, str):
            return f'<td colspan="{len(self.columns)}">{html.escape(row)}</td>'
        return "".join(f"<td>{html.escape(cell)}</td>" for cell in row)


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object] | str], *notes: str) -> Table:
    """A table of anything that has a text; empty notes are left out."""
    texts = (row if isinstance(row, str) else tuple(str(cell) for cell in row) for row in rows)
    return Table(caption, tuple(columns), tuple(texts), tuple(note for note in notes if note))


def elided(items: Sequence[Item], limit: int) -> list[Item | str]:
    """At most `limit` items, the first and the last of them, with a line that says how many are left out between."""
    if len(items) <= limit:
        return list(items)
    before, after = limit // 2, (limit - 1) // 2
    return [*items[:before], f"... {len(items) - before - after} more", *items[len(items) - after :]]


def mark(converged: Any) -> str:
    """Whether a value has converged, as a cell."""
    return "yes" if bool(converged) else "NO"


class Displayed:
    """Shows itself as its table wherever it is printed; what it holds is in its attributes."""

    def _table(self) -> Table:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
