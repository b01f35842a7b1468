"""Results as a person reads them: one table, as text in a terminal and as HTML in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pandas as pd

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
            rows = elided(rows, max(3, max_lines - 3 - 2 * len(self.notes)))
        frame = self._frame(rows).apply(_padded)
        body = frame.to_string(index=False, justify="left") if len(frame) else "  ".join(self.columns)
        lines = (line.rstrip() for line in body.splitlines())
        return "\n".join([self.caption, "", *lines, *(line for note in self.notes for line in ("", note))])

    def html(self, max_lines: int | None = MAX_LINES) -> str:
        """The same as HTML; every word is escaped."""
        rows = self.rows if max_lines is None else elided(self.rows, max_lines)
        below = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        with _whole_cells():
            grid = self._frame(rows).to_html(index=False, justify="left", border=0)
        return f"<div><b>{html.escape(self.caption)}</b>{grid}{below}</div>"

    def _frame(self, rows: Sequence[Sequence[str] | str]) -> pd.DataFrame:
        """The rows as strings; a text that runs over all columns is in the first."""
        import pandas as pd  # not before something is shown

        blank = ("",) * (len(self.columns) - 1)
        cells = [(row, *blank) if isinstance(row, str) else row for row in rows]
        return pd.DataFrame(cells, columns=list(self.columns), dtype="string")


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


def _padded(column: pd.Series) -> pd.Series:
    """Cells of one width, with a space behind: pandas aligns to the right, one space between columns."""
    return column.str.ljust(1 + max(len(str(column.name)), *column.str.len()))


def _whole_cells() -> AbstractContextManager[None]:
    """pandas cuts a cell of more than 50 characters in HTML otherwise."""
    import pandas as pd

    return pd.option_context("display.max_colwidth", None)
