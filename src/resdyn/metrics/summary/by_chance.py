"""What the metrics are by chance, by formula: of unrelated vectors, random matrices, shuffled labels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import optimize, special

from resdyn.metrics.summary.metric import Chance


def cosine(d: float) -> float:
    """Mean |cos| of two random directions of d dimensions, Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)), ~ sqrt(2/(pi d)).

    >>> round(cosine(512), 3)
    0.035
    """
    return float(np.exp(special.gammaln(d / 2) - special.gammaln((d + 1) / 2)) / math.sqrt(math.pi))


def mismatch(rank: int, d: float) -> float:
    """Of K equal singular values and unrelated vectors: sqrt(1 + (K/d)^2 - 2 sqrt(2 K / pi) / d)."""
    return math.sqrt(max(1 + (rank / d) ** 2 - 2 * math.sqrt(2 * rank / math.pi) / d, 0.0))


def singular_gap(rank: int, d: float) -> float:
    """s_C / s_(C+1) of a random (d, d) matrix: neighbouring quantiles of the quarter-circle law."""
    return _quarter_circle((rank - 0.5) / d) / _quarter_circle((rank + 0.5) / d) if rank + 0.5 < d else math.nan


def _quarter_circle(share: float) -> float:
    """The value s in [0, 2] above which a share of the singular values lies (Marchenko and Pastur 1967)."""

    def above(s: float) -> float:
        return 1 - (s * math.sqrt(4 - s * s) / 2 + 2 * math.asin(s / 2)) / math.pi - share

    return float(optimize.brentq(above, 0.0, 2.0))


def within_class_variability(num_classes: int, per_class: float, d: int) -> float:
    """NC1 of isotropic states and shuffled labels: (C - 1) (n - 1) / (d - C), by the mean of an inverse Wishart matrix.

    With fewer dimensions than classes d (n - 1) / (C - 2 - d); without a value where the mean does not exist.
    """
    if d > num_classes:
        return (num_classes - 1) * (per_class - 1) / (d - num_classes)
    return d * (per_class - 1) / (num_classes - 2 - d) if d < num_classes - 2 else math.nan


def over_sizes(basis: str, formula: Callable[[int], float], ds: xr.Dataset, at: str = "both") -> Chance:
    """A formula of d at the smallest and the largest state that blocks begin in, end in, or both."""
    sizes = np.asarray(ds["state_size"].values)
    used = {"in": sizes[:-1], "out": sizes[1:], "both": sizes}[at] if sizes.size > 1 else sizes
    ends = sorted(formula(int(size)) for size in (used.min(), used.max()))
    return Chance(basis, *ends) if all(map(math.isfinite, ends)) else Chance(f"{basis}; none at this size")
