"""RA4: does the top singular value fall like one over depth?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from resdyn.errors import InputError
from resdyn.metrics.rank import converged_singular_values

FloatArray = NDArray[np.float64]

MIN_POINTS = 4
LINE_PARAMETERS = 3  # slope, intercept, variance
CHANGE_POINT_PARAMETERS = 3  # Ninomiya (2015)


@dataclass(frozen=True)
class LineFit:
    """Least-squares line y = intercept + slope x over `num_points` points, with standard errors."""

    slope: float
    intercept: float
    r_squared: float
    slope_error: float
    intercept_error: float
    num_points: int


@dataclass(frozen=True)
class InverseScalingFit(LineFit):
    """`LineFit` of 1/s_1 against the 1-based block number, from block `start` (1-based) on.

    `start_is_chosen` says that the criterion found `start`; `criterion` holds its value, up to a common
    constant, for every candidate: `criterion[k]` for a start at the k-th measured block.
    """

    start: int
    start_is_chosen: bool
    criterion: tuple[float, ...]


def fit_line(x: ArrayLike, y: ArrayLike) -> LineFit:
    """Ordinary least squares y = a + b x with the usual standard errors (n - 2 degrees of freedom).

    Points where y is not finite are left out. Standard errors are NaN with fewer than three points, R^2 when
    y is constant, everything with fewer than two points.

    >>> fit_line([1, 2, 3, 4], [3.0, 5.0, 7.0, 9.0]).slope
    2.0
    """
    x, y = _measured(x, y)
    n = x.size
    if n < 2:
        return LineFit(np.nan, np.nan, np.nan, np.nan, np.nan, n)
    dx, dy = x - x.mean(), y - y.mean()
    sxx = float(dx @ dx)
    slope = float(dx @ dy) / sxx
    rss, total = float(np.sum((dy - slope * dx) ** 2)), float(dy @ dy)
    variance = rss / (n - 2) if n > 2 else np.nan
    return LineFit(
        slope=slope,
        intercept=float(y.mean() - slope * x.mean()),
        r_squared=1.0 - rss / total if total > 0 else np.nan,
        slope_error=float(np.sqrt(variance / sxx)),
        intercept_error=float(np.sqrt(variance * (1 / n + x.mean() ** 2 / sxx))),
        num_points=n,
    )


def inverse_scaling_fit(
    top_values: ArrayLike, block_number: ArrayLike | None = None, *, start: int | None = None
) -> InverseScalingFit:
    """Fit 1/s_1(i) = intercept + slope i over the blocks where alignment holds; s_1 = 1/i gives slope 1.

    `top_values` (L,): s_1 per block, or (sample, L): then 1/s_1 is averaged over samples first (the slope of
    the averages is the average of the slopes). `block_number` (L,) is 1-based and defaults to 1..L. Values
    that are zero, negative or not finite are left out.

    Where alignment begins is chosen, unless `start` is given, by comparing two-phase models of the n usable
    blocks: the n_1 before `start` lie anywhere in the range R of the observed 1/s_1 (density 1/R), the other
    n_2 scatter about the line with normal errors. The start with the least
    BIC = n_2 (log(2 pi RSS / n_2) + 1) + 2 n_1 log R + (3 + 3 [n_1 > 0]) log n wins, the earliest if tied,
    among those that leave the line MIN_POINTS points. A change point counts as three parameters, as
    Ninomiya (2015) derives for AIC: counted as one, short networks lose blocks that are on the line. Where
    1/s_1 follows no line at all the start means nothing; R^2 tells.

    Raises InputError with fewer than MIN_POINTS usable blocks (from `start` on, when given).
    Source: Li and Papyan (2023), RA4 and figure 4b, "after RA begins"; the criterion is ours.

    >>> fit = inverse_scaling_fit([0.2, 3.0, 1 / 3, 1 / 4, 1 / 5, 1 / 6, 1 / 7, 1 / 8])
    >>> fit.start, round(fit.slope, 6)
    (3, 1.0)
    """
    y = inverse_top_value(top_values)
    x = np.arange(1, y.size + 1) if block_number is None else np.asarray(block_number)
    x, y = _measured(x, y)
    criterion = _criterion(x, y) if start is None else ()
    if criterion:
        start = int(x[np.argmin(criterion)])
    used = x >= start if start is not None else np.ones(x.size, dtype=bool)
    if used.sum() < MIN_POINTS:
        raise InputError(
            f"got {int(used.sum())} blocks with a usable top singular value, expected at least {MIN_POINTS}: "
            "the line of 1/s_1 needs a deeper network or an earlier start"
        )
    fit = fit_line(x[used], y[used])
    return InverseScalingFit(**vars(fit), start=int(x[used][0]), start_is_chosen=bool(criterion), criterion=criterion)


def inverse_top_value(top_values: ArrayLike) -> FloatArray:
    """1/s_1 per block, averaged over samples: (L,) or (sample, L) -> (L,); NaN if unusable."""
    inverse = _reciprocal(top_values)
    if inverse.ndim == 1:
        return inverse
    known = np.isfinite(inverse)
    with np.errstate(invalid="ignore"):
        return np.where(known, inverse, 0.0).sum(0) / known.sum(0)


def inverse_scaling(ds: xr.Dataset, start: int | None = None) -> tuple[InverseScalingFit, list[LineFit]]:
    """RA4 of a stored singular probe: the fit of the mean of 1/s_1 over samples, and one line per sample.

    The blocks of all stages count, numbered from 1 as in the paper (1 + `block`). The samples' lines use the
    blocks from the common start on. Only converged values are used. Errors as `inverse_scaling_fit`.
    """
    top = converged_singular_values(ds).isel(rank=0).transpose("sample", "block").values
    number = ds["block"].values + 1
    fit = inverse_scaling_fit(top, number, start=start)
    used = number >= fit.start
    return fit, [fit_line(number[used], row[used]) for row in _reciprocal(top)]


def _criterion(x: FloatArray, y: FloatArray) -> tuple[float, ...]:
    """BIC, up to a constant, of a start at each measured block that leaves the line enough points."""
    n = y.size
    y = y / np.abs(y).max() if n else y  # moves every BIC by the same amount
    rounding = 8 * np.finfo(np.float64).eps  # an exact line has no residual
    log_range = np.log(np.ptp(y)) if n and np.ptp(y) > rounding else 0.0
    values = []
    for early in range(n - MIN_POINTS + 1):
        late = n - early
        variance = max(_residual(x[early:], y[early:]) / late, rounding**2)
        parameters = LINE_PARAMETERS + (CHANGE_POINT_PARAMETERS if early else 0)
        fit = late * (np.log(2 * np.pi * variance) + 1)
        values.append(float(fit + 2 * early * log_range + parameters * np.log(n)))
    return tuple(values)


def _residual(x: FloatArray, y: FloatArray) -> float:
    fit = fit_line(x, y)
    return float(np.sum((y - fit.intercept - fit.slope * x) ** 2))


def _reciprocal(values: ArrayLike) -> FloatArray:
    values = np.asarray(values, dtype=np.float64)
    positive = np.isfinite(values) & (values > 0)
    return np.where(positive, 1.0 / np.where(positive, values, 1.0), np.nan)


def _measured(x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"got x of shape {x.shape} and y of shape {y.shape}, expected two vectors of one length")
    known = np.isfinite(y)
    return x[known], y[known]
