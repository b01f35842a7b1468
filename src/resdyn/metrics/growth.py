"""How the size of a transport grows towards early depths: by a factor per step, or by a power of the steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resdyn.errors import InputError

MIN_POINTS = 4
POINTS_TO_DECIDE, EVIDENCE = 6, 6.0  # depths, and a difference of BIC that is strong (Kass and Raftery, 1995)


@dataclass(frozen=True)
class GrowthFit:
    """Laws of |J_l| against the steps s = L - l to the target, by least squares on the logarithm.

    Attributes:
        rate: k of the exponential ``c exp(k s)``, natural logarithm per step.
        rate_error: Its standard error by the regression: the scatter about the law, not the error of each |J_l|.
        exponent: p of the power ``c (1 + s)^p``.
        exponent_error: Its standard error likewise.
        bic: By law, "constant", "exponential" and "power": n log(RSS / n) + (parameters) log n.
        law: The law of which the BIC is below those of both others by 6 or more, given six depths or more; otherwise
            "undecided". The best of the three need not fit well.
        num_points: Depths that were fitted.
    """

    rate: float
    rate_error: float
    exponent: float
    exponent_error: float
    bic: dict[str, float]
    law: Literal["constant", "exponential", "power", "undecided"]
    num_points: int


def transport_growth(steps: ArrayLike, norms: ArrayLike) -> GrowthFit:
    """Fit ``c``, ``c exp(k s)`` and ``c (1 + s)^p`` to the norms of transports over their steps s to the target.

    Args:
        steps: (n,), whole numbers of at least 0.
        norms: (n,), Frobenius norms; points where they are not finite or not positive are left out.

    Returns:
        The fits, and which law is the better one where the points say so.

    Raises:
        InputError: For vectors of different lengths, negative or equal steps, or fewer than four usable points.

    Cost: microseconds.

    Source: Lagzi (2021), appendix A, where |S(s)| grows with L - s; the comparison by BIC (Schwarz, 1978) is ours.

    Example:
        >>> s = np.arange(8)
        >>> found = transport_growth(s, 2 * np.exp(0.3 * s))
        >>> found.law, round(found.rate, 6)
        ('exponential', 0.3)
        >>> found = transport_growth(s, (1 + s) ** 0.5)
        >>> found.law, round(found.exponent, 6)
        ('power', 0.5)
    """
    s, y = np.asarray(steps, dtype=np.float64), np.asarray(norms, dtype=np.float64)
    if s.ndim != 1 or s.shape != y.shape:
        raise InputError(f"got steps {s.shape} and norms {y.shape}, expected two vectors of one length")
    if not np.isfinite(s).all() or (s < 0).any() or len(set(s.tolist())) < len(s):
        raise InputError(f"got steps {s.tolist()}, expected different numbers of at least 0")
    usable = np.isfinite(y) & (y > 0)
    s, y = s[usable], np.log(y[usable])
    if s.size < MIN_POINTS:
        raise InputError(f"got {s.size} usable depths, expected at least {MIN_POINTS}; fit more depths")
    fits = {"exponential": _line(s, y), "power": _line(np.log1p(s), y)}
    rss = {"constant": float(((y - y.mean()) ** 2).sum())} | {name: fit[2] for name, fit in fits.items()}
    scale = 1e-28 * float((y**2).sum()) + 1e-300  # of rounding: perfect fits are equally good
    bic = {
        name: s.size * math.log(max(r, scale) / s.size) + _parameters(name) * math.log(s.size)
        for name, r in rss.items()
    }
    return GrowthFit(*fits["exponential"][:2], *fits["power"][:2], bic, _law(bic, s.size), int(s.size))


def _parameters(law: str) -> int:
    return 1 if law == "constant" else 2


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Slope, its standard error, and the sum of squares that is left."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    rss = float(((y - y.mean() - slope * centred) ** 2).sum())
    return slope, math.sqrt(rss / (x.size - 2) / spread), rss


def _law(bic: dict[str, float], points: int) -> Literal["constant", "exponential", "power", "undecided"]:
    first, second = sorted(bic, key=lambda law: bic[law])[:2]
    if points < POINTS_TO_DECIDE or bic[second] - bic[first] < EVIDENCE:
        return "undecided"
    return first  # type: ignore[return-value]
