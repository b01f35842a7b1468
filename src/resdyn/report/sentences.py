"""The number under each figure, in words, from the rows of the metrics table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from resdyn._format import counted, percent, with_error

Rows = list[dict[str, Any]]

Wording = Sequence[tuple[str, str]]  # (metric, words)

SHARES = {"nearest_mean_disagreement"}
EXPLAINED = {"line_shape_score"}  # whose note says what to expect by chance


def sentences(metrics: Rows, wording: Wording) -> list[str]:
    """One sentence for each place (stage, depth) that the metrics of `wording` were taken at."""
    words = dict(wording)
    places: dict[str | None, list[str]] = {}
    notes: dict[str | None, list[str]] = {}
    for name in words:
        for row in (row for row in metrics if row["name"] == name):
            places.setdefault(row["where"], []).append(f"{words[name]}: {number(row)}")
            if row["value"] is None and row["note"]:
                notes.setdefault(row["where"], []).append(row["note"].removesuffix("; not measured"))
    same: dict[tuple[str, str], list[str]] = {}
    for place, parts in _merged(places).items():
        said = "; ".join(parts), "; ".join(dict.fromkeys(notes.get(place, [])))
        same.setdefault(said, []).append(readable(place))
    return [sentence(" and ".join(filter(None, where)), *said) for said, where in same.items()]


def number(row: dict[str, Any]) -> str:
    """'0.953 ± 0.012 (n = 12)', or 'not measured'."""
    if row["value"] is None:
        return "not measured"
    text = counted(quantity(row), row["n"]) if row["n"] else quantity(row)
    explained = row["name"] in EXPLAINED or not math.isfinite(row["value"])
    return f"{text}, {row['note']}" if explained and row["note"] else text


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


def sentence(place: str, text: str, note: str) -> str:
    """Text that begins with a capital, with the place it belongs to and what a reader must know."""
    text = f"{text[0].upper()}{text[1:]}"
    text = f"{text} — {place}." if place else f"{text}."
    return f"{text} {note}." if note else text
