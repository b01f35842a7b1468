"""How many eigenvalues have a negative real part: counted where few, by inertia on a GPU, otherwise estimated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn._numerics import full_precision
from resdyn.linalg._compression import live_coordinates, near_one
from resdyn.linalg._deflated import Decomposition
from resdyn.linalg._discs import ROUNDING
from resdyn.linalg._eigen_result import EigenResult
from resdyn.linalg._growing import LONGEST, expected_length
from resdyn.linalg._norms import norm
from resdyn.linalg._range import low_rank
from resdyn.linalg._sides import full_rank, sides, sides_of_product
from resdyn.linalg._structure import components, diagonal_blocks
from resdyn.linalg.distribution import spectral_distribution
from resdyn.linalg.eig import eigenvalues
from resdyn.linalg.operator import LinearOperator
from resdyn.linalg.sign import inertia

_DENSE_LIMIT = 512  # live coordinates up to which all eigenvalues are computed
FIRST_LIST = 8
_LIST_SIZES = (LONGEST, 256, 512)  # after the first, and one that it suggests
_MARGIN = 1.7, 4  # of a size that a list suggests: a factor, and how many more
_BULK = 0.1  # estimated share at which one-by-one counting is abandoned
_COPIES = 6  # of the compressed matrix that the sign function holds
_STRIP = 1e-3  # half width, relative to the norm, of the strip in which an estimate decides nothing
_DOUBTFUL = 0.02  # share undecided, or error of a share, at which the operator is tested for low rank
_RANK = 2048  # largest rank for that, and size up to which all eigenvalues replace a list that decides nothing
_TOO_UNCERTAIN = 0.3  # error of a leftmost eigenvalue, relative to the norm, beyond which no count is meaningful


@dataclass(frozen=True)
class NegativeCount:
    """How many of n eigenvalues have a negative real part, and for how many that cannot be decided.

    Attributes:
        negative: eigenvalues with Re < 0 by more than their own uncertainty.
        undecided: those nearer to the axis than rounding errors of the operator's dtype may move them (their condition,
            or the width of their cluster, times the size of these errors): the count is between ``negative`` and
            ``negative + undecided``.
        error: one standard error of an estimate; 0 where counted.
        method: "all" (from all eigenvalues), "leftmost" (counted from the left end), "inertia", "estimate"
            (stochastic); the least exact one, where diagonal blocks were counted by several.
        zero: those among the undecided that are 0 to rounding because the operator has a null space.
        reason: why the count is meaningless, where more than half of the eigenvalues are undecided and not zero;
            otherwise empty.
    """

    negative: float
    undecided: float
    error: float
    method: str
    zero: float = 0.0
    reason: str = ""


def count_in(result: EigenResult) -> NegativeCount:
    """The count from a result that holds all eigenvalues, by the conditions of those near the axis."""
    if result.matrix is None:  # all coordinates are dead
        return NegativeCount(0, 0, 0.0, "all")
    return _with_reason(
        _of_matrix(result.matrix, result.decomposition), len(result.end("all").values), result.matrix.dtype
    )


@full_precision()
def count_negative(
    operator: LinearOperator,
    seed: int = 0,
    *,
    by_inertia: bool | None = None,
    memory_limit: int = 2**35,
    known: EigenResult | None = None,
) -> NegativeCount:
    """The number of eigenvalues with ``Re lambda < 0`` of a square operator too large for all its eigenvalues.

    Coordinates with a zero row or column are exact zeros; the rest is split into the diagonal blocks of its block
    triangular form, and up to 512 coordinates all eigenvalues are computed. For a larger block the 8 leftmost are
    computed, then as many as these suggest, 64, 256, 512: where the list reaches a real part beyond all uncertainties
    with everything before it converged, the negative ones are counted (a Krylov space may in principle miss one of a
    cluster; on dense references it has not). Where that does not succeed, or where an estimate made before 64 puts a
    tenth or more of the spectrum on the negative side, the compressed matrix is formed and counted by ``inertia``, up
    to what that leaves undecided; otherwise the share is estimated, with a standard error that covers the truncation of
    the Krylov spaces. An estimate decides nothing about a strip of a thousandth of the norm beside the axis (wider
    where the leftmost eigenvalues are uncertain). Where that leaves much open, and the rank is at most n / 2 and 2048,
    the operator is a product Q B: its eigenvalues are those of the small matrix B Q, which are counted, and zeros.

    Args:
        operator: A (n, n), in float32 or float64.
        seed: of all random vectors.
        by_inertia: whether the compressed matrix may be formed and counted; default off the CPU only, where the sign
            function is fast.
        memory_limit: bytes (default 32 GiB) that must hold six copies of that matrix, or ``by_inertia`` is not used.
        known: eigenvalues of the same operator, with conditions and the end "SR", that begin the list (default: none).

    Returns:
        The count, what is undecided, and the method.

    Raises:
        InputError: an operator that is not square, or a dtype other than float32 and float64.
        ComputationError: a product with NaN or infinite values.

    Cost:
        n products up to 512 live coordinates; for a larger block up to 3000 + 20 k for each list of k values with
        conditions (twice), and 640 for an estimate.

    Example:
        >>> from resdyn.linalg import DenseOperator
        >>> count_negative(DenseOperator(torch.diag(torch.tensor([-2.0, 1.0, 3.0])))).negative
        1
    """
    seed, memory_limit = checks.seed(seed), checks.whole("memory_limit", memory_limit)
    by_inertia = None if by_inertia is None else checks.flag("by_inertia", by_inertia)
    scaled, factor = near_one(operator)
    generator = torch.Generator().manual_seed(seed)
    live = live_coordinates(scaled, generator)
    if not len(live):
        return NegativeCount(0, 0, 0.0, "all")
    inner = scaled if len(live) == operator.shape[0] else scaled.restricted(live, live)
    if len(live) <= _DENSE_LIMIT:
        return _with_reason(_of_matrix(inner.to_dense()), operator.shape[0], operator.dtype)
    blocks = components(inner, generator)
    if len(blocks) == 1:
        found = None if known is None or known.conditions is None or factor != 1 else known.live
        left = found.end("SR") if found is not None and found.num_blocks == 1 else None
        parts = [_of_large(inner, seed, by_inertia, memory_limit, left)]
    else:
        small = [block for block in blocks if len(block) <= _DENSE_LIMIT]
        parts = [_of_matrix(matrix) for matrix in diagonal_blocks(inner, small)]
        large = (inner.restricted(block, block) for block in blocks if len(block) > _DENSE_LIMIT)
        parts += [_of_large(block, seed, by_inertia, memory_limit) for block in large]
    return _with_reason(_sum(parts), operator.shape[0], operator.dtype)


def _of_matrix(matrix: Tensor, known: Decomposition | None = None) -> NegativeCount:
    counts = sides(matrix, known)
    return NegativeCount(counts.negative, counts.undecided, 0.0, "all", counts.zero)


def _of_large(
    operator: LinearOperator, seed: int, by_inertia: bool | None, memory_limit: int, left: EigenResult | None = None
) -> NegativeCount:
    """One block without structure and without dead coordinates; ``left`` is a first list of leftmost eigenvalues."""
    n, estimate, width = operator.shape[0], None, _STRIP
    k = FIRST_LIST if left is None else len(left.values)
    while True:
        if left is None:
            allowed = 3000 + 20 * k
            left = eigenvalues(operator, "SR", min(k, n), seed=seed, max_matvecs=allowed, conditions=True, reach=0.0)
            k = max(k, len(left.values))
        count, widest = _from_the_left(left)
        if count is not None:
            return count
        width, suggested = max(width, widest), _suggested(left) if k <= FIRST_LIST + 1 else None
        if suggested is None:
            estimate = estimate or _estimate(operator, min(width, _TOO_UNCERTAIN) * left.norm, seed)
            if widest > _TOO_UNCERTAIN or estimate.negative > _BULK * n or k >= _LIST_SIZES[-1]:
                break
        k, left = suggested or next(size for size in _LIST_SIZES if size > k), None
    if width > _TOO_UNCERTAIN or max(estimate.undecided, estimate.error) > _DOUBTFUL * n:
        count = _of_low_rank(operator, seed, memory_limit)
        if count is not None:
            return count
    fits = _COPIES * n**2 * operator.dtype.itemsize <= memory_limit
    if fits and (operator.device.type != "cpu" if by_inertia is None else by_inertia):
        exact = inertia(operator.to_dense())
        return NegativeCount(exact.negative, exact.zero, 0.0 if exact.converged else float("nan"), "inertia")
    if width < _TOO_UNCERTAIN:
        return estimate
    return _of_matrix(operator.to_dense()) if n <= _RANK else NegativeCount(0, n, 0.0, "leftmost")


def _suggested(left: EigenResult) -> int | None:
    """A length at which a list of leftmost eigenvalues may reach the axis."""
    expected = expected_length(left.values.cpu().numpy(), 0.0) if bool(left.converged.all()) else None
    factor, more = _MARGIN
    if expected is None or expected > LONGEST:
        return None
    return max(2 * len(left.values), int(factor * expected) + more)


def _from_the_left(left: EigenResult) -> tuple[NegativeCount | None, float]:
    """The count, if the list reaches beyond the axis, and the largest uncertainty of a value relative to the norm."""
    assert left.errors is not None, "conditions were asked for"
    real, reach = left.values.real.double(), left.errors
    if not bool(left.converged.any()):
        return None, float("inf")
    widest = float(reach[left.converged].max())
    beyond = (real > widest).nonzero()[:, 0]
    if len(beyond) and bool(left.converged[: int(beyond[0]) + 1].all()):
        undecided = int((real.abs() <= reach).sum())
        return NegativeCount(int((real < -reach).sum()), undecided, 0.0, "leftmost"), widest / (left.norm or 1.0)
    return None, widest / (left.norm or 1.0)


def _of_low_rank(operator: LinearOperator, seed: int, memory_limit: int) -> NegativeCount | None:
    """The count of an operator of rank at most n / 2, from the small matrix that has its nonzero eigenvalues."""
    n = operator.shape[0]
    largest = min(n // 2, _RANK, memory_limit // (4 * n * operator.dtype.itemsize))
    product = low_rank(operator, largest, torch.Generator().manual_seed(seed))
    if product is None:
        return None
    core, factor = (part.cpu().numpy() for part in product)
    delta = ROUNDING * torch.finfo(operator.dtype).eps * norm(product[1])
    counts = sides_of_product(*full_rank(core, factor, delta), delta, n)
    return NegativeCount(counts.negative, counts.undecided, 0.0, "all", counts.zero)


def _estimate(operator: LinearOperator, strip: float, seed: int) -> NegativeCount:
    n, shares = operator.shape[0], spectral_distribution(operator, (-strip, strip), seed=seed)
    low, high = (float(n * min(max(share, 0.0), 1.0)) for share in shares.below)
    errors = (shares.standard_error**2 + shares.truncation**2) ** 0.5
    return NegativeCount(low, max(high - low, 0.0), n * float(errors.max()), "estimate")


def _sum(parts: list[NegativeCount]) -> NegativeCount:
    methods = ("all", "leftmost", "inertia", "estimate")
    return NegativeCount(
        negative=sum(part.negative for part in parts),
        undecided=sum(part.undecided for part in parts),
        error=sum(part.error**2 for part in parts) ** 0.5,
        method=max((part.method for part in parts), key=methods.index),
        zero=sum(part.zero for part in parts),
    )


def _with_reason(count: NegativeCount, n: int, dtype: torch.dtype) -> NegativeCount:
    doubtful = count.undecided - count.zero
    if count.method == "estimate" or 2 * doubtful <= n:
        return count
    rounding = f"rounding errors of {str(dtype).removeprefix('torch.')}"
    reason = f"{rounding} may move {doubtful:.0f} of {n} eigenvalues over the axis"
    return NegativeCount(count.negative, count.undecided, count.error, count.method, count.zero, reason)
