"""What `eigenvalues` returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from resdyn._display import Displayed, Table, mark, table
from resdyn.errors import InputError


@dataclass(frozen=True, repr=False)
class EigenResult(Displayed):
    """Eigenvalues of a real n x n operator, ``A x = lambda x``, with a backward error for each.

    Attributes:
        values: (m,) complex. All of them by descending real part; or the ends one after the other, each
            from its extreme inwards, conjugate pairs whole (so an end may hold k + 1).
        ends: which end each value belongs to, "all" where all were asked for.
        residuals: (m,) ||A x - lambda x|| / (norm ||x||): each lambda is an exact eigenvalue of a matrix A + E with
            ||E|| = residual x norm. Measured, but for "all", where it is the ``backward_error`` of the QR algorithm;
            never less than 2 eps of the operator's dtype, which its products carry.
        converged: (m,) residuals <= tol and, for ends by ``krylov_schur``, a search from a fresh random vector has met
            no value that belongs before these, copies of repeated ones included. No bound of the probability that it
            misses one is known for nonnormal matrices; on matrices of known spectrum it missed none.
        norm: the estimate of ||A||_2 (a lower bound; for dense matrices the Frobenius norm).
        num_live: coordinates left by compression; n - num_live eigenvalues are exactly 0.
        num_blocks: diagonal blocks of the block triangular form of the live coordinates, 1 where there is none.
        num_matvecs: products that were spent.
        conditions: (m,) 1 / |y^H x| for unit right and left eigenvectors of the value's diagonal block (to first order
            in E, lambda moves by at most condition x residual x norm); None unless asked for. `errors` is that product.
        meeting: (m,) how many discs of this value's first-order radius its cluster is wide; 1 where unknown.
        matrix: the matrix on the live coordinates, up to a factor, where "all" were asked for.
        method: "dense" or "krylov_schur".
    """

    values: Tensor
    ends: tuple[str, ...]
    residuals: Tensor
    converged: Tensor
    norm: float
    num_live: int
    num_matvecs: int
    method: str
    conditions: Tensor | None = None
    num_blocks: int = 1
    matrix: Tensor | None = field(default=None, repr=False, compare=False)
    meeting: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def errors(self) -> Tensor | None:
        """(m,) forward errors, condition x residual x norm x meeting; 0 for exact zeros; None without conditions.

        What a perturbation of the size of the residual does to the value, to first order. Near defective eigenvalues
        (Jordan blocks) first order is too little: with all eigenvalues at hand it is multiplied by the number of
        discs that meet; from a Krylov space it tells the order only.
        """
        if self.conditions is None:
            return None
        found = self.conditions.double() * self.residuals.double() * self.norm
        found = found if self.meeting is None else found * self.meeting.to(found)
        return torch.where(self.residuals == 0, 0.0, found)

    def _table(self) -> Table:
        errors = self.errors
        columns = ["end", "eigenvalue", "backward error", "converged"]
        cells = [
            self.ends,
            [f"{value:.6g}" for value in self.values.tolist()],
            [f"{residual:.1e}" for residual in self.residuals.tolist()],
            [mark(converged) for converged in self.converged.tolist()],
        ]
        if errors is not None:
            columns.insert(3, "forward error")
            cells.insert(3, [f"{error:.1e}" for error in errors.tolist()])
        note = f"{self.method}, {self.num_matvecs} products, norm {self.norm:.4g}"
        return table(f"{len(self.values)} eigenvalues", columns, zip(*cells, strict=True), note)

    def end(self, which: str) -> EigenResult:
        """The values of one end alone. Raises InputError if it was not asked for."""
        rows = [row for row, end in enumerate(self.ends) if end == which]
        if not rows:
            raise InputError(f"got end {which!r}; this result holds {', '.join(dict.fromkeys(self.ends))}")
        picked = None if self.conditions is None else self.conditions[rows]
        return replace(
            self,
            values=self.values[rows],
            ends=(which,) * len(rows),
            residuals=self.residuals[rows],
            converged=self.converged[rows],
            conditions=picked,
            meeting=None if self.meeting is None else self.meeting[rows],
        )
