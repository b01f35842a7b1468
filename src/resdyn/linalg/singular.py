"""Truncated singular value decomposition of operators that are known only by their products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn._display import Displayed, Table, mark, table
from resdyn._numerics import full_precision
from resdyn.errors import ComputationError, InputError
from resdyn.linalg._completeness import Confidence
from resdyn.linalg._lanczos import block_lanczos
from resdyn.linalg._randomized import randomized
from resdyn.linalg._triplets import Triplets, residual_norms
from resdyn.linalg.operator import LinearOperator, check_operator

Method = Literal["auto", "lanczos", "randomized", "dense"]
_MIN_BASIS = 80  # least number of basis vectors that ``lanczos`` keeps


@dataclass(frozen=True, repr=False)
class SVDResult(Displayed):
    """The k largest singular triplets: ``A V = U diag(S)`` and ``A^T U = V diag(S)`` up to the residuals.

    Attributes:
        U: left singular vectors (m, k), orthonormal columns.
        S: singular values (k,), descending.
        V: right singular vectors (n, k), orthonormal columns. In each the entry of largest magnitude (the first, if
            several) is positive, which fixes the signs of both sides.
        residuals: (k,) ``max(||A v - s u||, ||A^T u - s v||) / S[0]``; not divided where S[0] is 0.
        bounds: (k,) how far above S[j] the j-th largest singular value of A may be, divided by S[0] like the
            residuals; it is below S[j] by no more than rounding, 64 eps plus one eps per restart. Infinite where
            nothing has been established.
        converged: (k,) bool. S[j] and all before it are the largest singular values of A with their
            multiplicities: the residuals up to j are at most ``tol``, and
            ``bounds[j] S[0] <= delta S[j] + tol S[0]``.
        delta: relative resolution of the search for missed values.
        failure_probability: of the bounds, over the random vectors of the search; 0 for ``dense``.
        num_matvecs: products with A plus products with A^T that this result cost.
        search_matvecs: how many of them the search for missed values took.
        method: the method used, never "auto".
    """

    U: Tensor
    S: Tensor
    V: Tensor
    residuals: Tensor
    bounds: Tensor
    converged: Tensor
    delta: float
    failure_probability: float
    num_matvecs: int
    search_matvecs: int
    method: str

    def _table(self) -> Table:
        columns = (self.S, self.residuals, self.bounds, self.converged)
        rows = zip(range(1, len(self.S) + 1), *(column.tolist() for column in columns))
        failure = self.failure_probability
        certainty = f"bounds fail with probability {failure:.0e}" if failure else "bounds are deterministic"
        return table(
            f"{len(self.S)} singular triplets of a {len(self.U)} x {len(self.V)} operator",
            ("k", "s", "residual / s_1", "bound / s_1", "converged"),
            [(k, f"{s:.6g}", f"{residual:.1e}", f"{bound:.1e}", mark(sure)) for k, s, residual, bound, sure in rows],
            f"{self.method}, {self.num_matvecs} products; {certainty}",
        )


@full_precision()
def svd(
    operator: LinearOperator,
    k: int,
    method: Method = "auto",
    *,
    tol: float | None = None,
    seed: int = 0,
    max_matvecs: int | None = None,
    block_size: int | None = None,
    basis_size: int | None = None,
    delta: float = 0.05,
    failure_probability: float = 1e-6,
    memory_limit: int = 2**30,
    power_iterations: int = 20,
    oversampling: int = 10,
) -> SVDResult:
    """The k largest singular triplets, ``A v_j = s_j u_j`` and ``A^T u_j = s_j v_j``, ``s_1 >= ... >= s_k``.

    A Ritz value is at most its singular value; for a separated value it is too small by about residual^2 / gap (both
    relative to s_1), and its vector is off by about residual / gap. The default ``tol`` therefore gives values that are
    nearly exact in their dtype. Beyond the rank of A the values are zero up to rounding and their vectors arbitrary but
    orthonormal. Triplets that have not converged are returned as they are and flagged. Vectors of clustered values are
    determined only as a subspace.

    Methods, for A of shape (m, n):

    ``auto``
        ``dense`` where it is faster, ``min(m, n) <= max(8 k, 80, min(20 k, 512))``, and neither ``block_size``,
        ``basis_size`` nor ``max_matvecs`` is given; otherwise ``lanczos``.
    ``lanczos``
        Block Golub-Kahan-Lanczos bidiagonalisation with thick restarts, started from a random block. Stops once all k
        residuals are at most ``tol``, or before ``max_matvecs`` would be exceeded. V is reorthogonalised in full; U
        only when a sketch of its overlaps calls for it, which by Simon and Zha loses no accuracy. Residuals come free
        from the products made.

        A block of b random vectors sees at most b copies of a repeated value. Therefore (1) where b values agree to
        within 1e-4 s_1 or 10 ``tol``, the block grows by as many random vectors; (2) at the end fresh random vectors
        search the complement of the computed subspace. If they meet a value larger than the k-th, the block grows by
        what they met and by random vectors, and the search starts over; if they show that there is none above
        ``(1 + delta) s_k``, the result is complete with probability 1 - ``failure_probability``. ``bounds`` follow from
        that and from the residuals: near rounding where s_k is separated from the next value, up to ``delta s_k`` where
        it is not.
    ``randomized``
        Algorithm 971 with l = k + ``oversampling`` random vectors and T = ``power_iterations`` rounds of A^T and A. It
        does not use ``tol`` to stop: on the flat spectra of residual Jacobians its residuals stay near 1e-2, and
        without power iterations its values are wrong by a quarter.
    ``dense``
        LAPACK on the explicit matrix; its bounds are those of rounding.

    Args:
        operator: A (m, n), in float32 or float64, on any device; vectors stay there, only small matrices visit the CPU.
        k: number of triplets, 1 to min(m, n).
        method: "auto" (default), "lanczos", "randomized" or "dense", see above.
        tol: residual relative to s_1 at which a triplet counts as converged; default sqrt(eps), 3.5e-4 in float32 and
            1.5e-8 in float64. 0 lets ``lanczos`` spend its whole budget.
        seed: of the random vectors; the same seed gives the same result on the same machine.
        max_matvecs: budget of ``lanczos``; default max(2000, 100 k).
        block_size: of ``lanczos``; default 8, or k (but at least 2) where k is smaller. One call of a Jacobian costs as
            much as several columns, so a block of 8 takes half the time of single vectors, while a larger one would
            need more matvecs in all.
        basis_size: vectors that ``lanczos`` keeps on each side; default max(8 k, 80), fewer where ``memory_limit``
            bytes would not hold both bases, but never fewer than k plus two blocks.
        delta: relative resolution, positive, at which values larger than the k-th are excluded (default 0.05); half of
            it takes about 1.4 times as many steps of the search.
        failure_probability: largest acceptable probability, in (0, 1), that a missed value stays unseen (default 1e-6).
        memory_limit: bytes (default 1 GiB) that both bases of ``lanczos`` may take, or one chunk of products of
            ``dense``.
        power_iterations: T of ``randomized`` (default 20).
        oversampling: of ``randomized`` (default 10).

    Returns:
        Values in descending order. In each column of V the entry of largest magnitude is positive.

    Raises:
        InputError: k > min(m, n), a dtype other than float32 and float64, an unknown method, a limit too small, or a
            delta or failure probability out of range.
        ComputationError: a product with NaN or infinite values.

    Cost:
        ``lanczos``: two matvecs per basis vector, plus the search: about 0.14 of the products made before, more for a
        small ``delta``. ``randomized``: l (1 + 2 T) matvecs for the range (1640 at k = 30 and the defaults), l for the
        projection, k for the residuals and, where a residual is at most ``tol``, those of the search. ``dense``:
        min(m, n) matvecs.

    Source:
        Golub, Luk and Overton (1981), block Lanczos bidiagonalisation; Baglama and Reichel (2005), thick restarts;
        Simon and Zha (2000), one-sided reorthogonalisation; Yamamoto et al. (2015) and Fukaya et al. (2020), Cholesky
        QR twice and shifted; Li, Linderman, Szlam, Stanton, Kluger and Tygert (2017), Algorithm 971, with Cholesky QR
        in place of LU between the iterations; for the search see ``resdyn.linalg._completeness``.

    Example:
        >>> from resdyn.linalg import DenseOperator
        >>> svd(DenseOperator(torch.diag(torch.tensor([1.0, 3.0, 2.0]))), k=2).S
        tensor([3., 2.])
    """
    _check(operator, k, method)
    if method == "auto":
        cheap = min(operator.shape) <= _dense_up_to(k) and block_size is basis_size is max_matvecs is None
        method = "dense" if cheap else "lanczos"
    tol = torch.finfo(operator.dtype).eps ** 0.5 if tol is None else checks.tolerance(tol)
    power_iterations = checks.whole("power_iterations", power_iterations)
    oversampling = checks.whole("oversampling", oversampling)
    memory_limit = checks.whole("memory_limit", memory_limit)
    confidence = _confidence(delta, failure_probability)
    generator = torch.Generator().manual_seed(checks.seed(seed))
    tall = operator if operator.shape[0] >= operator.shape[1] else operator.adjoint
    before = operator.num_matvecs
    try:
        if method == "dense":
            triplets = _dense(tall, k, memory_limit)
        elif method == "randomized":
            triplets = randomized(
                tall,
                k,
                power_iterations=power_iterations,
                oversampling=oversampling,
                tol=tol,
                confidence=confidence,
                generator=generator,
            )
        else:
            block, basis = _sizes(operator, k, block_size, basis_size, memory_limit)
            limit = max(2000, 100 * k) if max_matvecs is None else checks.whole("max_matvecs", max_matvecs)
            _check_limit(limit, k, block)
            triplets = block_lanczos(
                tall,
                k,
                block_size=block,
                basis_size=basis,
                tol=tol,
                max_matvecs=limit,
                confidence=confidence,
                generator=generator,
            )
    except ComputationError as error:
        raise ComputationError(f"svd of {operator!r} failed: {error}") from error
    return _result(operator, triplets, tol, operator.num_matvecs - before, method, confidence)


def _check(operator: LinearOperator, k: int, method: str) -> None:
    check_operator(operator)
    largest = min(operator.shape)
    checks.whole("k", k)
    if not 1 <= k <= largest:
        raise InputError(f"got k={k} for {operator!r}; expected 1 <= k <= {largest}; ask for fewer triplets")
    if operator.dtype not in (torch.float32, torch.float64):
        raise InputError(f"got {operator!r}; expected float32 or float64; convert the model with .float()")
    if method not in get_args(Method):
        raise InputError(f"got method={method!r}; expected one of {', '.join(get_args(Method))}")


def _confidence(delta: float, failure_probability: float) -> Confidence:
    return Confidence(
        checks.number("delta", delta, "a positive number such as 0.05", 0),
        checks.number("failure_probability", failure_probability, "a number between 0 and 1 such as 1e-6", 0, 1),
    )


def _check_limit(limit: int, k: int, block: int) -> None:
    required = 2 * block * -(-k // block)
    if limit < required:
        raise InputError(f"got max_matvecs={limit}; expected at least {required} for k={k} in blocks of {block}")


def _basis(k: int) -> int:
    """Vectors that ``lanczos`` keeps on each side."""
    return max(8 * k, _MIN_BASIS)


def _dense_up_to(k: int) -> int:
    """The size up to which ``auto`` is dense: all of the space in one basis, or as many products as Lanczos makes.

    On branches of two layers Lanczos made 304 products at k = 20 and n = 384 and took 2.5 times as long as 384 products
    and LAPACK, 1.6 times at n = 512; at n = 768 dense gains no more than products in large batches save.
    """
    return max(_basis(k), min(20 * k, 512))


def _sizes(
    operator: LinearOperator, k: int, block_size: int | None, basis_size: int | None, memory_limit: int
) -> tuple[int, int]:
    """Block size and basis size of the Lanczos method."""
    shorter = min(operator.shape)
    block_size = checks.optional_whole("block_size", block_size, 1)
    basis_size = checks.optional_whole("basis_size", basis_size, 1)
    block = min(max(2, min(8, k)) if block_size is None else block_size, shorter)
    fitting = memory_limit // (sum(operator.shape) * operator.dtype.itemsize) - block  # V holds one block more
    basis = min(_basis(k), fitting) if basis_size is None else basis_size
    if basis_size is not None and basis < min(k + 2 * block, shorter):
        raise InputError(f"got basis_size={basis}; expected at least k + 2 blocks of {block} = {k + 2 * block}")
    return block, min(shorter, max(basis, k + 2 * block))


def _dense(operator: LinearOperator, k: int, memory_limit: int) -> Triplets:
    matrix = operator.to_dense(memory_limit)
    if not bool(torch.isfinite(matrix).all()):
        raise ComputationError("a product holds NaN or infinite values")
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    U, S, V = U[:, :k], S[:k], Vh[:k].T
    forward = residual_norms(matrix @ V - U * S, S)
    backward = residual_norms(matrix.T @ U - V * S, S)
    return Triplets(U, S, V, torch.maximum(forward, backward), torch.zeros_like(S), 0)


def _result(
    operator: LinearOperator, triplets: Triplets, tol: float, spent: int, method: str, confidence: Confidence
) -> SVDResult:
    U, S, V, residuals, bounds, search, restarts = triplets
    if operator.shape[0] < operator.shape[1]:
        U, V = V, U
    signs = V.gather(0, V.abs().argmax(dim=0, keepdim=True)).sign()
    relative = S / (S[0] if S[0] > 0 else 1.0)
    within = bounds <= confidence.delta * relative + tol
    converged = ((residuals.to(within.device) <= tol) & within).cumprod(0).bool()
    rounding = (64 + restarts) * torch.finfo(U.dtype).eps
    return SVDResult(
        U * signs,
        S.to(U),
        V * signs,
        residuals.to(U),
        (bounds + rounding).to(U),
        converged.to(U.device),
        confidence.delta,
        0.0 if method == "dense" else confidence.failure_probability,
        spent,
        search,
        method,
    )
