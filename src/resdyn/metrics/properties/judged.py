"""A property, the criteria that it consists of, and what they say of one network."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Any

from resdyn import _checks as checks
from resdyn._format import percent, with_error
from resdyn.errors import InputError
from resdyn.metrics.parts import ACROSS
from resdyn.metrics.summary.metric import Metric, one_number
from resdyn.metrics.summary.registry import descriptions
from resdyn.metrics.verdict import Estimate, Rule, Verdict, judge

UNTRAINED, BY_CHANCE = "the untrained network", "chance"
NO_NULL = "but no untrained network was measured beside it (--null), which may show the same"


@dataclass(frozen=True)
class Criterion:
    """What one metric has to satisfy: a bound, and a distance from what is found untrained and by chance.

    The bound that counts is the stricter one of `bound` and of a point beyond each null: the share `share` of the way
    from the null to `ideal`, or, with `factor`, that many times the null (divided by it where less is more).

    Attributes:
        metric: Its name in the metrics table.
        kind: "at_least" or "at_most".
        bound: In the unit of the metric.
        ideal: The value where the property is perfect.
        share: How much of the way from a null to `ideal` the number has to go.
        factor: Used instead of `share` where a metric has no upper end or spans decades.
        against_null: Whether an untrained network has to be measured; a criterion of a chain may be met by any.
        where: A text that the place of the metric has to contain; empty: any place.

    Example:
        >>> Criterion("collinearity", "at_least", 0.5).beyond(0.8)
        0.9
        >>> Criterion("within_class_variability", "at_most", 0.1, ideal=0.0, factor=10).beyond(0.5)
        0.05
    """

    metric: str
    kind: str
    bound: float
    ideal: float = 1.0
    share: float = 0.5
    factor: float | None = None
    against_null: bool = True
    where: str = ""

    def __post_init__(self) -> None:
        checks.one_of("kind", self.kind, ("at_least", "at_most"))
        if not 0 < self.share < 1 or (self.factor is not None and self.factor <= 1):
            raise InputError(f"got share={self.share} and factor={self.factor}, expected one in (0, 1) and one above 1")

    def beyond(self, null: float) -> float:
        """The bound that counts beside a null.

        Args:
            null: The value of the untrained network or by chance.

        Returns:
            The stricter one of `bound` and of the point beyond the null.
        """
        if self.factor is not None:
            point = null * self.factor if self.kind == "at_least" else null / self.factor
        else:
            point = null + self.share * (self.ideal - null)
        if not math.isfinite(point):
            return self.bound
        return max(self.bound, point) if self.kind == "at_least" else min(self.bound, point)

    def __str__(self) -> str:
        bound = f"{self.kind.replace('_', ' ')} {self.bound:g}"
        if not self.against_null:
            return bound
        if self.factor is not None:
            side = "above" if self.kind == "at_least" else "below"
            return f"{bound}, and {side} the untrained network and chance by a factor of {self.factor:g}"
        way = percent(self.share, digits=0)
        return f"{bound}, and {way} of the way from the untrained network and from chance to {self.ideal:g}"


@dataclass(frozen=True)
class Property:
    """A property that a network may have, and the criteria that all have to hold.

    Attributes:
        name: Its short name, such as "RA1".
        title: The name in full, with the abbreviation spelled out.
        claim: What is shown where it holds, in a few words.
        criteria: All have to hold.
        anchor: Of the report's section.
        reading: Heading of the documentation's page "How to read every number".
        caution: Where the property misleads, in a sentence or two.
    """

    name: str
    title: str
    claim: str
    criteria: tuple[Criterion, ...]
    anchor: str
    reading: str
    caution: str = ""


@dataclass(frozen=True)
class Finding:
    """One criterion at one place.

    Attributes:
        metric: The row of the metrics table.
        null: The row of the untrained network at the same place, or None.
        criterion: The rule.
        verdict: "holds", "does not hold" or "undecided".
        reason: In words, with the numbers.
        bound: What the number has to reach, or not to exceed, beside these nulls; None where it is not compared.
    """

    metric: Metric
    null: Metric | None
    criterion: Criterion
    verdict: Verdict
    reason: str
    bound: float | None = None

    def as_row(self) -> dict[str, Any]:
        """The finding as plain data, for JSON.

        Returns:
            metric, where, value, standard_error, chance, untrained, bound, verdict, reason.
        """
        row = self.metric.as_row()
        untrained = None if self.null is None else self.null.value
        kept = {name: row[name] for name in ("where", "value", "standard_error", "chance")}
        judged = {"bound": self.bound, "verdict": self.verdict, "reason": self.reason}
        return {"metric": row["name"], **kept, "untrained": untrained, **judged}


@dataclass(frozen=True)
class PropertyVerdict:
    """What was found of a property.

    Attributes:
        of: The property.
        verdict: "holds" where all criteria hold at all places, "does not hold" where at every place one does not.
        findings: Per place and criterion; those of the first criterion come first.
    """

    of: Property
    verdict: Verdict
    findings: tuple[Finding, ...]

    def as_row(self) -> dict[str, Any]:
        """The verdict as plain data, for JSON.

        Returns:
            A dict with name, title, verdict, reason, rules and findings, a list of dicts with metric, where, value,
            standard_error, chance, untrained, bound, verdict, reason.
        """
        return {
            "name": self.of.name,
            "title": self.of.title,
            "verdict": self.verdict,
            "reason": self.decisive.reason,
            "rules": [f"{criterion.metric}: {criterion}" for criterion in self.of.criteria],
            "findings": [finding.as_row() for finding in self.findings],
        }

    @property
    def decisive(self) -> Finding:
        """The finding that the verdict rests on, the first of the same verdict."""
        return next((f for f in self.findings if f.verdict == self.verdict), self.findings[0])


def find_verdict(asked: Property, metrics: Sequence[Metric], nulls: Sequence[Metric] | None) -> PropertyVerdict | None:
    """Judge a property by two metrics tables; None where the first criterion's metric is in no row.

    A place where another criterion has no row is undecided.
    """
    rows = [[m for m in metrics if m.name == c.metric and c.where in (m.where or "")] for c in asked.criteria]
    if not rows[0]:
        return None
    places = list(dict.fromkeys(_place(row) for own in rows for row in own))
    found: dict[str | None, list[Finding]] = {place: [] for place in places}
    for criterion, own in zip(asked.criteria, rows, strict=True):
        absent = [_absent(criterion, place) for place in places if place not in map(_place, own)]
        for row in [*own, *absent]:
            found[_place(row)].append(_judged(criterion, row, _at(nulls or (), row), nulls is not None))
    verdict = _over_places([_all([finding.verdict for finding in own]) for own in found.values()])
    return PropertyVerdict(asked, verdict, tuple(finding for own in found.values() for finding in own))


def _absent(criterion: Criterion, place: str | None) -> Metric:
    """The row of a metric that is missing at a place."""
    title = descriptions().get(criterion.metric, (criterion.metric, "", ""))[0]
    return replace(one_number(criterion.metric, math.nan, where=place), title=title)


def _place(row: Metric) -> str | None:
    """Where criteria meet: rows of one stage belong together; a start of a line moves and is left out."""
    where = row.where or ""
    return where.partition("(1-based)")[2] if "(1-based)" in where else where if "stage" in where else None


def _moves(where: str) -> bool:
    """Whether a place is where the data say: the blocks of a line, or the block of the least step."""
    return "(1-based)" in where or re.fullmatch(r"block \d+", where) is not None


def _at(nulls: Sequence[Metric], row: Metric) -> Metric | None:
    """The row of the same metric at the same place."""
    own = [null for null in nulls if null.name == row.name]
    same = next((null for null in own if null.where == row.where), None)
    if same is not None or not _moves(row.where or ""):
        return same
    return next((null for null in own if _moves(null.where or "") and _place(null) == _place(row)), None)


def _all(verdicts: Sequence[Verdict]) -> Verdict:
    if "does not hold" in verdicts:
        return "does not hold"
    return "undecided" if "undecided" in verdicts else "holds"


def _over_places(verdicts: Sequence[Verdict]) -> Verdict:
    return verdicts[0] if len(set(verdicts)) == 1 else "undecided"


def _judged(criterion: Criterion, row: Metric, null: Metric | None, with_null: bool) -> Finding:
    number = _estimate(row)
    if row.value is None:
        why = "; ".join(filter(None, (row.missing or "not measured", row.note)))
        return Finding(row, null, criterion, "undecided", f"{row.title}: {why}")
    if ACROSS in (row.where or ""):
        return Finding(row, null, criterion, "undecided", f"{row.title}: one line {ACROSS}, whose norms need not agree")
    known = null is not None and null.value is not None and math.isfinite(null.value)
    references = [_estimate(null, UNTRAINED)] if null is not None and known else []
    references += [Estimate(end, name=BY_CHANCE) for end in _nearest_chance(criterion, row)]
    used = references if criterion.against_null else []
    bound = criterion.bound
    for reference in used:
        stricter = criterion.beyond(reference.value)
        bound = max(bound, stricter) if criterion.kind == "at_least" else min(bound, stricter)
    bound = _stricter(criterion.kind, bound)
    own = judge(number, Rule(criterion.kind, criterion.bound), ())
    found = judge(number, Rule(criterion.kind, bound, needs_error=criterion.against_null), used)
    why = f" ({row.note})" if criterion.against_null and number.error is None and row.note else ""
    verdict, reason = found.verdict, f"{row.title}: {found.reason}{why}"
    if own.verdict == "holds" and verdict == "does not hold":
        return Finding(row, null, criterion, *_no_better(criterion, number, references, row), bound)
    if verdict == "holds" and criterion.against_null and not any(r.name == UNTRAINED for r in references):
        why = "but the untrained network has no finite value there" if with_null else NO_NULL
        return Finding(row, null, criterion, "undecided", f"{row.title}: {own.reason}, {why}", bound)
    return Finding(row, null, criterion, verdict, reason, bound)


def _stricter(kind: str, bound: float) -> float:
    """The bound to three digits: whatever satisfies these satisfies the bound."""
    context = Context(prec=3, rounding=ROUND_CEILING if kind == "at_least" else ROUND_FLOOR)
    return float(context.create_decimal(repr(float(bound))))


def _no_better(
    criterion: Criterion, number: Estimate, references: Sequence[Estimate], row: Metric
) -> tuple[Verdict, str]:
    """A number that is good and no better than its null by what the rule asks."""
    better = max if criterion.kind == "at_least" else min
    best = better(references, key=lambda reference: reference.value)
    return "undecided", f"{row.title}: {number} is good, but {best.name} has {best}, too near to tell training's part"


def _nearest_chance(criterion: Criterion, row: Metric) -> list[float]:
    ends = None if row.chance is None else row.chance.ends
    if ends is None:
        return []
    return [max(ends) if criterion.kind == "at_least" else min(ends)]


def _estimate(row: Metric, name: str = "") -> Estimate:
    """The value with what is known of its error; of a share of 0 or 1, half of its interval."""
    value = math.nan if row.value is None else row.value
    error, n = row.standard_error, row.n if row.n > 1 else None
    if error is None and row.interval is not None:
        error = (row.interval[1] - row.interval[0]) / 2
    if row.groups is not None:
        n = row.groups
    return Estimate(value, error, n if error is not None else None, name)


def spoken(row: Metric | None) -> str:
    """A row's value with its error; empty where there is none."""
    return "" if row is None or row.value is None else with_error(row.value, row.standard_error)
