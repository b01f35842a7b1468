"""The shapes that blocks map between, found in the untrained networks by discovery."""

from __future__ import annotations

from functools import cache

import torch

from resdyn import find_stream
from resdyn.nets import NETS

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


@cache
def block_shapes(network: str) -> tuple[Shapes, ...]:
    """(shape_in, shape_out) of every block of `cifar_<network>`; neither weights nor scale matter."""
    model = NETS[f"cifar_{network}"]().eval()
    example = torch.zeros(1, 3, 32, 32)
    return tuple((block.shape_in, block.shape_out) for block in find_stream(model, example))
