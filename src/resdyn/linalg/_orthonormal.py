"""Orthonormal blocks by matrix products: Cholesky QR repeated, shifted where the block is nearly deficient.

Vectors are rows here: each is contiguous in memory, which suits products with tall bases.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.linalg import lapack
from torch import Tensor

from resdyn.errors import ComputationError

_MAX_PASSES = 12
NEVER = _MAX_PASSES


class Block(NamedTuple):
    """``X = coefficients @ basis + L @ Q`` with the rows of Q orthonormal and orthogonal to the basis."""

    Q: Tensor
    L: Tensor
    coefficients: Tensor


def orthonormal_block(
    X: Tensor,
    basis: Tensor,
    generator: torch.Generator,
    *,
    project_from: int = 0,
    first: int = 0,
    out: Tensor | None = None,
) -> Block:
    """Split the rows X (b, n) into their part in the span of ``basis`` (p, n) and L Q with Q (min(b, n - p), n).

    Directions that X lacks are filled by rounding noise or, where X is exactly deficient, by random vectors that L
    does not touch. The basis is projected out from pass ``project_from`` on: 1 where X is nearly orthogonal to it
    already, NEVER where the caller monitors it (random vectors are projected nevertheless). L and coefficients
    are float64 on the CPU. ``out`` (b, n) is memory that Q may be written to, to save a copy.
    """
    b, n = X.shape
    free = n - len(basis)
    gram: Tensor | None
    X, size, gram = _sized(X)
    if free < b:
        return _completed(X, size, basis, free, generator)
    monitored = project_from == NEVER and X.dtype == torch.float32
    L = size * torch.eye(b, dtype=torch.float64)
    coefficients = torch.zeros(b, len(basis), dtype=torch.float64)
    for index in range(first, _MAX_PASSES):
        if len(basis) and index >= project_from:
            inside = X @ basis.T
            X = torch.addmm(X, inside, basis, alpha=-1)
            coefficients += L @ to_small(inside)
            gram = None
        gram = _accurate_gram(X) if gram is None else gram
        factor, lower, void, sine = _factor(gram, torch.finfo(X.dtype).eps, late=index > 1)
        if sine > 0.1:
            X = torch.mm(_inverse(lower).to(X), X, out=None if X is out else out)
        else:  # the product with the inverse of a factor near singular would lose as many digits as that has lost
            X = torch.linalg.solve_triangular(lower.to(X), X, upper=False)
        L = L @ factor
        if void is not None and void.any():
            X[void.to(X.device)] = random_rows(int(void.sum()), n, generator, X)
            project_from = 0
        elif index > 0 and float((gram - torch.eye(b)).norm()) < 0.5:
            return Block(X, L, coefficients)
        elif monitored and sine > 0.1:
            return Block(X, L, coefficients)  # a float64 Gram matrix of a good float32 block: one pass is as good
        gram = None
    raise ComputationError(f"could not orthonormalise a block in {_MAX_PASSES} passes")


def random_rows(count: int, n: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Random rows of norm about one, drawn on the CPU so that a seed gives the same rows on every device."""
    rows: Tensor = torch.randn(count, n, generator=generator, dtype=torch.float64) / n**0.5
    return rows.to(like)


def to_small(X: Tensor) -> Tensor:
    """A small matrix in float64 on the CPU, where its factorisations cost little."""
    return X.cpu().double()


def _sized(X: Tensor) -> tuple[Tensor, float, Tensor]:
    """X / size, size, and the Gram matrix of the former: the size is 1 unless squares would overflow or lose digits."""
    gram = _accurate_gram(X)
    if 1e-12 < float(gram.diagonal().amax()) < 1e12:
        return X, 1.0, gram
    size = max(abs(float(extreme)) for extreme in X.aminmax())
    if not size < float("inf"):
        raise ComputationError("a product holds NaN or infinite values")
    size = size or 1.0
    X = X / size
    return X, size, _accurate_gram(X)


def _accurate_gram(X: Tensor) -> Tensor:
    """X X^T, summed in float64 where the device has it: rounding here would reach every singular value."""
    if X.device.type == "mps":
        return to_small(X @ X.T)
    accurate = X.double()
    return to_small(accurate @ accurate.T)


class _Factor(NamedTuple):
    """``X = factor (lower^-1 X)``; rows of lower^-1 X that hold nothing are marked ``void``, if there can be such.

    ``factor`` is ``lower`` without those. ``sine`` is the least one between a row of X and the rows before it, 0 where
    the factor had to be repaired.
    """

    factor: Tensor
    lower: Tensor
    void: Tensor | None
    sine: float


def _factor(gram: Tensor, eps: float, late: bool) -> _Factor:
    """The Cholesky factor of a Gram matrix, where its rows are independent enough for one."""
    vanishing = 1e-3 if late else 1e-18
    squares = gram.diagonal().numpy()
    lower, info = lapack.dpotrf(gram.numpy(), lower=1)  # torch's own call has more overhead than the factorisation
    if info == 0 and squares.min() > vanishing**2:
        sine = float((lower.diagonal() / squares**0.5).min())
        if sine >= 30 * eps**0.5:
            factor = torch.from_numpy(lower)
            return _Factor(factor, factor, None, sine)
    return _repaired(gram, vanishing, eps, late)


def _repaired(gram: Tensor, vanishing: float, eps: float, late: bool) -> _Factor:
    """A regular factor nevertheless: of unit rows, without those that vanish, and shifted if need be.

    Void are rows that vanish and, in ``late`` passes, those that still depend on the others. Such a row is rounding
    noise confined to directions already taken: after a ReLU, noise has no components in dead coordinates.
    """
    scale = gram.diagonal().clamp_min(0).sqrt()
    void = scale < vanishing
    scale = scale.masked_fill(void, 1.0)
    scaled = gram / torch.outer(scale, scale) + void.diag()
    lower, info = torch.linalg.cholesky_ex(scaled)
    if int(info) or float(lower.diagonal().min()) < 30 * eps**0.5:
        # A shift keeps the factor regular and exact; the next passes finish the work (Fukaya et al. 2020).
        shift = 30 * eps * len(gram)
        lower = torch.linalg.cholesky(scaled + shift * torch.eye(len(gram), dtype=gram.dtype))
        void = void | (late & (lower.diagonal() < 3 * shift**0.5))
    factor = scale[:, None] * lower
    return _Factor(factor.masked_fill(void, 0.0), factor, void, 0.0)


def _inverse(lower: Tensor) -> Tensor:
    return torch.from_numpy(lapack.dtrtri(lower.numpy(), lower=1)[0])


def _completed(X: Tensor, size: float, basis: Tensor, free: int, generator: torch.Generator) -> Block:
    """Where the space has fewer directions left than X has rows, any basis of them will do."""
    rest = X[:0]
    if free:
        rest = orthonormal_block(random_rows(free, X.shape[1], generator, X), basis, generator).Q
    return Block(rest, size * to_small(X @ rest.T), size * to_small(X @ basis.T))
