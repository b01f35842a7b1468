"""Verdicts: intervals on either side of a rule, nulls, and what cannot be told from one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from resdyn.errors import InputError
from resdyn.metrics import Estimate, Rule, judge

NUMBERS = st.floats(-1e6, 1e6)
ERRORS = st.one_of(st.none(), st.floats(0, 1e3))
COUNTS = st.integers(2, 50)
RULES = st.one_of(
    st.builds(Rule, st.sampled_from(["at_least", "at_most"]), NUMBERS),
    st.builds(lambda bound, target: Rule("within", bound, target), st.floats(0, 1e3), NUMBERS),
)


def satisfied(rule, value):
    if rule.kind == "within":
        return abs(value - rule.target) <= rule.bound
    return value >= rule.bound if rule.kind == "at_least" else value <= rule.bound


@given(NUMBERS, ERRORS, COUNTS, RULES)
def test_a_verdict_is_true_of_the_whole_interval(value, error, n, rule):
    number = Estimate(value, error, n)
    margin = number.margin(2)
    verdict = judge(number, rule).verdict
    inside = [satisfied(rule, value + share * margin * (1 - 1e-9)) for share in (-1, -0.5, 0, 0.5, 1)]
    if verdict == "holds":
        assert all(inside)
    elif verdict == "does not hold":
        assert not any(inside)
    else:
        assert margin > 0


@given(NUMBERS, ERRORS, COUNTS, RULES)
def test_no_rule_holds_for_its_null(value, error, n, rule):
    number = Estimate(value, error, n, "the null")
    assert judge(number, rule, [number]).verdict != "holds"


@pytest.mark.parametrize(
    ("number", "rule", "null", "verdict"),
    [
        (Estimate(0.6, 1.16, 100), Rule("at_least", 1), None, "undecided"),
        (Estimate(1.03, 0.1, 100), Rule("at_least", 1), None, "undecided"),
        (Estimate(1.3, 0.1, 2), Rule("at_least", 1), None, "undecided"),
        (Estimate(1.3, 0.1, 30), Rule("at_least", 1), None, "holds"),
        (Estimate(0.02, None), Rule("within", 0.1, 0.05), Estimate(0.0, name="no correlation"), "undecided"),
        (Estimate(0.52, 0.01, 99), Rule("within", 0.1, 0.5), Estimate(0.0, name="no correlation"), "holds"),
        (Estimate(0.9, 0.01, 9), Rule("at_least", 0.5), Estimate(math.nan, name="an unmeasured null"), "holds"),
        (Estimate(0.55, 0.01, 9), Rule("at_least", 0.5), Estimate(0.45, 0.1, 9, "the untrained network"), "undecided"),
        (Estimate(0.3, 0.01, 9), Rule("at_least", 0.5), Estimate(0.9, name="the untrained network"), "does not hold"),
        (Estimate(math.nan), Rule("at_least", 0.5), None, "undecided"),
        (Estimate(0.9), Rule("at_least", 0.5, needs_error=True), None, "undecided"),
    ],
)
def test_verdicts(number, rule, null, verdict):
    assert judge(number, rule, [] if null is None else [null]).verdict == verdict


def test_two_values_are_judged_by_students_interval():
    assert Estimate(0, 1, 2).margin(2) == pytest.approx(stats.t.ppf(stats.norm.cdf(2), 1))
    assert Estimate(0, 1).margin(2) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Rule("above", 1),
        lambda: Rule("within", 1),
        lambda: Rule("within", -1, 0.0),
        lambda: Rule("at_least", math.nan),
        lambda: Rule("at_least", 1, target=2.0),
        lambda: Rule("at_least", 1, errors=-1),
        lambda: Estimate(1, -0.1),
        lambda: Estimate(1, math.nan),
        lambda: Estimate(1, 0.1, 1),
    ],
)
def test_impossible_rules_and_errors_are_refused(wrong):
    with pytest.raises(InputError, match="got"):
        wrong()
