"""What `eigenvalues` returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from resdyn._display import Displayed, Table, mark, table
from resdyn.errors import InputError


@dataclass(frozen=True, repr=False)
class EigenResult(Displayed):
    """Eigenvalues of a real n x n operator, ``A x = lambda x``, with a backward error for each.

    Attributes:
        values: (m,) complex. All of them by descending real part; or the ends one after the other, each from its
            extreme inwards, conjugate pairs kept together (so an end may hold k + 1).
        ends: the end that each value belongs to, "all" where all were asked for.
        residuals: (m,) ``||A x - lambda x|| / (norm ||x||)``: each lambda is an exact eigenvalue of a matrix A + E with
            ||E|| = residual x norm. Measured, except for "all", where it is the backward error of the QR algorithm,
            sqrt(n) eps, and what splitting off copies of a value has left out (measured); never less than 2 eps of the
            operator's dtype, the rounding error of its products.
        converged: (m,) residuals <= tol and, for ends by ``krylov_schur``, a search from a fresh random vector met
            no value that belongs before these, copies of repeated ones included. No bound on the probability that it
            misses one is known for nonnormal matrices; on matrices of known spectrum it missed none.
        norm: the estimate of ||A||_2 (a lower bound; for dense matrices the Frobenius norm).
        num_live: coordinates left by compression; n - num_live eigenvalues are exactly 0.
        num_matvecs: products spent.
        method: "dense" or "krylov_schur".
        conditions: (m,) ``1 / |y^H x|`` for unit right and left eigenvectors of the value's diagonal block (to first
            order in E, lambda moves by at most condition x residual x norm); None unless asked for. ``errors`` is that
            product.
        num_blocks: diagonal blocks of the block triangular form of the live coordinates, 1 where there is none.
        matrix: the matrix on the live coordinates, up to a factor, where "all" were asked for.
        decomposition: of ``matrix``, where "all" were asked for with ends.
        live: the same without the zeros that compression took out, where only ends were asked for.
        meeting: (m,) width of the value's cluster in discs of its own first-order radius; 1 where unknown.
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
    decomposition: Any = field(default=None, repr=False, compare=False)
    live: Any = field(default=None, repr=False, compare=False)
    meeting: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def errors(self) -> Tensor | None:
        """Forward errors (m,), condition x residual x norm x meeting; 0 for exact zeros, None without conditions.

        What a perturbation of the size of the residual does to the value, to first order. Near defective eigenvalues
        (Jordan blocks) first order underestimates: with all eigenvalues available it is multiplied by the number of
        discs that meet; from a Krylov space only the order of magnitude is known.
        """
        if self.conditions is None:
            return None
        errors = self.conditions.double() * self.residuals.double() * self.norm
        errors = errors if self.meeting is None else errors * self.meeting.to(errors)
        return torch.where(self.residuals == 0, 0.0, errors)

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
        """The values of one end alone.

        Args:
            which: "LR", "SR", "LM" or "all", as asked for.

        Returns:
            The same result restricted to that end, from its extreme inwards.

        Raises:
            InputError: an end that was not asked for.
        """
        rows = [row for row, end in enumerate(self.ends) if end == which]
        if not rows:
            raise InputError(f"got end {which!r}; this result holds {', '.join(dict.fromkeys(self.ends))}")
        conditions = None if self.conditions is None else self.conditions[rows]
        return replace(
            self,
            values=self.values[rows],
            ends=(which,) * len(rows),
            residuals=self.residuals[rows],
            converged=self.converged[rows],
            conditions=conditions,
            meeting=None if self.meeting is None else self.meeting[rows],
        )
