"""Skips that are a layer's own unit kernel: what turns plain layers into residual ones of the same size."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resdyn.errors import InputError


def identity_kernel(weight: Tensor, groups: int = 1) -> Tensor:
    """rho: 1 at the ID entries (c, c, 0, .., 0), c = 1 .. min(C, D), 0 elsewhere; shape and dtype of `weight`.

    `weight` is (D, C) of a linear layer or (D, C / groups, *kernel) of a convolution; the last indices count from
    the kernel's centre. Source: Yu and Tomasi, "Identity connections improve noise stability", equation 1; groups
    are ours. Raises InputError for a kernel without a centre, and for groups that keep a channel from its own output.
    """
    outputs, inputs, kernel = weight.shape[0], weight.shape[1] * groups, weight.shape[2:]
    if any(size % 2 == 0 for size in kernel):
        raise InputError(f"got a kernel of {tuple(kernel)}, expected odd sizes: an even one has no centre")
    if groups > 1 and inputs != outputs:
        raise InputError(f"got {groups} groups from {inputs} to {outputs} channels, expected equally many channels")
    channel = torch.arange(min(inputs, outputs), device=weight.device)
    rho = torch.zeros_like(weight)
    centre: Any = (channel, channel % weight.shape[1], *(size // 2 for size in kernel))
    rho[centre] = 1
    return rho


class UnitSkip(nn.Module):
    """h -> the layer whose kernel is rho (`identity_kernel`) applied to h, without a product.

    Every `strides[k]`-th value along the last axes; channels beyond `inputs` are zero, or with `repeat` the first
    ones once more. Shapes: (..., inputs, *sizes) to (..., outputs, *strided sizes); no strides for a linear layer.
    """

    def __init__(self, inputs: int, outputs: int, strides: tuple[int, ...] = (), *, repeat: bool = False) -> None:
        super().__init__()
        if repeat and outputs != 2 * inputs:
            raise InputError(f"got repeat with {inputs} and {outputs} channels, expected twice as many outputs")
        self.inputs, self.outputs, self.strides, self.repeat = inputs, outputs, strides, repeat

    def forward(self, h: Tensor) -> Tensor:
        if any(stride != 1 for stride in self.strides):
            every: Any = (..., *(slice(None, None, stride) for stride in self.strides))
            h = h[every]
        axis = -1 - len(self.strides)
        if self.repeat:
            return torch.cat([h, h], axis)
        extra = self.outputs - self.inputs
        if extra < 0:
            return h.narrow(axis, 0, self.outputs)
        return F.pad(h, (0, 0) * len(self.strides) + (0, extra)) if extra else h

    def extra_repr(self) -> str:
        return f"{self.inputs}, {self.outputs}, strides={self.strides}{', repeat' if self.repeat else ''}"


def unit_skip(inputs: int, outputs: int, strides: tuple[int, ...] = (), *, repeat: bool = False) -> nn.Module:
    """The unit skip of a layer; the identity module where it changes nothing."""
    if inputs == outputs and all(stride == 1 for stride in strides):
        return nn.Identity()
    return UnitSkip(inputs, outputs, strides, repeat=repeat)


class ResidualLayer(nn.Module):
    """x -> layer(x) + skip(x), around one layer of a plain network."""

    def __init__(self, layer: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.layer, self.skip = layer, skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.skip(x)
