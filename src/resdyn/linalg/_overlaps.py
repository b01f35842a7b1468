"""Reorthogonalisation of new blocks, only where a sketch of their overlaps with a basis calls for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from resdyn.linalg._orthonormal import NEVER, Block, orthonormal_block, to_small


class Overlaps:
    """Orthonormalises new blocks, against all of a basis only where they have lost orthogonality to it.

    A sketch detects this: the inner product of q with a sum of the basis vectors with random signs has as its mean
    square the squared norm of the overlaps of q with the basis. A block that lost orthogonality (``lost``) takes the
    next block of the other basis with it: cleaned alone, it would inherit the loss again from its neighbours in the
    recurrence (Simon 1984).
    """

    def __init__(self, basis: Tensor, generator: torch.Generator, sketches: int = 8) -> None:
        capacity, size = basis.shape
        self._generator = generator
        self._signs = (torch.randint(2, (sketches, capacity), generator=generator) * 2 - 1).to(basis)
        self._sums = basis.new_zeros(sketches, size)
        self._members = 0
        self._eps = torch.finfo(basis.dtype).eps
        self.lost = False

    def add(self, rows: Tensor) -> None:
        """Count these rows as members of the basis."""
        first, self._members = self._members, self._members + len(rows)
        self._sums.addmm_(self._signs[:, first : self._members], rows)

    def reset(self, rows: Tensor) -> None:
        """Let the basis be these rows."""
        self._sums.zero_()
        self._members = 0
        self.add(rows)

    def of(self, rows: Tensor) -> float:
        """The norm of the overlaps of some rows with the basis, estimated."""
        return float((rows @ self._sums.T).norm()) / math.sqrt(len(self._sums))

    def orthonormal(self, X: Tensor, basis: Tensor, neighbour_lost: bool, out: Tensor) -> Block:
        """X split as by ``orthonormal_block``; the recurrence makes it orthogonal to the basis up to rounding."""
        block = orthonormal_block(X, basis, self._generator, project_from=NEVER, out=out)
        overlap = self.of(block.Q)
        self.lost = overlap > 30 * self._eps
        if not self.lost and not neighbour_lost:
            return block
        if overlap > 0.1 * self._eps**0.5:
            again = orthonormal_block(block.Q, basis, self._generator, first=1)
        else:  # the projection leaves the rows orthonormal, up to the square of the overlap
            inside = block.Q @ basis.T
            rest = torch.addmm(block.Q, inside, basis, alpha=-1)
            again = Block(rest, torch.eye(len(rest), dtype=torch.float64), to_small(inside))
        return Block(again.Q, block.L @ again.L, block.coefficients + block.L @ again.coefficients)
