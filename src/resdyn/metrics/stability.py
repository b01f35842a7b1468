"""What the eigenvalues of a block say about it as a step of explicit Euler.

With lambda the eigenvalues of the block h -> h' and mu = lambda - 1 those of its vector field h' - h, a step of length
h (the block is h = 1) multiplies along an eigenvector by 1 + h mu. Cores take eigenvalues along the last axis, NaN
where there is none. Eigenvalues alone bound what happens in the end: a nonnormal block stretches by its norm at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def stable_step(eigenvalues: ArrayLike) -> FloatArray:
    """Largest h with |1 + h mu| <= 1 for every decaying mu = lambda - 1 (Re mu < 0): h = min -2 Re mu / |mu|^2.

    1 and more: no decaying direction is amplified by the block itself. Directions that grow under the ODE
    (Re mu >= 0) grow under Euler for any h and are left out; `growing_share` counts them. Infinite if nothing decays.
    (..., n) -> (...), NaN without any eigenvalue.

    Args:
        eigenvalues: (..., n), complex, NaN where there is none.

    Returns:
        (...), infinite if nothing decays, NaN without any eigenvalue.

    Source:
        Hairer and Wanner (1996), section IV.2, region of stability.

    Example:
        >>> float(stable_step([0.5, -1.0]))
        1.0
    """
    mu = np.asarray(eigenvalues, dtype=np.complex128) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.where(mu.real < 0, -2 * mu.real / np.abs(mu) ** 2, np.where(np.isnan(mu), np.nan, np.inf))
    known = ~np.isnan(bound)
    return np.where(known.any(-1), np.where(known, bound, np.inf).min(-1, initial=np.inf), np.nan)


def growing_share(eigenvalues: ArrayLike) -> FloatArray:
    """Share of eigenvalues with Re lambda > 1, along which the vector field grows. (..., n) -> (...).

    Args:
        eigenvalues: (..., n), complex, NaN where there is none.

    Returns:
        (...), in [0, 1].

    Example:
        >>> growing_share([0.5, 2.0])
        array(0.5)
    """
    values = np.asarray(eigenvalues, dtype=np.complex128)
    known = np.isfinite(values)
    count = known.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((known & (values.real > 1)).sum(-1) / np.where(count > 0, count, np.nan), dtype=np.float64)
