"""Means with their standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def standard_error(values: NDArray[np.floating[Any]], axis: int = 0) -> Any:
    """The standard error of a mean over one axis: the sample standard deviation over the root of the count.

    Args:
        values: Independent values, two or more along `axis`.
        axis: What the mean is taken over.

    Returns:
        An array without that axis; a number for values (n,).

    Example:
        >>> float(standard_error(np.array([1.0, 2.0, 3.0, 4.0, 5.0])).round(4))
        0.7071
    """
    return values.std(axis, ddof=1) / values.shape[axis] ** 0.5


def bootstrap_error(values: NDArray[np.floating[Any]], draws: int = 400) -> float:
    """The standard error of a median, by resampling; the resamples are always the same.

    Args:
        values: Independent values (n,), two or more.
        draws: Number of resamples.

    Returns:
        The standard deviation of the medians of the resamples.

    Source:
        Efron (1979).
    """
    picked = np.random.default_rng(0).integers(0, values.size, size=(draws, values.size))
    return float(np.median(values[picked], axis=1).std(ddof=1))
