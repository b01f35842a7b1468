"""Skips that are a layer's own unit kernel, which turn plain layers into residual ones of the same size."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resdyn.errors import InputError


def identity_kernel(weight: Tensor, groups: int = 1) -> Tensor:
    """The unit kernel rho: 1 at the ID entries (c, c, 0, .., 0), c = 1 .. min(C, D), and 0 elsewhere.

    Args:
        weight: (D, C) of a linear layer or ``(D, C / groups, *kernel)`` of a convolution; the last indices count from
            the kernel's centre.
        groups: of the convolution (default 1).

    Returns:
        rho, in the shape, dtype and device of ``weight``.

    Raises:
        InputError: a kernel without a centre, or groups that keep a channel from its own output.

    Source:
        Yu and Tomasi, "Identity connections improve noise stability", equation 1; groups are ours.

    Example:
        >>> identity_kernel(torch.randn(2, 3))
        tensor([[1., 0., 0.],
                [0., 1., 0.]])
    """
    outputs, inputs, kernel = weight.shape[0], weight.shape[1] * groups, weight.shape[2:]
    if any(size % 2 == 0 for size in kernel):
        raise InputError(f"got a kernel of {tuple(kernel)}, expected odd sizes: an even one has no centre")
    if groups > 1 and inputs != outputs:
        raise InputError(
            f"got {groups} groups from {inputs} to {outputs} channels, expected as many channels out as in"
        )
    channel = torch.arange(min(inputs, outputs), device=weight.device)
    rho = torch.zeros_like(weight)
    centre: Any = (channel, channel % weight.shape[1], *(size // 2 for size in kernel))
    rho[centre] = 1
    return rho


class UnitSkip(nn.Module):
    """The map ``h -> rho h`` of a layer's unit kernel (``identity_kernel``), without a product.

    It takes every ``strides[k]``-th value along the last axes; channels beyond ``inputs`` are zero, or with ``repeat``
    the first ones again. Shapes: ``(..., inputs, *sizes)`` to ``(..., outputs, *strided sizes)``.

    Args:
        inputs: channels in.
        outputs: channels out.
        strides: one per spatial axis; none for a linear layer (default).
        repeat: fill the second half of the channels with the first (default False); needs ``outputs = 2 inputs``.

    Raises:
        InputError: ``repeat`` with other numbers of channels.
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
    """The unit skip of a layer; the identity module where it changes nothing. Arguments as for ``UnitSkip``."""
    if inputs == outputs and all(stride == 1 for stride in strides):
        return nn.Identity()
    return UnitSkip(inputs, outputs, strides, repeat=repeat)


class ResidualLayer(nn.Module):
    """One layer of a plain network with a skip, ``x -> layer(x) + skip(x)``.

    Args:
        layer: any module.
        skip: a module with the same input and output shapes.
    """

    def __init__(self, layer: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.layer, self.skip = layer, skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.skip(x)
