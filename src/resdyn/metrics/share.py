"""Shares of a count, with intervals that do not vanish where all or none were seen."""

from __future__ import annotations

from scipy import stats

from resdyn import _checks as checks
from resdyn.errors import InputError


def share_interval(count: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval at `level` of a share of which `count` of `n` independent draws were seen: Wilson (1927).

    It holds all p that a score test at 1 - level does not reject, |count / n - p| <= z sqrt(p (1 - p) / n): for 0 of n
    from 0 to z^2 / (n + z^2), where the usual standard error would be 0.

    Args:
        count: How many were seen.
        n: Of how many independent draws.
        level: Of the interval.

    Returns:
        (low, high).

    Raises:
        InputError: `count` exceeds `n`, or a level outside (0, 1).

    Example:
        >>> tuple(round(end, 4) for end in share_interval(0, 100))
        (0.0, 0.037)
    """
    n, count = checks.whole("n", n, 1), checks.whole("count", count, 0)
    level = checks.number("level", level, "a share between 0 and 1, such as 0.95", 0, 1)
    if count > n:
        raise InputError(f"got count={count} of n={n}, expected at most n")
    interval = stats.binomtest(count, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
