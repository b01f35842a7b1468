"""Whether blocks stretch along each other's directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.errors import InputError
from resdyn.probes.sample import Layout, Sample, float_dtype, to_numpy

NAMES = ("coupling_uv", "coupling_vu", "overlap_uu", "overlap_vv", "overlap_uv")
DIMS = ("block", "block_j", "rank", "rank_j")


@dataclass(frozen=True)
class Coupling:
    """The Jacobian of each block i in the singular bases of each block j, from the exact operator.

    `coupling_uv[i, j]` = U_j^T J_i V_j, which is diag(s_i) for j = i; `coupling_vu[i, j]` = V_j^T J_i U_j;
    `overlap_uu[i, j]` = U_i^T U_j; `overlap_vv[i, j]` = V_i^T V_j; `overlap_uv[i, j]` = U_i^T V_j; rows by
    `rank`, columns by `rank_j`. Bases are the first k singular vectors of the `singular` probe (k None: all).
    Only pairs of blocks of equal shapes have values, the others are NaN; so do, in `coupling_vu` and
    `overlap_uv`, blocks that map between different shapes (policy nonsquare="skip").

    Cost: 2 k products with J_i for each pair i, j of equal shapes, on top of the triplets.
    Source: Li and Papyan (2023), "Residual Alignment", RA2: there J_i is replaced by its truncated SVD.
    """

    k: int | None = None
    nonsquare: str = "skip"
    name: ClassVar[str] = "coupling"
    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.replace_checked(self, k=checks.optional_whole("k", self.k, 1, of=self.name))
        if self.nonsquare != "skip":
            raise InputError(f"coupling: got nonsquare={self.nonsquare!r}, expected 'skip', the only policy")

    def layout(self, stream: Any, n_classes: int) -> Layout:
        assert self.k is not None, "capture sets k to that of the singular probe"
        shape = (len(stream), len(stream), self.k, self.k)
        return {name: (DIMS, shape, float_dtype(stream)) for name in NAMES}

    def measure(self, sample: Sample, n_classes: int) -> dict[str, np.ndarray]:
        layout = self.layout(sample.stream, n_classes)
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


def _equal_shapes(stream: Any, i: int) -> list[int]:
    shapes = [(block.shape_in, block.shape_out) for block in stream.blocks]
    return [j for j, shape in enumerate(shapes) if shape == shapes[i]]


def _couple(jacobian: Any, u: Tensor, v: Tensor, square: bool) -> dict[str, Tensor]:
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
