"""The Frobenius norm of an operator that is known only by its products."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn._numerics import full_precision
from resdyn.linalg._norms import column_norms, norm, power_of_two
from resdyn.linalg.operator import LinearOperator

EXACT_LIMIT = 512
DRAWS = 32
MEMORY_LIMIT = 1 << 28


@dataclass(frozen=True)
class NormEstimate:
    """A norm with its standard error.

    Attributes:
        value: the norm.
        error: one standard error of ``value``; 0 where it is exact.
        num_matvecs: products spent.
        exact: whether the value is exact up to rounding.
    """

    value: float
    error: float
    num_matvecs: int
    exact: bool


@full_precision()
def frobenius_norm(
    A: LinearOperator, *, draws: int = DRAWS, seed: int = 0, exact_limit: int = EXACT_LIMIT
) -> NormEstimate:
    """The Frobenius norm ``||A||_F``, never materialised: exact for small operators, otherwise Hutchinson's estimator.

    Exact, up to rounding, from A (or A^T) times unit vectors, if min(m, n) is at most ``exact_limit``. Otherwise
    ``E ||A z||^2 = ||A||_F^2`` for z of independent random signs, averaged over ``draws`` of them; the standard error
    is that of the mean, carried over to its square root. Products take as many columns at a time as fit into 256 MiB.

    Args:
        A: (m, n).
        draws: random vectors of the estimate, at least 2 (default 32).
        seed: of the random signs.
        exact_limit: largest min(m, n) that is computed exactly (default 512).

    Returns:
        The norm with its standard error.

    Raises:
        InputError: fewer than 2 draws, or a seed or limit that is not a non-negative integer.

    Cost:
        min(m, n) matvecs where exact, otherwise ``draws``.

    Source:
        Hutchinson (1990), "A stochastic estimator of the trace of the influence matrix", applied to A^T A.

    Example:
        >>> from resdyn.linalg import DenseOperator
        >>> frobenius_norm(DenseOperator(torch.tensor([[3.0, 0.0], [0.0, 4.0]])))
        NormEstimate(value=5.0, error=0.0, num_matvecs=2, exact=True)
    """
    draws = checks.whole("draws", draws, 2, expected="at least 2: one draw has no standard error")
    seed, exact_limit = checks.seed(seed), checks.whole("exact_limit", exact_limit)
    m, n = A.shape
    width = max(1, MEMORY_LIMIT // ((m + n) * A.dtype.itemsize))
    if min(m, n) <= exact_limit:
        size, product = (n, A.matmat) if n <= m else (m, A.rmatmat)
        units = (unit_columns(size, part, A) for part in _parts(size, width))
        return NormEstimate(math.hypot(*(norm(product(columns)) for columns in units)), 0.0, size, True)
    signs = random_signs(A, draws, seed)
    sizes = torch.cat([column_norms(A.matmat(signs[:, part[0] : part[-1] + 1])) for part in _parts(draws, width)])
    factor = power_of_two(float(sizes.max()))
    value, error = norm_of_squares((factor * sizes) ** 2)
    return NormEstimate(value / factor, error / factor, draws, False)


def norm_of_squares(squares: Tensor) -> tuple[float, float]:
    """(norm, standard error) from independent unbiased estimates (draws,) of the squared norm."""
    mean = float(squares.mean())
    if mean <= 0:
        return 0.0, 0.0
    return mean**0.5, float(squares.std()) / len(squares) ** 0.5 / (2 * mean**0.5)


def random_signs(A: LinearOperator, count: int, seed: int) -> Tensor:
    """(n, count) of independent -1 and 1, on the device of A; they depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, (count, A.shape[1]), generator=generator)
    return (2 * bits - 1).to(dtype=A.dtype, device=A.device).T


def unit_columns(size: int, part: range, like: LinearOperator) -> Tensor:
    """The unit vectors ``part`` of R^size as columns (size, len(part)), in the dtype and on the device of ``like``."""
    units = torch.zeros(len(part), size, dtype=like.dtype, device=like.device)
    units[torch.arange(len(part)), torch.arange(part.start, part.stop)] = 1
    return units.T


def _parts(size: int, width: int) -> list[range]:
    return [range(start, min(start + width, size)) for start in range(0, size, width)]
