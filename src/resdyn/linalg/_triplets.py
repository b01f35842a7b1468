"""What the algorithms hand to ``svd``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Triplets(NamedTuple):
    """U (m, k), S (k,) descending, V (n, k), and relative to S[0] residual norms and bounds of what S lacks.

    ``search_matvecs`` products went into the search for missed values.
    """

    U: Tensor
    S: Tensor
    V: Tensor
    residuals: Tensor
    bounds: Tensor
    search_matvecs: int


def residual_norms(defect: Tensor, S: Tensor) -> Tensor:
    """Column norms of a defect relative to the largest singular value; those of the zero operator stay as they are."""
    norms: Tensor = torch.linalg.vector_norm(defect / torch.where(S[0] > 0, S[0], 1.0).to(defect), dim=0)
    return norms
