"""Where a line of 1/s_1 begins, and what that choice finds in rows without any trend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

MIN_POINTS = 6
LINE_PARAMETERS = 3  # slope, intercept, variance
CHANGE_POINT_PARAMETERS = 3  # Ninomiya (2015)
LEVEL = 0.05
SHUFFLES = 999  # (SHUFFLES + 1) LEVEL is whole, so that the test at this level is exact
ROUNDING = 8 * np.finfo(np.float64).eps  # an exact line has no residual


@dataclass(frozen=True)
class Chance:
    """What the whole procedure, choice of the start included, finds where values have no order.

    p_value: share of shuffled rows whose line is at least as clear. r_squared: its mean over them, and
    r_squared_limit, what one in twenty exceeds. widening: factor on standard errors that makes a test of the slope at
    the level 0.05 reject one in twenty of them.
    """

    p_value: float
    r_squared: float
    r_squared_limit: float
    widening: float


def start_criterion(x: FloatArray, rows: FloatArray) -> FloatArray:
    """BIC, up to a constant, of a start at each point that leaves the line enough: (..., n) -> (..., candidates)."""
    n = rows.shape[-1]
    if n < MIN_POINTS:
        return np.empty((*rows.shape[:-1], 0))
    rows = rows / (np.abs(rows).max(-1, keepdims=True) + (np.abs(rows).max() == 0))  # moves every BIC alike
    spread = np.ptp(rows, axis=-1)
    log_range = np.log(np.where(spread > ROUNDING, spread, 1.0))
    values = []
    for early in range(n - MIN_POINTS + 1):
        late = n - early
        variance = np.maximum(_residual(x[early:], rows[..., early:])[0] / late, ROUNDING**2)
        parameters = LINE_PARAMETERS + (CHANGE_POINT_PARAMETERS if early else 0)
        values.append(late * (np.log(2 * np.pi * variance) + 1) + 2 * early * log_range + parameters * np.log(n))
    return np.stack(values, axis=-1)


def chance(x: FloatArray, y: FloatArray) -> Chance:
    """A permutation test that repeats the choice of the start in every shuffled row; its shuffles are always the same.

    Its level is exact whatever the noise, since without a trend all orders of the values are equally likely. The
    statistic is the p-value of the slope at the chosen start, which lines of any number of points share.
    """
    rng = np.random.default_rng(0)
    rows = rng.permuted(np.broadcast_to(y, (SHUFFLES, y.size)), axis=1)
    own, _, points = _at_best_start(x, y[None])
    found, r_squared, _ = _at_best_start(x, rows)
    p_value = (1 + np.sum(found <= own * (1 + 1e-6))) / (SHUFFLES + 1)
    limit = np.sort(found)[round((SHUFFLES + 1) * LEVEL) - 1]
    freedom = int(points[0]) - 2
    widening = stats.t.isf(limit / 2, freedom) / stats.t.isf(LEVEL / 2, freedom)
    return Chance(
        p_value=float(p_value),
        r_squared=float(r_squared.mean()),
        r_squared_limit=float(np.quantile(r_squared, 1 - LEVEL)),
        widening=max(1.0, float(widening)),
    )


def _at_best_start(x: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(p-value of the slope, R^2, number of points) of each row's line from its own best start on."""
    best = np.argmin(start_criterion(x, rows), axis=-1)
    p_value, r_squared = np.empty(len(rows)), np.empty(len(rows))
    for early in np.unique(best):
        own = best == early
        rss, total = _residual(x[early:], rows[own][:, early:])
        share = np.where(total > 0, 1 - rss / np.where(total > 0, total, 1.0), 0.0)
        r_squared[own] = share
        p_value[own] = stats.beta.sf(share, 0.5, (x.size - early - 2) / 2)  # Student's t in terms of R^2
    return p_value, r_squared, x.size - best


def _residual(x: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(residual, total) sum of squares of the least-squares line of every row."""
    dx, dy = x - x.mean(), rows - rows.mean(-1, keepdims=True)
    slope = dy @ dx / (dx @ dx)
    return np.sum((dy - slope[..., None] * dx) ** 2, axis=-1), np.sum(dy**2, axis=-1)
