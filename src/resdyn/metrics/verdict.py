"""Does a property hold? One rule for the papers' claims and for the report: a number, its error, its null.

A number x with standard error s from n values is known to lie in x -+ t s, where t is the quantile of Student's
distribution with n - 1 degrees of freedom that covers as much as `errors` standard errors of a normal one do. It

- holds where the whole interval satisfies the rule,
- does not hold where none of it does,
- is undecided where a part does; or where the *null* (the same network untrained, shuffled labels, a value by chance)
  satisfies the rule as well, or cannot be told from x.

A rule that its null passes says nothing about training, whatever x is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy import stats

from resdyn import _checks as checks
from resdyn.errors import InputError

Verdict = Literal["holds", "does not hold", "undecided"]
KINDS = ("at_least", "at_most", "within")


@dataclass(frozen=True)
class Estimate:
    """A number and how well it is known.

    Attributes:
        value: The number; one that is not finite decides nothing, NaN was not measured.
        error: Its standard error, at least 0. None: unknown; the number is then taken as exact.
        n: How many independent values the error comes from, at least 2. None: so many that it is known.
        name: What was measured, as the reason of a verdict calls it.

    Raises:
        InputError: For a negative error or fewer than two values with an error.
    """

    value: float
    error: float | None = None
    n: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.error is not None and not self.error >= 0:
            raise InputError(f"got the standard error {self.error} of {self.value}; expected a number of at least 0")
        if self.error is not None and self.n is not None and self.n < 2:
            raise InputError(f"got n={self.n} with a standard error; expected at least 2 values; give error=None")

    def margin(self, errors: float) -> float:
        """Half the width of the interval in which the number is known to lie.

        Args:
            errors: In standard errors of a normal distribution; 2 covers 95.4 %.

        Example:
            >>> [round(Estimate(1.0, 0.1, n).margin(2), 3) for n in (None, 10, 3, 2)]
            [0.2, 0.232, 0.453, 1.397]
        """
        if not self.error or not errors:
            return 0.0
        if self.n is None:
            return errors * self.error
        return self.error * float(stats.t.isf(stats.norm.sf(errors), self.n - 1))

    def __str__(self) -> str:
        return f"{self.value:.4g}" if self.error is None else f"{self.value:.4g} ± {self.error:.2g}"


@dataclass(frozen=True)
class Rule:
    """What a number must satisfy.

    Attributes:
        kind: "at_least" or "at_most" the bound, or "within" the bound of `target`.
        bound: In the unit of the number.
        target: What "within" is measured from; None for the other kinds.
        errors: How many standard errors wide the interval is to either side.
        needs_error: Whether a number without a standard error is no evidence.

    Raises:
        InputError: For another kind, a bound that is not finite, `within` without a target or with a negative bound.

    Example:
        >>> str(Rule("at_least", 0.5)), str(Rule("within", 0.1, target=2.0))
        ('at least 0.5', 'within 0.1 of 2')
    """

    kind: str
    bound: float
    target: float | None = None
    errors: float = 2.0
    needs_error: bool = False

    def __post_init__(self) -> None:
        checks.one_of("kind", self.kind, KINDS)
        if not math.isfinite(self.bound):
            raise InputError(f"got the bound {self.bound}, expected a finite number")
        if not self.errors >= 0:
            raise InputError(f"got errors={self.errors}, expected a number of at least 0")
        if (self.kind == "within") != (self.target is not None):
            raise InputError(f"got target={self.target} for the rule {self.kind}; expected one for within alone")
        if self.target is not None and not (math.isfinite(self.target) and self.bound >= 0):
            raise InputError(f"got within {self.bound} of {self.target}, expected a distance from a finite number")

    def on(self, number: Estimate) -> Verdict:
        """What the rule says of a number, whatever its null.

        Args:
            number: The number; one that is not finite, or lacks an error that the rule needs, is undecided.
        """
        if not math.isfinite(number.value) or (self.needs_error and number.error is None):
            return "undecided"
        margin = number.margin(self.errors)
        if self.kind == "within":
            distance = abs(number.value - (self.target or 0.0))
        else:
            sign = 1 if self.kind == "at_most" else -1
            distance = sign * number.value
        bound = -self.bound if self.kind == "at_least" else self.bound
        if distance + margin <= bound:
            return "holds"
        return "does not hold" if distance - margin > bound else "undecided"

    def __str__(self) -> str:
        if self.kind == "within":
            return f"within {self.bound:g} of {self.target:g}" if self.bound else f"exactly {self.target:g}"
        return f"{self.kind.replace('_', ' ')} {self.bound:g}"


@dataclass(frozen=True)
class Judgement:
    """A verdict and its reason.

    Attributes:
        verdict: "holds", "does not hold" or "undecided".
        reason: In words, with the number, the rule and the null.
    """

    verdict: Verdict
    reason: str


def judge(number: Estimate, rule: Rule, nulls: Sequence[Estimate] = ()) -> Judgement:
    """Judge a number by a rule and against its nulls.

    Args:
        number: The number.
        rule: The rule.
        nulls: The same quantity where the property cannot hold: of the untrained network, of shuffled data, by chance.
            Each has a `name`. One that is not finite says nothing.

    Returns:
        The verdict. "holds" needs the whole interval of the number to satisfy the rule, every null not to satisfy it,
        and every null to differ from the number by more than both are uncertain.

    Example:
        >>> rule = Rule("at_least", 0.5)
        >>> judge(Estimate(0.9, 0.05, 10), rule, [Estimate(0.2, 0.05, 10, "the untrained network")])
        Judgement(verdict='holds', reason='0.9 ± 0.05 is at least 0.5; the untrained network has 0.2 ± 0.05')
        >>> judge(Estimate(0.9, 0.05, 10), rule, [Estimate(0.8, 0.05, 10, "the untrained network")]).verdict
        'undecided'
        >>> judge(Estimate(0.9, 0.3, 10), rule).reason
        '0.9 ± 0.3 does not decide at least 0.5: 2 standard errors reach from 0.2041 to 1.596'
    """
    nulls = [null for null in nulls if math.isfinite(null.value)]
    verdict = rule.on(number)
    if verdict == "undecided":
        return Judgement(verdict, _why_undecided(number, rule))
    if verdict == "does not hold":
        return Judgement(verdict, f"{number} is not {rule}{_beside(nulls)}")
    for null in nulls:
        if rule.on(null) == "holds":
            return Judgement("undecided", f"{number} is {rule}, and so is {null.name} ({null})")
        if not _apart(number, null, rule.errors):
            return Judgement("undecided", f"{number} is {rule}, and cannot be told from {null.name} ({null})")
    return Judgement(verdict, f"{number} is {rule}{_beside(nulls)}")


def _apart(number: Estimate, null: Estimate, errors: float) -> bool:
    """Whether two numbers differ by more than both are uncertain."""
    return abs(number.value - null.value) > math.hypot(number.margin(errors), null.margin(errors))


def _why_undecided(number: Estimate, rule: Rule) -> str:
    if not math.isfinite(number.value):
        return "not measured" if math.isnan(number.value) else f"{number} is not finite, which decides nothing"
    if rule.needs_error and number.error is None:
        return f"{number} has no standard error, which the rule asks for"
    margin = number.margin(rule.errors)
    ends = f"{rule.errors:g} standard errors reach from {number.value - margin:.4g} to {number.value + margin:.4g}"
    return f"{number} does not decide {rule}: {ends}"


def _beside(nulls: Sequence[Any]) -> str:
    return "".join(f"; {null.name} has {null}" for null in nulls)
