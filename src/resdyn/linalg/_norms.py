"""Euclidean norms for error bounds: summed in float64, accurate at every scale.

``torch.linalg.vector_norm`` of a long float32 vector sums into few accumulators: from 2^22 entries on, 0.1 to 4 % are
lost. Squares of entries above 1e19 or below 1e-22 are outside the range of float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_CHUNK = 1 << 17
_SAFE = (1e-140, 1e140)  # within, squares in float64 neither overflow nor lose digits


def column_norms(X: Tensor) -> Tensor:
    """The norms (k,) of the columns of X (n, k), real or complex of any precision; float64, on the device of X.

    X is converted in chunks, never all at once (on the CPU where the device has no float64).
    """
    rows = max(1, _CHUNK // max(1, X.shape[1]))
    norms = _over_rows([torch.linalg.vector_norm(_wide(part), dim=0) for part in X.split(rows)])
    low, high = _SAFE
    if bool(((norms > low) & (norms < high)).all()):
        return norms
    largest = _wide(X.abs().amax(dim=0)) if len(X) else norms
    scale = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    return scale * _over_rows([torch.linalg.vector_norm(_wide(part) / scale, dim=0) for part in X.split(rows)])


def norm(X: Tensor) -> float:
    """The norm of all entries of a tensor of any shape (of a matrix: Frobenius)."""
    if X.numel() <= _CHUNK:
        size = float(torch.linalg.vector_norm(_wide(X)))
        if _SAFE[0] < size < _SAFE[1]:
            return size
    return float(column_norms(X.reshape(-1, 1))[0])


def power_of_two(size: float) -> float:
    """The power of two nearest below 1 / size: multiplying by it is exact; 1 for a size that is 0 or not finite."""
    if not 0 < size < math.inf:
        return 1.0
    return 2.0 ** max(-1000, min(1000, -math.frexp(size)[1]))


def _wide(part: Tensor) -> Tensor:
    """Magnitudes of entries in float64."""
    part = part.abs() if part.is_complex() else part
    return (part.cpu() if part.device.type == "mps" else part).double()


def _over_rows(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.linalg.vector_norm(torch.stack(parts), dim=0)
