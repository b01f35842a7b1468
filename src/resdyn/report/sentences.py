"""The number under each figure, in words, from the rows of the metrics table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from resdyn._format import counted, percent, with_error
from resdyn.metrics.summary import chance_text

Rows = list[dict[str, Any]]

Wording = Sequence[tuple[str, str]]  # (metric, words)

SHARES = {"nearest_mean_disagreement"}


def sentences(metrics: Rows, wording: Wording) -> list[str]:
    """One sentence for each place (stage, depth) that the metrics of `wording` were taken at."""
    words = dict(wording)
    places: dict[str | None, list[str]] = {}
    for name in words:
        for row in (row for row in metrics if row["name"] == name):
            places.setdefault(row["where"], []).append(f"{words[name]}: {number(row)}")
    same: dict[str, list[str]] = {}
    for place, parts in _merged(places).items():
        same.setdefault("; ".join(parts), []).append(readable(place))
    return [sentence(" and ".join(filter(None, where)), said) for said, where in same.items()]


def number(row: dict[str, Any]) -> str:
    """'0.953 ± 0.012 (n = 12), 0.1 by chance'; 'not measured' or 'undefined', and why."""
    if row["value"] is None:
        return f"{row['missing']} ({row['note']})" if row["note"] else row["missing"]
    text = counted(quantity(row), row["n"]) if row["n"] else quantity(row)
    chance = by_chance(row)
    said = [text, f"{chance} by chance" if chance else "", "" if math.isfinite(row["value"]) else row["note"]]
    return ", ".join(part for part in said if part)


def by_chance(row: dict[str, Any]) -> str:
    """What the metric is by chance, in the unit of its value; empty where there is no such value."""
    chance = row.get("chance")
    return percent(chance[0], digits=0) if row["name"] in SHARES and chance else chance_text(chance)


def quantity(row: dict[str, Any]) -> str:
    """The value with what is known of its error; shares in per cent."""
    if row["name"] in SHARES:
        return percent(row["value"], row["standard_error"], row.get("interval"))
    return with_error(row["value"], row["standard_error"])


def readable(place: str | None) -> str:
    """A place as typeset on the page."""
    return (place or "").replace("!=", "≠")


def _merged(places: dict[str | None, list[str]]) -> dict[str | None, list[str]]:
    """Parts without a place join the only other place."""
    if None in places and len(places) == 2:
        loose = places.pop(None)
        (only,) = places
        places[only] = places[only] + loose
    return places


def sentence(place: str, text: str) -> str:
    """Text that begins with a capital, with the place it belongs to."""
    text = f"{text[0].upper()}{text[1:]}"
    return f"{text} — {place}." if place else f"{text}."
