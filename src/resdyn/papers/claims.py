"""A claim of a paper, and the verdict on it: by its rule, the error of our number, and the null."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from resdyn.errors import InputError
from resdyn.metrics import Estimate, Rule, judge
from resdyn.papers.results import Number

Verdict = Literal["agrees", "disagrees", "undecided", "not run"]
VERDICTS: tuple[Verdict, ...] = ("agrees", "disagrees", "undecided", "not run")
OF_PAPER: dict[str, Verdict] = {"holds": "agrees", "does not hold": "disagrees", "undecided": "undecided"}
KINDS = ("at_least", "at_most", "within")
UNTRAINED = "the untrained network"


def rule_of(content: dict[str, Any], paper: float | str) -> Rule:
    """The rule of an entry of expected.json.

    Args:
        content: `{"at_least": 0.5, "errors": 2}` and the like: one kind with its bound; `errors`, by how many standard
            errors, where a number without one is no evidence.
        paper: The paper's number, from which "within" is measured.

    Raises:
        InputError: Unless there is exactly one kind, and nothing else but `errors`; for "within" without a number.

    Example:
        >>> str(rule_of({"within": 0.1}, 0.992))
        'within 0.1 of 0.992'
    """
    kinds = [kind for kind in KINDS if kind in content]
    if len(kinds) != 1 or set(content) - {*KINDS, "errors"}:
        raise InputError(f"got the rule {content}, expected one of {', '.join(KINDS)}, and perhaps errors")
    kind, target = kinds[0], None
    if kind == "within":
        if not (isinstance(paper, int | float) and math.isfinite(paper)):
            raise InputError(f"got the rule {content} and '{paper}' in the paper, which has no number of the paper")
        target = float(paper)
    asked = content.get("errors")
    return Rule(kind, float(content[kind]), target, 2.0 if asked is None else float(asked), asked is not None)


@dataclass(frozen=True)
class Claim:
    """One figure, table cell or sentence of a paper.

    Attributes:
        claim: What is claimed, in a sentence.
        where: The place in the paper, such as "figure 8".
        paper: The number or the words there.
        number: Key of our number in `Result.numbers`.
        rule: By which our number agrees or does not.
        cell: (row, column) in the paper's table, if the claim comes from one.
        experiment: Name of the experiment that measures the number, if not the one above the claim.
        judged_at: The smallest scale whose number is evidence, "small" or "paper" (the latter for a cell of a table);
            at smaller ones the number is shown and not judged.
        null: What the number is by chance, beside that of the experiment's null, such as 0 with the name "no
            correlation". None: nothing else is known.
        no_null: Why there is no null, such as that the claim is about untrained networks; "": there is one.
        lacks_power: Why a number that misses the rule decides nothing, such as that a correlation which is not
            significant may still be there; "": it decides.

    Example:
        >>> claim = Claim("states lie on a line", "figure 8", "a line", "line", Rule("at_least", 0.8))
        >>> claim.judge(Number(0.9), "small", Number(0.1))
        ('agrees', '0.9 is at least 0.8; the untrained network has 0.1')
        >>> claim.judge(Number(0.9), "small", Number(0.85))
        ('undecided', '0.9 is at least 0.8, and so is the untrained network (0.85)')
    """

    claim: str
    where: str
    paper: float | str
    number: str
    rule: Rule
    cell: tuple[str, str] | None = None
    experiment: str | None = None
    judged_at: str = "small"
    null: Estimate | None = None
    no_null: str = ""
    lacks_power: str = ""

    @classmethod
    def of(cls, content: dict[str, Any]) -> Claim:
        """The claim of an entry of expected.json.

        Args:
            content: `claim`, `where`, `paper`, `number`, `rule`, and perhaps `cell`, `experiment`, `judged_at`,
                `null` (`{"value": 0, "name": "no correlation"}`) `no_null` and `lacks_power`.

        Raises:
            InputError: When an entry is absent, when `judged_at` is not a scale that is evidence, and when a rule needs
                a number that the paper lacks.
        """
        try:
            rule = rule_of(content["rule"], content["paper"])
            null = content.get("null")
            cell = tuple(content["cell"]) if "cell" in content else None
            claim = cls(
                content["claim"],
                content["where"],
                content["paper"],
                content["number"],
                rule,
                cell,
                content.get("experiment"),
                content.get("judged_at", "small"),
                None if null is None else Estimate(float(null["value"]), name=null["name"]),
                content.get("no_null", ""),
                content.get("lacks_power", ""),
            )
        except KeyError as error:
            raise InputError(f"the claim {content} has no {error}") from error
        if claim.judged_at not in ("small", "paper"):
            raise InputError(f"the claim '{claim.claim}' is judged at {claim.judged_at}, expected small or paper")
        return claim

    def judge(
        self, number: Number | None, scale: str | None, null: Number | None = None, null_name: str = UNTRAINED
    ) -> tuple[Verdict, str]:
        """The verdict on our number at a scale, and why.

        Args:
            number: Ours; None: no run has measured it.
            scale: At which it was measured. Scale `tiny` only shows that an experiment runs.
            null: The same number of the experiment's null. None: not known.
            null_name: What that is.

        Returns:
            "agrees", "disagrees", "undecided" or "not run", and the reason in words.
        """
        if number is None or number.value is None:
            return "not run", f"no run has measured {self.number}: run the experiment at scale paper"
        if scale == "tiny":
            return "not run", "scale tiny checks that the experiment runs, and is not evidence"
        if scale == "small" and self.judged_at == "paper":
            return "not run", "a number of a smaller run, shown for comparison and judged at scale paper alone"
        nulls = [estimate_of(null, null_name)] if null is not None and null.value is not None else []
        found = judge(estimate_of(number), self.rule, [*nulls, *([self.null] if self.null else [])])
        verdict, why = OF_PAPER[found.verdict], found.reason
        if verdict == "disagrees" and self.lacks_power:
            verdict, why = "undecided", f"{why}; {self.lacks_power}"
        return verdict, f"{why}; {number.note}" if number.note else why


def estimate_of(number: Number, name: str = "") -> Estimate:
    """A number as rules take it; one whose error does not come from several values is known as well as that says.

    Args:
        number: With a value.
        name: What was measured, as the reason of a verdict calls it.
    """
    value = math.nan if number.value is None else number.value
    return Estimate(value, number.error, number.n if number.error is not None and number.n > 1 else None, name)


def shown(value: float | None, digits: int = 6) -> str:
    """A value to so many significant digits; a count in full."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 10**digits else f"{value:.{digits}g}"


def quantity(number: Number) -> str:
    """A number with its standard error and what it is a mean over."""
    text = shown(number.value, 4)
    if number.error is not None:
        text += f" ± {number.error:.2g}"
    return f"{text} (n = {number.n}{f' {number.over}' if number.over else ''})" if number.n > 1 else text
