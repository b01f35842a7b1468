"""How many eigenvalues have a negative real part: counted where few, estimated where many."""

from __future__ import annotations

from dataclasses import dataclass

from resdyn.linalg.distribution import spectral_distribution
from resdyn.linalg.eig import EigenResult, eigenvalues
from resdyn.linalg.operator import LinearOperator

_FIRST, _MOST = 8, 64


@dataclass(frozen=True)
class NegativeCount:
    """``negative`` eigenvalues with Re < 0, ``undecided`` with |Re| within rounding; ``error`` one standard error.

    method: "all" (from all eigenvalues), "leftmost" (counted from the left end), "estimate" (stochastic).
    """

    negative: float
    undecided: float
    error: float
    method: str


def count_in(result: EigenResult) -> NegativeCount:
    """From a result that holds all eigenvalues; the strip of rounding is the backward error."""
    strip = float(result.residuals.max()) * result.norm if len(result.residuals) else 0.0
    real = result.values.real
    undecided = int(((real.abs() <= strip) & (real != 0)).sum())
    return NegativeCount(int((real < -strip).sum()), undecided, 0.0, "all")


def count_negative(operator: LinearOperator, seed: int = 0) -> NegativeCount:
    """Eigenvalues with negative real part of a square operator too large for all its eigenvalues.

    The leftmost eigenvalues are asked for, 8, then 64: where the list reaches a real part that is not negative with
    everything before it converged, the negative ones are counted (a Krylov space may in principle miss one of a
    cluster; on dense references it has not). Where more than 64 are negative, or they do not converge, the share is
    estimated with a standard error, to which the truncation of the Krylov spaces is added.
    """
    for k in (_FIRST, _MOST):
        left = eigenvalues(operator, "SR", min(k, operator.shape[0]), seed=seed)
        strip = float(left.residuals.max()) * left.norm
        nonnegative = (left.values.real >= 0).nonzero()[:, 0]
        if len(nonnegative) and bool(left.converged[: int(nonnegative[0]) + 1].all()):
            real = left.values.real
            undecided = int(((real.abs() <= strip) & (real != 0)).sum())
            return NegativeCount(int((real < -strip).sum()), undecided, 0.0, "leftmost")
        if not bool(left.converged.any()):
            break
    share = spectral_distribution(operator, (0.0,), seed=seed)
    n = operator.shape[0]
    error = float((share.standard_error[0] ** 2 + share.truncation[0] ** 2) ** 0.5)
    return NegativeCount(n * min(max(float(share.below[0]), 0.0), 1.0), 0.0, n * error, "estimate")
