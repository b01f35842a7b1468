"""What the algorithms return to ``svd``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from resdyn.linalg._norms import column_norms


class Triplets(NamedTuple):
    """U (m, k), S (k,) descending, V (n, k), and relative to S[0] residual norms and bounds of what S lacks.

    ``search_matvecs`` products went into the search for missed values; each of the ``restarts`` rounded all vectors.
    """

    U: Tensor
    S: Tensor
    V: Tensor
    residuals: Tensor
    bounds: Tensor
    search_matvecs: int
    restarts: int = 0


def residual_norms(defect: Tensor, S: Tensor) -> Tensor:
    """Column norms of a defect relative to the largest singular value; those of the zero operator stay as they are."""
    return column_norms(defect) / torch.where(S[0] > 0, S[0], 1.0).to(defect.device)
