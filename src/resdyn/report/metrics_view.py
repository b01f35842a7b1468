"""The table of all metrics: rounded to look at, exact to copy."""

from __future__ import annotations

from dataclasses import dataclass

from resdyn._format import short
from resdyn.metrics.summary import chance_text
from resdyn.report.sentences import Rows, readable

COLUMNS = ("metric", "value", "standard error", "by chance", "n", "where", "how to read it, and what to know")


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
    value = Cell(row["missing"], "") if row["value"] is None else _number(row["value"])
    chance = Cell(chance_text(row["chance"]), "" if row["chance"] is None else repr(row["chance"]))
    numbers = [value, _number(row["standard_error"]), chance, _number(row["n"] or None)]
    by_chance = f"By chance: {row['chance_basis']}" if row["chance_basis"] else ""
    source = f"Source: {row['source']}" if row["source"] else ""
    said = ". ".join(filter(None, (row["reading"], row["note"], by_chance, source, f"Name: {row['name']}")))
    return [Cell(row["title"]), *numbers, Cell(readable(row["where"])), Cell(said)]


def _number(value: float | None) -> Cell:
    return Cell("", "") if value is None else Cell(short(value), repr(value))
