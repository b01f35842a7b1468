"""RA4: does the top singular value fall like one over depth?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from resdyn import _checks as checks
from resdyn.errors import InputError
from resdyn.metrics.line_start import LEVEL, MIN_POINTS, Chance, chance, start_criterion
from resdyn.metrics.rank import converged_singular_values

FloatArray = NDArray[np.float64]
MAX_GROUPS = 100  # of samples that the jackknife leaves out in turn


@dataclass(frozen=True)
class LineFit:
    """Least-squares line y = intercept + slope x, with standard errors; NaN where too few points define a number.

    Attributes:
        slope: b, in units of y per unit of x.
        intercept: a, in the unit of y.
        r_squared: 1 - RSS / TSS, the share of the variance of y that the line explains.
        slope_error: Standard error of the slope.
        intercept_error: Standard error of the intercept.
        num_points: Number of points on the line.
    """

    slope: float
    intercept: float
    r_squared: float
    slope_error: float
    intercept_error: float
    num_points: int


@dataclass(frozen=True)
class InverseScalingFit(LineFit):
    """`LineFit` of 1/s_1 against the 1-based block number, from block `start` on.

    Errors, p-value and the adjusted R^2 take into account that the start was chosen by the same values. `r_squared`
    itself is of the points on the line, and high by choice where these are few.

    Attributes:
        slope: Of 1/s_1 per block; 1 where s_1 = 1/i.
        intercept: 1/s_1 that the line has at block 0.
        r_squared: Of the points on the line.
        slope_error: The usual standard error times the factor that makes |slope| > t(0.975, n - 2) slope_error true in
            one of twenty rows without a trend.
        intercept_error: The usual standard error times the same factor.
        num_points: Number of blocks on the line.
        start: First block of the line, 1-based.
        start_is_chosen: Whether the criterion found `start`; else it was given.
        criterion: The criterion's value, up to a common constant, for every candidate: `criterion[k]` for a start at
            the k-th measured block; empty where the start was given.
        p_value: Of no trend, by a permutation test that repeats the choice (two-sided; of Student's t where the start
            was given).
        r_squared_adjusted: 1 - (1 - R^2) / (1 - E), E the mean of R^2 in shuffled rows: 0 where there is no more than
            chance, 1 on a line; with a given start the usual adjusted R^2.
        r_squared_by_chance: What one in twenty shuffled rows exceeds.
    """

    start: int
    start_is_chosen: bool
    criterion: tuple[float, ...]
    p_value: float
    r_squared_adjusted: float
    r_squared_by_chance: float


def fit_line(x: ArrayLike, y: ArrayLike) -> LineFit:
    """Ordinary least squares y = a + b x with the usual standard errors (n - 2 degrees of freedom).

    Args:
        x: (n,).
        y: (n,); points where it is not finite are left out.

    Returns:
        Slope, intercept and R^2 with their standard errors. Standard errors are NaN with fewer than three points, R^2
        when y is constant, everything with fewer than two points or where all have one x.

    Raises:
        InputError: `x` and `y` are not two vectors of one length.

    Example:
        >>> fit_line([1, 2, 3, 4], [3.0, 5.0, 7.0, 9.0]).slope
        2.0
    """
    x, y = _measured(x, y)
    n = x.size
    if n < 2 or np.ptp(x) == 0:  # SciPy raises on points above each other
        return LineFit(np.nan, np.nan, np.nan, np.nan, np.nan, n)
    line = stats.linregress(x, y)
    certain = n > 2  # two points lie on their line: SciPy calls its errors 0, and nothing is known about them
    return LineFit(
        slope=float(line.slope),
        intercept=float(line.intercept),
        r_squared=float(line.rvalue) ** 2 if np.ptp(y) > 0 else np.nan,
        slope_error=float(line.stderr) if certain else np.nan,
        intercept_error=float(line.intercept_stderr) if certain else np.nan,
        num_points=n,
    )


def inverse_scaling_fit(
    top_values: ArrayLike, block_number: ArrayLike | None = None, *, start: int | None = None
) -> InverseScalingFit:
    """Fit 1/s_1(i) = intercept + slope i over the blocks where alignment holds; s_1 = 1/i gives slope 1.

    Where alignment begins is chosen, unless `start` is given, by comparing two-phase models of the n usable
    blocks: the n_1 before `start` are anywhere in the range R of the observed 1/s_1 (density 1/R), the other
    n_2 scatter about the line with normal errors. The start with the least
    BIC = n_2 (log(2 pi RSS / n_2) + 1) + 2 n_1 log R + (3 + 3 [n_1 > 0]) log n wins, the earliest if tied,
    among those that leave the line at least six points. A change point counts as three parameters, as
    Ninomiya (2015) derives for AIC: counted as one, short networks lose blocks that are on the line. Where
    1/s_1 follows no line at all the start means nothing, and a line of few points may have a high R^2 all the same:
    `p_value` and `r_squared_adjusted` tell, which compare with what the same choice finds in shuffled blocks.

    Args:
        top_values: (L,), s_1 per block; or (sample, L): then 1/s_1 is averaged over samples first (the slope of the
            averages is the average of the slopes). Values that are zero, negative or not finite are left out.
        block_number: (L,), 1-based (default: 1..L).
        start: First block of the line, 1-based (default: chosen).

    Returns:
        The line with its errors, and what the choice of the start finds by chance.

    Raises:
        InputError: Fewer than six usable blocks (from `start` on, when given), or another number of block numbers.

    Cost:
        The choice for 999 shuffles of the blocks, 0.1 s for 50 of them.

    Source:
        Li and Papyan (2023), RA4 and figure 4b, "after RA begins"; the criterion is ours.

    Example:
        >>> fit = inverse_scaling_fit([0.2, 3.0, 1 / 3, 1 / 4, 1 / 5, 1 / 6, 1 / 7, 1 / 8])
        >>> fit.start, round(fit.slope, 6)
        (3, 1.0)
    """
    fit, criterion, x, y = _line(top_values, block_number, start)
    by_chance = chance(x, y) if criterion else _chance_of(fit)
    widened = {name: getattr(fit, name) * by_chance.widening for name in ("slope_error", "intercept_error")}
    return InverseScalingFit(
        **vars(fit) | widened,
        start=int(x[-fit.num_points]),
        start_is_chosen=bool(criterion),
        criterion=criterion,
        p_value=by_chance.p_value,
        r_squared_adjusted=1 - (1 - fit.r_squared) / (1 - by_chance.r_squared),
        r_squared_by_chance=by_chance.r_squared_limit,
    )


def _line(
    top_values: ArrayLike, block_number: ArrayLike | None, start: int | None
) -> tuple[LineFit, tuple[float, ...], FloatArray, FloatArray]:
    """The line from the given or the best start on, what starts were worth, and all usable points in order."""
    y = inverse_top_value(top_values)
    x, y = _measured(np.arange(1, y.size + 1) if block_number is None else block_number, y)
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    criterion = start_criterion(x, y) if start is None else np.empty(0)
    if criterion.size:
        first = float(x[np.argmin(criterion)])
    else:
        first = -np.inf if start is None else checks.number("start", start, "a block number")
    used = x >= first
    if used.sum() < MIN_POINTS:
        raise InputError(
            f"got {int(used.sum())} blocks with a usable top singular value, expected at least {MIN_POINTS}: "
            "the line of 1/s_1 needs a deeper network or an earlier start"
        )
    return fit_line(x[used], y[used]), tuple(criterion.tolist()), x, y


def inverse_top_value(top_values: ArrayLike) -> FloatArray:
    """1/s_1 per block, averaged over samples.

    Args:
        top_values: (L,) or (sample, L), s_1 per block; values that are zero, negative or not finite are left out.

    Returns:
        (L,), float64; NaN for a block without a usable value.

    Example:
        >>> inverse_top_value([[0.5, 1.0], [0.25, 0.0]])
        array([3., 1.])
    """
    inverse = _reciprocal(top_values)
    if inverse.ndim == 1:
        return inverse
    known = np.isfinite(inverse)
    with np.errstate(invalid="ignore"):
        mean: FloatArray = np.where(known, inverse, 0.0).sum(0) / known.sum(0)
    return mean


def inverse_scaling(ds: xr.Dataset, start: int | None = None) -> tuple[InverseScalingFit, list[LineFit]]:
    """RA4 of a stored singular probe: the fit of the mean of 1/s_1 over samples, and one line per sample.

    The blocks of all stages count, numbered from 1 as in the paper (1 + `block`). The samples' lines use the
    blocks from the common start on. Only converged values are used. Errors as `inverse_scaling_fit`.

    Args:
        ds: A dataset with the singular probe.
        start: First block of the line, 1-based (default: chosen).

    Returns:
        The fit, and one line per sample.

    Raises:
        InputError: Too few blocks (see `inverse_scaling_fit`).
    """
    top = converged_singular_values(ds).isel(rank=0).transpose("sample", "block").values
    number = ds["block"].values + 1
    fit = inverse_scaling_fit(top, number, start=start)
    used = number >= fit.start
    return fit, [fit_line(number[used], row[used]) for row in _reciprocal(top)]


def jackknife_errors(ds: xr.Dataset, start: int | None = None) -> tuple[float | None, float | None, float | None]:
    """Standard errors over samples of slope, intercept and R^2, the choice of the start included; None below two.

    sqrt((n - 1) / n sum_k (b_(-k) - mean)^2) over the fits without sample k, each of which chooses its own start: that
    of a mean over samples where all choose the same start. A fit that one sample alone makes possible has none.
    """
    top = converged_singular_values(ds).isel(rank=0).transpose("sample", "block").values
    known = [row for row in top if np.isfinite(row).any()]
    if len(known) < 2:
        return None, None, None
    number = ds["block"].values + 1
    try:
        groups = np.array_split(np.arange(len(known)), min(len(known), MAX_GROUPS))
        without = [_line(np.delete(known, group, axis=0), number, start)[0] for group in groups]
    except InputError:
        return None, None, None
    fits = np.array([(fit.slope, fit.intercept, fit.r_squared) for fit in without])
    slope, intercept, r_squared = (float(error) for error in np.sqrt((len(groups) - 1) * fits.var(0)))
    return slope, intercept, r_squared if np.isfinite(r_squared) else None


def _chance_of(fit: LineFit) -> Chance:
    """Of a line whose points were given: R^2 of normal noise follows a beta law."""
    half, freedom = (fit.num_points - 2) / 2, fit.num_points - 2
    p_value = float(stats.beta.sf(fit.r_squared, 0.5, half)) if np.isfinite(fit.r_squared) else 1.0
    return Chance(p_value, 1 / (freedom + 1), float(stats.beta.isf(LEVEL, 0.5, half)), 1.0)


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
