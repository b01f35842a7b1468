"""The verdicts at the top of the page: one paragraph to quote, and a card per property."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr

from resdyn.metrics.properties import Finding, PropertyVerdict, conclusion, explained
from resdyn.metrics.properties.explanation import HOW_IT_IS_JUDGED
from resdyn.metrics.summary import Metric
from resdyn.report.sentences import by_chance, quantity, readable

MARKS = {"holds": "yes", "does not hold": "no", "undecided": "open"}


@dataclass(frozen=True)
class Card:
    """One property: its verdict, the number that it rests on, and why."""

    verdict: str
    mark: str
    name: str
    title: str
    value: str
    beside: str
    anchor: str
    reasons: tuple[str, ...]
    explained: tuple[str, ...]
    reading: str


@dataclass(frozen=True)
class VerdictsView:
    """What the template needs to show the verdicts."""

    conclusion: str
    how: str
    cards: list[Card]


def verdicts_view(found: Sequence[PropertyVerdict], null: xr.Dataset | None) -> VerdictsView | None:
    """The paragraph and the cards, or None where no property can be judged."""
    if not found:
        return None
    return VerdictsView(conclusion(found, null is not None), HOW_IT_IS_JUDGED, [_card(verdict) for verdict in found])


def _card(verdict: PropertyVerdict) -> Card:
    decisive, subject = verdict.decisive, verdict.of
    title = subject.title.partition(": ")[2] or subject.title
    return Card(
        verdict.verdict,
        MARKS[verdict.verdict],
        subject.name if subject.name[:2].isupper() else "",
        title[0].upper() + title[1:],
        _value(decisive.metric),
        _beside(decisive),
        subject.anchor,
        tuple(dict.fromkeys(_reason(finding) for finding in verdict.findings)),
        (*map(readable, explained(subject)), *_chances(verdict)),
        subject.reading,
    )


def _chances(verdict: PropertyVerdict) -> list[str]:
    """Where the values by chance come from, one sentence per metric that has one."""
    known = {f.metric.title: (by_chance(f.metric.as_row()), f.metric.chance) for f in verdict.findings}
    return [
        f"By chance, {title}: {value} ({chance.basis})." for title, (value, chance) in known.items() if chance and value
    ]


def _reason(finding: Finding) -> str:
    place = readable(finding.metric.where)
    return f"{finding.reason} ({place})" if place else finding.reason


def _value(metric: Metric) -> str:
    return f"{metric.title}: {metric.missing or 'not measured' if metric.value is None else quantity(metric.as_row())}"


def _beside(finding: Finding) -> str:
    """What the number has to reach, and what it is compared with."""
    row, null = finding.metric.as_row(), finding.null
    chance = by_chance(row)
    untrained = f"untrained {quantity(null.as_row())}" if null and null.value is not None else ""
    beside = ", ".join(part for part in (untrained, f"by chance {chance}" if chance else "") if part)
    if finding.bound is None:
        return beside
    bound = quantity({"name": row["name"], "value": finding.bound, "standard_error": None})
    asked = f"{finding.criterion.kind.replace('_', ' ')} {bound} asked"
    return f"{asked}; {beside}" if beside else asked
