"""A claim of a paper, and the rule by which a number of ours agrees with it or does not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from resdyn.errors import InputError
from resdyn.papers.results import Number

Verdict = Literal["agrees", "disagrees", "not run"]
RULES = ("at_least", "at_most", "within")


@dataclass(frozen=True)
class Rule:
    """What our number must satisfy: `at_least` or `at_most` a bound, or `within` a distance of the paper's number.

    Attributes:
        kind: "at_least", "at_most" or "within".
        bound: The bound, or for "within" the distance, in the unit of the number.
        errors: By how many standard errors of its own the number must satisfy the rule; where this is not 0, a number
            without a standard error is no evidence.

    Example:
        >>> rule = Rule("at_least", 0.5, errors=2)
        >>> str(rule), rule.holds(Number(0.6, error=0.02, n=9), "a line")
        ('at least 0.5 by 2 standard errors', True)
    """

    kind: str
    bound: float
    errors: float = 0.0

    @classmethod
    def of(cls, content: dict[str, Any]) -> Rule:
        """The rule of an entry of expected.json.

        Args:
            content: `{"at_least": 0.5, "errors": 2}` and the like.

        Raises:
            InputError: Unless there is exactly one kind, and nothing else but `errors`.
        """
        kinds = [kind for kind in RULES if kind in content]
        if len(kinds) != 1 or set(content) - {*RULES, "errors"}:
            raise InputError(f"got the rule {content}, expected one of {', '.join(RULES)}, and perhaps errors")
        return cls(kinds[0], float(content[kinds[0]]), float(content.get("errors", 0.0)))

    def holds(self, number: Number, paper: float | str) -> bool:
        """Whether a number satisfies the rule; one that was not measured does not.

        Args:
            number: Ours. One without a standard error is compared as it is.
            paper: The paper's number, which "within" alone needs.
        """
        if number.value is None:
            return False
        margin = self.errors * (number.error or 0.0)
        if self.kind == "at_least":
            return number.value - margin >= self.bound
        if self.kind == "at_most":
            return number.value + margin <= self.bound
        return abs(number.value - float(paper)) + margin <= self.bound

    def __str__(self) -> str:
        words = {"at_least": "at least", "at_most": "at most", "within": "within"}[self.kind]
        text = f"{words} {self.bound:g}{' of the paper' if self.kind == 'within' else ''}"
        if self.kind == "within" and self.bound == 0:
            text = "exactly the paper's"
        return f"{text} by {self.errors:g} standard errors" if self.errors else text


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

    Example:
        >>> claim = Claim("states lie on a line", "figure 8", "a line", "line", Rule("at_least", 0.8))
        >>> claim.judge(Number(0.9), "small")
        ('agrees', '0.9 is at least 0.8')
    """

    claim: str
    where: str
    paper: float | str
    number: str
    rule: Rule
    cell: tuple[str, str] | None = None
    experiment: str | None = None
    judged_at: str = "small"

    @classmethod
    def of(cls, content: dict[str, Any]) -> Claim:
        """The claim of an entry of expected.json.

        Args:
            content: `claim`, `where`, `paper`, `number`, `rule`, and perhaps `cell`, `experiment`, `judged_at`.

        Raises:
            InputError: When an entry is absent, when `judged_at` is not a scale that is evidence, and when a rule needs
                a number that the paper lacks.
        """
        try:
            rule = Rule.of(content["rule"])
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
            )
        except KeyError as error:
            raise InputError(f"the claim {content} has no {error}") from error
        if claim.judged_at not in ("small", "paper"):
            raise InputError(f"the claim '{claim.claim}' is judged at {claim.judged_at}, expected small or paper")
        if rule.kind == "within" and not (isinstance(claim.paper, int | float) and math.isfinite(claim.paper)):
            raise InputError(f"the claim '{claim.claim}' has a rule 'within' but no number of the paper")
        return claim

    def judge(self, number: Number | None, scale: str | None) -> tuple[Verdict, str]:
        """The verdict on our number at a scale, and why.

        Args:
            number: Ours; None: no run has measured it.
            scale: At which it was measured. Scale `tiny` only shows that an experiment runs.

        Returns:
            "agrees", "disagrees" or "not run", and the reason in words.
        """
        if number is None or number.value is None:
            return "not run", f"no run has measured {self.number}: run the experiment at scale paper"
        if scale == "tiny":
            return "not run", "scale tiny checks that the experiment runs, and is not evidence"
        if self.rule.errors and number.error is None:
            return "not run", f"{quantity(number)} has no standard error, which the rule asks for: run more of them"
        if scale == "small" and self.judged_at == "paper":
            return "not run", "a number of a smaller run, shown for comparison and judged at scale paper alone"
        holds = self.rule.holds(number, self.paper)
        why = f"{quantity(number)} is {'' if holds else 'not '}{self.rule}"
        return ("agrees" if holds else "disagrees"), f"{why}; {number.note}" if number.note else why


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
