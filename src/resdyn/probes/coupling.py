"""Whether blocks stretch along each other's directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.errors import InputError
from resdyn.linalg import LinearOperator
from resdyn.probes.protocol import described
from resdyn.probes.sample import Array, Layout, Sample, float_dtype, to_numpy
from resdyn.stream import Stream

TEXTS = {
    "coupling_uv": ("U_j^T J_i V_j, the Jacobian of block i in the singular bases of block j", "1"),
    "coupling_vu": ("V_j^T J_i U_j, the same with the bases exchanged", "1"),
    "overlap_uu": ("U_i^T U_j, left singular vectors of blocks i and j", "1"),
    "overlap_vv": ("V_i^T V_j, right singular vectors of blocks i and j", "1"),
    "overlap_uv": ("U_i^T V_j, left with right singular vectors", "1"),
}
DIMS = ("block", "block_j", "rank", "rank_j")


@dataclass(frozen=True)
class Coupling:
    """The Jacobian of each block i in the singular bases of each block j, from the exact operator.

    Bases are the first k singular vectors of the `singular` probe. Only pairs of blocks of equal shapes have values,
    the others are NaN; so do, in `coupling_vu` and `overlap_uv`, blocks that map between different shapes. The arrays,
    all (block, block_j, rank, rank_j) in the stream's dtype, at [i, j] a matrix with rows by `rank` and columns by
    `rank_j`:

    - `coupling_uv`: U_j^T J_i V_j, which is diag(s_i) for j = i;
    - `coupling_vu`: V_j^T J_i U_j;
    - `overlap_uu`: U_i^T U_j;
    - `overlap_vv`: V_i^T V_j;
    - `overlap_uv`: U_i^T V_j.

    Attributes:
        k: Number of singular vectors per block (default: all of the `singular` probe).

    Raises:
        InputError: k that is not a whole number of at least 1.

    Cost:
        2 k products with J_i for each pair i, j of equal shapes, on top of the triplets.

    Source:
        Li and Papyan (2023), "Residual Alignment", RA2: there J_i is replaced by its truncated SVD.
    """

    k: int | None = None
    name: ClassVar[str] = "coupling"
    requires: ClassVar[tuple[str, ...]] = ("singular",)
    needs_single_precision: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.replace_checked(self, k=checks.optional_whole("k", self.k, 1, of=self.name))

    def layout(self, stream: Stream, num_classes: int) -> Layout:
        """As in ``Probe.layout``: all arrays (block, block_j, rank, rank_j)."""
        assert self.k is not None, "capture sets k to that of the singular probe"
        shape = (len(stream), len(stream), self.k, self.k)
        return {name: (DIMS, shape, float_dtype(stream)) for name in TEXTS}

    def measure(self, sample: Sample, num_classes: int) -> dict[str, Array]:
        """As in ``Probe.measure``: couplings and overlaps of all pairs of blocks of equal shapes."""
        layout = self.layout(sample.stream, num_classes)
        arrays = {name: np.full(shape, np.nan, dtype) for name, (_, shape, dtype) in layout.items()}
        left = [t.U[:, : self.k] for t in sample.triplets]
        right = [t.V[:, : self.k] for t in sample.triplets]
        for i, block in enumerate(sample.stream.blocks):
            jacobian = sample.jacobian(i)
            for j in _equal_shapes(sample.stream, i):
                square = block.shape_in == block.shape_out
                pair = _couple(jacobian, left[j], right[j], square) | _overlap(i, j, left, right, square)
                for name, values in pair.items():
                    arrays[name][i, j] = to_numpy(values)
        return arrays

    def fitted(self, stream: Stream, required: Mapping[str, Any]) -> Coupling:
        """The same probe with k decided: that of the singular probe unless it was given.

        Args:
            stream: The stream to be measured.
            required: The `singular` probe, already fitted, by its name.

        Returns:
            The probe with k a number.

        Raises:
            InputError: k exceeds that of the singular probe.
        """
        available = required["singular"].k
        k = available if self.k is None else self.k
        if k > available:
            raise InputError(f"coupling: got k={k}, more than the {available} triplets of singular; raise singular's k")
        return dataclasses.replace(self, k=k)

    def attributes(self, kind: str) -> dict[str, dict[str, str]]:
        """As in ``Probe``: long names; all are of the Jacobian that the capture reads."""
        return described(TEXTS, kind=kind)


def _equal_shapes(stream: Stream, i: int) -> list[int]:
    shapes = [(block.shape_in, block.shape_out) for block in stream.blocks]
    return [j for j, shape in enumerate(shapes) if shape == shapes[i]]


def _couple(jacobian: LinearOperator, u: Tensor, v: Tensor, square: bool) -> dict[str, Tensor]:
    """Both couplings from one product: a batch of tangents costs less than two."""
    images = jacobian.matmat(torch.cat([v, u], 1) if square else v)
    couplings = {"coupling_uv": u.T @ images[:, : v.shape[1]]}
    if square:
        couplings["coupling_vu"] = v.T @ images[:, v.shape[1] :]
    return couplings


def _overlap(i: int, j: int, left: list[Tensor], right: list[Tensor], square: bool) -> dict[str, Tensor]:
    overlaps = {"overlap_uu": left[i].T @ left[j], "overlap_vv": right[i].T @ right[j]}
    if square:
        overlaps["overlap_uv"] = left[i].T @ right[j]
    return overlaps
