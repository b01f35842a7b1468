"""How many eigenvalues have a negative real part: counted where few, by inertia on a GPU, estimated where neither."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from resdyn.linalg._compression import live_coordinates
from resdyn.linalg._eigen_result import EigenResult
from resdyn.linalg.distribution import spectral_distribution
from resdyn.linalg.eig import eigenvalues
from resdyn.linalg.operator import LinearOperator
from resdyn.linalg.sign import inertia

_LEFTMOST = (8, 64, 256, 512)
_BULK = 0.1  # estimated share from which counting one by one is given up
_MATRICES = 6  # copies of the compressed matrix that the sign function holds


@dataclass(frozen=True)
class NegativeCount:
    """``negative`` eigenvalues with Re < 0, ``undecided`` with |Re| within rounding; ``error`` one standard error.

    method: "all" (from all eigenvalues), "leftmost" (counted from the left end), "inertia", "estimate" (stochastic).
    """

    negative: float
    undecided: float
    error: float
    method: str


def count_in(result: EigenResult) -> NegativeCount:
    """From a result that holds all eigenvalues; the strip of rounding is the backward error."""
    strip = float(result.residuals.max()) * result.norm if len(result.residuals) else 0.0
    return _counted(result, strip, "all")


def count_negative(
    operator: LinearOperator, seed: int = 0, *, by_inertia: bool | None = None, memory_limit: int = 2**35
) -> NegativeCount:
    """Eigenvalues with negative real part of a square operator too large for all its eigenvalues.

    The 8 leftmost eigenvalues are asked for, then 64, 256, 512: where the list reaches a real part that is not
    negative with everything before it converged, the negative ones are counted (a Krylov space may in principle miss
    one of a cluster; on dense references it has not). Where that ends without one, or where after 64 an estimate says
    that a tenth or more of the spectrum is negative, ``by_inertia`` (default: off the CPU, where the sign function is
    quick) forms the compressed matrix, if ``memory_limit`` bytes hold six of it, and counts exactly up to the guard of
    `inertia`; else the share is estimated, with a standard error to which the truncation of the Krylov spaces is added.
    """
    estimate: tuple[float, float] | None = None
    for k in _LEFTMOST:
        left = eigenvalues(operator, "SR", min(k, operator.shape[0]), seed=seed, max_matvecs=3000 + 20 * k)
        real, strip = left.values.real, float(left.residuals.max()) * left.norm
        nonnegative = (real >= 0).nonzero()[:, 0]
        if len(nonnegative) and bool(left.converged[: int(nonnegative[0]) + 1].all()):
            return _counted(left, strip, "leftmost")
        if not bool(left.converged.any()):
            break
        if k == _LEFTMOST[1]:
            estimate = _estimate(operator, seed)
            if estimate[0] > _BULK:
                break
    live = live_coordinates(operator, torch.Generator().manual_seed(seed))
    fits = _MATRICES * len(live) ** 2 * operator.dtype.itemsize <= memory_limit
    if fits and (operator.device.type != "cpu" if by_inertia is None else by_inertia):
        found = inertia(operator.restricted(live, live).to_dense())
        return NegativeCount(found.negative, found.zero, 0.0 if found.converged else float("nan"), "inertia")
    share, error = estimate or _estimate(operator, seed)
    n = operator.shape[0]
    return NegativeCount(n * min(max(share, 0.0), 1.0), 0.0, n * error, "estimate")


def _counted(result: EigenResult, strip: float, method: str) -> NegativeCount:
    real = result.values.real
    undecided = int(((real.abs() <= strip) & (real != 0)).sum())
    return NegativeCount(int((real < -strip).sum()), undecided, 0.0, method)


def _estimate(operator: LinearOperator, seed: int) -> tuple[float, float]:
    share = spectral_distribution(operator, (0.0,), seed=seed)
    return float(share.below[0]), float((share.standard_error[0] ** 2 + share.truncation[0] ** 2) ** 0.5)
