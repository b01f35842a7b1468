"""Whether two quantities go together over samples: coefficients, their intervals, and corrections for many tests.

All tests are two-sided. Pairs in which either value is not finite are left out. Where a coefficient is not defined
(fewer than two pairs, or a constant) it is NaN, and `n` says how many pairs there were.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from resdyn.errors import InputError

FloatArray = NDArray[np.float64]
MIN_PAIRS = 2
MOST_ENUMERATED = 9  # pairs; 362,880 orders


@dataclass(frozen=True)
class Correlation:
    """A coefficient of correlation with its test and its interval; NaN in all but `n` where it is not defined.

    Attributes:
        coefficient: Pearson's r or Spearman's rho, in [-1, 1].
        p_value: Two-sided, of no association.
        low: Lower end of the confidence interval.
        high: Upper end of the confidence interval.
        n: Number of pairs in which both values are finite.
    """

    coefficient: float
    p_value: float
    low: float
    high: float
    n: int


def pearson(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Correlation:
    """Pearson's r = cov(x, y) / (std(x) std(y)), its exact p-value under normality, and Fisher's interval.

    The interval at `level` is tanh(artanh(r) +- z / sqrt(n - 3)) with z the normal quantile. Three pairs exclude
    nothing: it is (-1, 1). Two always are on a line: r = +-1 with p = 1 and no interval (NaN).

    Args:
        x: (n,), any unit.
        y: (n,), any unit.
        level: Of the interval.

    Returns:
        Coefficient, p-value, interval and number of pairs.

    Raises:
        InputError: Two shapes, or a level outside (0, 1).

    Source:
        Fisher (1921), the interval.

    Example:
        >>> round(pearson([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]).coefficient, 3)
        0.8
    """
    x, y = _pairs(x, y)
    if not _varies(x, y):
        return _undefined(x)
    found = stats.pearsonr(x, y)
    ends = found.confidence_interval(_level(level))
    low, high = (float(ends.low), float(ends.high)) if x.size > MIN_PAIRS else (np.nan, np.nan)
    return Correlation(float(found.statistic), float(found.pvalue), low, high, x.size)


def spearman(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Correlation:
    """Spearman's rho, Pearson's r of the ranks (ties share theirs): insensitive to outliers and to monotone units.

    The p-value is exact up to nine pairs: of all n! orders, twice the share of those whose rho is at least as far out
    on its side, ties included. Above, Student's t with n - 2 degrees of freedom, and never below 2 / n!, which the
    clearest order has. Interval as of `pearson` with the variance (1 + rho^2 / 2) / (n - 3) of Bonett and Wright
    (2000), taken half a step of rho below 1 where all pairs are in order: ranks cannot tell more. x and y (n,).

    Args:
        x: (n,), any unit.
        y: (n,), any unit.
        level: Of the interval.

    Returns:
        Coefficient, p-value, interval and number of pairs.

    Raises:
        InputError: Two shapes, or a level outside (0, 1).

    Example:
        >>> [round(spearman(range(n), range(n)).p_value, 3) for n in (3, 4, 5)]
        [0.333, 0.083, 0.017]
    """
    x, y = _pairs(x, y)
    if not _varies(x, y):
        return _undefined(x)
    found = stats.spearmanr(x, y)
    rho, n = float(found.statistic), x.size
    edge = 1 - 6 / (n**3 - n) if n > MIN_PAIRS else 1.0  # half a step below 1
    low, high = _fisher(float(np.clip(rho, -edge, edge)), 1 + rho**2 / 2, n, level)
    low, high = -1.0 if rho < -edge else low, 1.0 if rho > edge else high
    p_value = _exact(x, y) if n <= MOST_ENUMERATED else max(float(found.pvalue), 2 / math.factorial(n))
    return Correlation(rho, p_value, low, high, n)


def holm(p_values: ArrayLike) -> FloatArray:
    """Adjusted p-values that control the chance of any false finding: Holm (1979).

    In ascending order p~_(k) = max_{j <= k} min(1, (m - j + 1) p_(j)) over the m known ones; NaN stays NaN.

    Args:
        p_values: Any shape; all values are one family, NaN stays NaN.

    Returns:
        Adjusted p-values of the same shape.

    Raises:
        InputError: A value outside [0, 1].

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
        [0.03, 0.06, 0.06]
    """
    return _adjusted(p_values, _holm)


def benjamini_hochberg(p_values: ArrayLike) -> FloatArray:
    """Adjusted p-values that control the expected share of false findings: Benjamini and Hochberg (1995).

    In ascending order p~_(k) = min_{j >= k} min(1, m p_(j) / j); for tests that are independent or positively
    dependent. NaN stays NaN.

    Args:
        p_values: Any shape; all values are one family, NaN stays NaN.

    Returns:
        Adjusted p-values of the same shape.

    Raises:
        InputError: A value outside [0, 1].

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(4).tolist()
        [0.03, 0.04, 0.04]
    """
    return _adjusted(p_values, lambda known: stats.false_discovery_control(known, method="bh"))


def _holm(known: FloatArray) -> FloatArray:
    order = np.argsort(known, kind="stable")
    steps = np.arange(known.size, 0, -1) * known[order]
    adjusted = np.empty_like(known)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _adjusted(p_values: ArrayLike, adjust: Callable[[FloatArray], FloatArray]) -> FloatArray:
    p_values = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(p_values)
    if np.any((p_values[known] < 0) | (p_values[known] > 1)):
        raise InputError("got p-values outside [0, 1], expected probabilities, or NaN where there is none")
    result = np.full(p_values.shape, np.nan)
    if known.any():
        result[known] = adjust(p_values[known])
    return result


def _exact(x: FloatArray, y: FloatArray) -> float:
    """Two-sided p-value of Spearman's rho among all orders of the pairs."""
    a, b = (stats.rankdata(values) - (x.size + 1) / 2 for values in (x, y))
    every, own = b[_orders(x.size)] @ a, float(a @ b)
    tolerance = 1e-9 * float(np.linalg.norm(a) * np.linalg.norm(b))  # sums of the same ranks in another order
    tails = np.mean(every >= own - tolerance), np.mean(every <= own + tolerance)
    return float(min(1.0, 2 * min(tails)))


@lru_cache(maxsize=MOST_ENUMERATED)
def _orders(n: int) -> NDArray[np.int8]:
    return np.array(list(itertools.permutations(range(n))), dtype=np.int8)


def _pairs(x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"got x of shape {x.shape} and y of shape {y.shape}, expected two vectors of one length")
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]


def _varies(x: FloatArray, y: FloatArray) -> bool:
    return x.size >= MIN_PAIRS and bool(np.ptp(x) > 0) and bool(np.ptp(y) > 0)


def _undefined(x: FloatArray) -> Correlation:
    return Correlation(np.nan, np.nan, np.nan, np.nan, x.size)


def _fisher(coefficient: float, variance: float, n: int, level: float) -> tuple[float, float]:
    """Interval on the scale of artanh, where the coefficient's variance is `variance` / (n - 3)."""
    level = _level(level)
    if n < 4:
        return (-1.0, 1.0) if n == 3 else (np.nan, np.nan)
    if abs(coefficient) >= 1:
        return coefficient, coefficient
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(variance / (n - 3))
    centre = np.arctanh(coefficient)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"got level={level}, expected a share between 0 and 1, such as 0.95")
    return level
