"""The device and the precision of a model."""

from __future__ import annotations

import torch
from torch import nn


def model_dtype(model: nn.Module) -> torch.dtype:
    """The floating dtype of a model's parameters."""
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floats, torch.get_default_dtype())


def model_device(model: nn.Module) -> torch.device:
    """The device of a model's parameters."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))
