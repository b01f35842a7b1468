"""Dominant gradient flows: does the gradient of a channel come through the channel of the same number?"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resdyn.errors import InputError

FloatArray = NDArray[np.float64]
Formula = Literal["derived", "printed", "concluded"]
LOGISTIC_POWER = 1.2


def dominance_ratio(own: ArrayLike, total: ArrayLike) -> FloatArray:
    """r_i = mean over p of |Theta_iip| / |sum over j != i of Theta_ijp|, of the gradient of every channel i.

    Args:
        own: (..., P), Theta_iip, what reaches entry p of channel i from final channel i.
        total: (..., P), the sum over all j, the gradient itself.

    Returns:
        (...), float64, no unit. Entries that no gradient reaches (0 / 0) are left out of the mean; a channel of such
        entries alone has r = 0. Infinite where an entry is reached from its own channel alone.

    Raises:
        InputError: The shapes differ, or have no dimension.

    Source:
        Yu and Tomasi, equations 5 and 6 (P = 1), which do not say what 0 / 0 counts as.

    Example:
        >>> dominance_ratio([[3.0, 0.0]], [[4.0, 0.0]])
        array([3.])
    """
    own, total = np.asarray(own, dtype=np.float64), np.asarray(total, dtype=np.float64)
    if own.shape != total.shape or own.ndim < 1:
        raise InputError(f"got shapes {own.shape} and {total.shape}, expected two equal shapes (..., P)")
    size, others = np.abs(own), np.abs(total - own)
    reached = (size > 0) | (others > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(reached, size / others, 0.0)
    count = reached.sum(-1)
    return np.asarray(ratio.sum(-1) / np.maximum(count, 1))


def dominant_fraction(ratio: ArrayLike) -> FloatArray:
    """sigma, the share of channels with r_i > 1.

    Args:
        ratio: (..., C), r_i of each channel (see `dominance_ratio`).

    Returns:
        (...), float64 in [0, 1].

    Source:
        Yu and Tomasi, equation 13.

    Example:
        >>> dominant_fraction([0.5, 2.0, 3.0, 1.0])
        array(0.5)
    """
    return np.asarray((np.asarray(ratio, dtype=np.float64) > 1).mean(-1))


def phi(ratio: ArrayLike) -> FloatArray:
    """P[|X| > |Y|] = (2 / pi) arctan(r), X and Y independent, normal, of mean 0, r = sigma_X / sigma_Y.

    Y / X follows a Cauchy law of scale 1 / r.

    Args:
        ratio: r >= 0, any shape.

    Returns:
        Probabilities in [0, 1], float64, of the same shape.

    Source:
        Yu and Tomasi, equation 14, who leave it as an integral, whose density is printed with sqrt(2 pi sigma) for
        sigma sqrt(2 pi).

    Example:
        >>> float(phi(1.0))
        0.5
    """
    return np.asarray(2 / np.pi * np.arctan(np.asarray(ratio, dtype=np.float64)))


def phi_logistic(ratio: ArrayLike, power: float = LOGISTIC_POWER) -> FloatArray:
    """1 / (1 + r^-c), the approximation of `phi` by a logistic function of log r.

    Args:
        ratio: r > 0, any shape.
        power: c (default 1.2).

    Returns:
        Probabilities in [0, 1], float64, of the same shape.

    Source:
        Yu and Tomasi, equation 15, c = 1.2.

    Example:
        >>> float(phi_logistic(1.0))
        0.5
    """
    return np.asarray(1 / (1 + np.asarray(ratio, dtype=np.float64) ** -power))


def open_paths(p: float, steps: int) -> float:
    """Sum over k = 1 .. steps of p^k: expected number of factors A that reach row i from column j != i."""
    return float(sum(p**k for k in range(1, steps + 1)))


def expected_dominant_fraction(
    n: float,
    epsilon: float,
    steps: int,
    p: float,
    sigma_a: float,
    formula: Formula = "derived",
    *,
    logistic: bool = False,
) -> float:
    """E[sigma] of K = I + epsilon A in the trivial case, to first order in epsilon: p^steps phi(r), steps = L - l.

    With all S_ii = 1 on the way (probability p^steps; else Theta_ii = 0 to first order),
    Theta_ii = V_ii (1 + epsilon sum_m A_ii^(m)) and R_i = epsilon sum_{j != i} V_jj sum_m A_ij^(m) [S_jj open from m],
    so r^2 = (1 + steps epsilon^2 sigma_a^2) / (epsilon^2 sigma_a^2 (n - 1) q) with q = sum_{k=1}^{steps} p^k.
    sigma_V drops out.

    Errors: first order in epsilon, so that it is too low where p is small (paths that leave channel i and come back);
    the sum over j is taken as normal (it is a scale mixture of normals for finite n).

    Args:
        n: Number of channels.
        epsilon: Factor of A in K.
        steps: L - l, the number of layers between the channel and the output.
        p: Probability that S_ii is 1, that a unit is open.
        sigma_a: Standard deviation of the entries of A.
        formula: "derived" (default), q as above; "printed", q = sum of p^(2k) as in equations 10 and 11, which square
            the probability that S_jj is open where the mean of the squared indicator, p^k, belongs; "concluded", q =
            steps as the conclusion prints it for any p, which is the case p = 1.
        logistic: Take equation 15 (`phi_logistic`) for phi.

    Returns:
        The expected share of dominant channels, in [0, 1].

    Source:
        Yu and Tomasi, appendix D.4.1.

    Example:
        >>> round(expected_dominant_fraction(n=2, epsilon=0.5, steps=1, p=1.0, sigma_a=1.0), 4)
        0.7323
    """
    q = {"derived": open_paths(p, steps), "printed": open_paths(p**2, steps), "concluded": float(steps)}[formula]
    if q == 0 or epsilon * sigma_a == 0 or n <= 1:
        return p**steps
    noise = (epsilon * sigma_a) ** 2
    r = ((1 + steps * noise) / (noise * (n - 1) * q)) ** 0.5
    return float(p**steps * (phi_logistic(r) if logistic else phi(r)))
