"""What a verdict rests on, in words: the same text in a report and in the documentation."""

from __future__ import annotations

from resdyn.metrics.properties.judged import Criterion, Property
from resdyn.metrics.summary.registry import descriptions

HOW_IT_IS_JUDGED = (
    "A property holds where its numbers satisfy the rule by two standard errors, and are beyond those of the same "
    "network untrained and those by chance by as much as the rule asks; it does not hold where they miss the rule by "
    "two standard errors; else it is undecided."
)


def explained(asked: Property) -> list[str]:
    """How a verdict is reached and read.

    Args:
        asked: The property.

    Returns:
        A sentence per criterion (what the number is, how its scale reads, the rule), then where the property misleads.

    Example:
        >>> from resdyn.metrics.properties.builtin import SINGULAR
        >>> for sentence in explained(SINGULAR[0])[:1]:
        ...     print(sentence[:86])
        RA3 gap s_C / s_(C+1) (well above 1 when the rank is at most C). Rule: at least 2, and
    """
    sentences = [_rule(criterion) for criterion in asked.criteria]
    return [*sentences, asked.caution] if asked.caution else sentences


def _rule(criterion: Criterion) -> str:
    title, reading, _ = descriptions().get(criterion.metric, (criterion.metric, "", ""))
    said = f"{title} ({reading})" if reading else title
    return f"{said}. Rule: {criterion}."
