"""RA4 as a comparison of laws: does 1/s_1 grow like a line in depth, or like something else that looks like one?

R^2 of a line tells little: over eight blocks an exponential of rate 0.3, the root and the square of the block's number
all have R^2 above 0.9. So laws are fitted to the same points and compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from resdyn.errors import InputError

FloatArray = NDArray[np.float64]
MIN_POINTS = 6
OFFSETS = np.geomspace(1e-3, 1e3, 1000)  # of the first block: from the pole of a law to where it is flat
LIMIT = 10.0  # of exponents, beyond which a power with an offset is an exponential


@dataclass(frozen=True)
class LawComparison:
    """Laws of y = 1/s_1 against the block number i, by least squares on log y.

    Attributes:
        bic: By law, `line` a + b i, `constant` c, `exponential` c exp(k i): n log(RSS / n) + (parameters) log n.
        margin: BIC of the better of constant and exponential less that of the line, positive where the line is better;
            6 and more is strong evidence (Kass and Raftery, 1995).
        exponent: p of c (i + d)^p with free p and d; 1 for a line. Cut at +-10, where it is an exponential.
        exponent_error: Its standard error by the regression; NaN where it is cut.
        num_points: Blocks that were fitted.
    """

    bic: dict[str, float]
    margin: float
    exponent: float
    exponent_error: float
    num_points: int


def compare_laws(block_number: ArrayLike, inverse_values: ArrayLike) -> LawComparison:
    """Fit a line, a constant, an exponential and a power with free exponent to 1/s_1 over depth.

    Errors of 1/s_1 grow with it, so that all laws are fitted to its logarithm. The line is not compared with the power,
    which contains it: the power's exponent says whether the growth is that of a line, the margin whether it is that of
    a line rather than none or an exponential one.

    Args:
        block_number: (n,), 1-based.
        inverse_values: (n,), mean of 1/s_1; points where it is not finite or not positive are left out.

    Returns:
        The comparison.

    Raises:
        InputError: Vectors of different lengths, or fewer than six usable points.

    Cost:
        Milliseconds.

    Source:
        Li and Papyan (2023), RA4; the comparison is ours, by BIC (Schwarz, 1978).

    Example:
        >>> i = np.arange(1, 17)
        >>> found = compare_laws(i, i - 0.5)
        >>> found.margin > 6, round(found.exponent, 3)
        (True, 1.0)
        >>> compare_laws(i, np.exp(0.3 * i)).margin < -6
        True
    """
    x, y = np.asarray(block_number, dtype=np.float64), np.asarray(inverse_values, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(f"got block numbers {x.shape} and values {y.shape}, expected two vectors of one length")
    usable = np.isfinite(x) & np.isfinite(y) & (y > 0)
    x, y = x[usable], np.log(y[usable])
    if x.size < MIN_POINTS:
        raise InputError(f"got {x.size} usable blocks, expected at least {MIN_POINTS}: laws need a deeper network")
    rss = {"line": _line(x, y), "constant": _polynomial(x, y, 0), "exponential": _polynomial(x, y, 1)}
    parameters = {"line": 2, "constant": 1, "exponential": 2}
    bic = {name: _bic(value, x.size, parameters[name]) for name, value in rss.items()}
    exponent, error = _exponent(x, y)
    return LawComparison(bic, min(bic["constant"], bic["exponential"]) - bic["line"], exponent, error, x.size)


def _polynomial(x: FloatArray, y: FloatArray, degree: int) -> float:
    return float(np.sum((np.polyval(np.polyfit(x, y, degree), x) - y) ** 2))


def _line(x: FloatArray, y: FloatArray) -> float:
    """RSS of log b + log(i + d): for each d the best b is a mean, so that d alone is searched."""
    rows = np.log(x - x.min() + OFFSETS[:, None])
    misfits = rows - rows.mean(1, keepdims=True) - (y - y.mean())
    return float((misfits**2).sum(1).min())


def _exponent(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """p of log c + p log(i + d) and its standard error from the curvature of the sum of squares."""

    def residual(parameters: FloatArray) -> FloatArray:
        p, log_offset, log_c = parameters
        return np.asarray(log_c + p * np.log(x - x.min() + math.exp(log_offset)) - y)

    rows = np.log(x - x.min() + OFFSETS[:, None])
    centred = rows - rows.mean(1, keepdims=True)
    slopes = centred @ y / (centred**2).sum(1)
    misfits = ((y - y.mean() - slopes[:, None] * centred) ** 2).sum(1)
    best = int(misfits.argmin())
    if abs(slopes[best]) > LIMIT:
        return math.copysign(LIMIT, slopes[best]), math.nan
    start = [slopes[best], math.log(OFFSETS[best]), y.mean() - slopes[best] * rows[best].mean()]
    bounds = ([-np.inf, math.log(OFFSETS[0]) - 1, -np.inf], [np.inf, math.log(OFFSETS[-1]) + 1, np.inf])
    found = least_squares(residual, start, bounds=bounds, xtol=1e-10, ftol=1e-10, max_nfev=100)
    if abs(found.x[0]) > LIMIT:
        return math.copysign(LIMIT, found.x[0]), math.nan
    variance = 2 * found.cost / (x.size - 3)
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * variance
    return float(found.x[0]), float(np.sqrt(covariance[0, 0]))


def _bic(rss: float, n: int, parameters: int) -> float:
    """Of a fit with normal errors of unknown size; a perfect one is kept finite."""
    return n * math.log(max(rss, 1e-20) / n) + parameters * math.log(n)
