"""Where a model is, and in which precision."""

from __future__ import annotations

import torch
from torch import nn


def model_dtype(model: nn.Module) -> torch.dtype:
    """The floating dtype of a model's parameters."""
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floats, torch.get_default_dtype())


def model_device(model: nn.Module) -> torch.device:
    """Where a model's parameters lie."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))
