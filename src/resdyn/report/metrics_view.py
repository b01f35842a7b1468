"""The table of all metrics: rounded to look at, exact to copy."""

from __future__ import annotations

from dataclasses import dataclass

from resdyn._format import short
from resdyn.report.sentences import Rows

COLUMNS = ("metric", "value", "standard error", "n", "where", "how to read it", "note", "source", "name")


@dataclass(frozen=True)
class Cell:
    """Text on the page; `exact` is what a copy of the table holds, None for words."""

    text: str
    exact: str | None = None


@dataclass(frozen=True)
class MetricsView:
    """What the template needs to show the table."""

    columns: tuple[str, ...]
    rows: list[list[Cell]]


def metrics_view(metrics: Rows) -> MetricsView | None:
    """The table, or None when there is no metric."""
    return MetricsView(COLUMNS, [_row(row) for row in metrics]) if metrics else None


def _row(row: dict) -> list[Cell]:
    words = [Cell(row[key] or "") for key in ("where", "reading", "note", "source", "name")]
    numbers = [_number(row["value"]), _number(row["standard_error"]), _number(row["n"] or None)]
    return [Cell(row["title"]), *numbers, *words]


def _number(value: float | None) -> Cell:
    return Cell("", "") if value is None else Cell(short(value), repr(value))
