"""Where a model is, and in which precision."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn


def model_dtype(model: nn.Module) -> torch.dtype:
    """The floating dtype of a model's parameters."""
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floats, torch.get_default_dtype())


def model_device(model: nn.Module) -> torch.device:
    """The device of a model's parameters, or of its buffers where it has none."""
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def like_weights(values: Tensor, model: nn.Module) -> Tensor:
    """Values on the device of a model, floating-point ones in the precision of its weights too."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    real = values.is_floating_point() and weight is not None
    return values.to(model_device(model), weight.dtype if real and weight is not None else None)
