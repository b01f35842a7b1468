"""The simplified plain and residual networks of Yu and Tomasi: one convolution per block, no batch norm."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from resdyn.errors import InputError
from resdyn.nets.block import ResidualBlock
from resdyn.nets.unit_skip import unit_skip

Init = Literal["kaiming", "hardt_ma"]
Kernels = Literal["full", "dominant", "half"]
KERNEL = 3


class SimplifiedNet(nn.Module):
    """Simplified network ``h_{i+1} = ReLU(skip(h_i) + K_i h_i + b_i)`` of L = 3N + 2 layers, with or without skips.

    Convolution and ReLU, 3N blocks of one 3 x 3 convolution, mean over pixels, classifier. The first block of the
    second and third group doubles the channels and halves the image; there the skip is the convolution's own unit
    kernel (``UnitSkip``), so that both networks are the same functions of different parameters.

    Shapes: input (N, in_channels, s, s), s = ``image_size``; states (N, w, s, s), (N, 2w, s/2, s/2), (N, 4w, s/4, s/4),
    w = ``width``; output (N, classes).

    Args:
        layers: L = 3N + 2 with N >= 1: 20 (default), 32, 44, ...
        classes: outputs (default 10).
        skip: True (default) for the residual network (ResNet), False for the plain one, ReLU(K_i h_i + b_i) (PlnNet).
        init: "kaiming" (default of plain networks): standard deviation sqrt(2 / S), S = C U V; "hardt_ma" (default of
            residual ones): 1 / S. Biases are zero; the classifier keeps torch's default, since the paper does not
            mention it.
        kernels: "full" (default); "dominant", T' of appendix D.3: only the diagonal of every kernel, where channels
            double of both its halves, each with a unit skip; "half": the same with the lower half of those kernels free
            (no skip there).
        width: channels of the first group (default 16).
        image_size: height and width to which inputs are resized (default 32).
        in_channels: of the images (default 3).

    Raises:
        InputError: ``layers`` of another form, an unknown ``init`` or ``kernels``, or reduced kernels without skips.

    Source:
        Yu and Tomasi, sections 2 and 4.2, appendices A and D.3.

    Example:
        >>> len(SimplifiedNet(20).blocks)
        18
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __init__(
        self,
        layers: int = 20,
        classes: int = 10,
        *,
        skip: bool = True,
        init: Init | None = None,
        kernels: Kernels = "full",
        width: int = 16,
        image_size: int = 32,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        init = init or ("hardt_ma" if skip else "kaiming")
        _check(layers, skip, init, kernels)
        self.input_size = (in_channels, image_size, image_size)
        widths = [width * 2**group for group in range(3) for _ in range((layers - 2) // 3)]
        self.input_map = nn.Sequential(_convolution(in_channels, width), nn.ReLU())
        self.blocks = nn.Sequential(*(_block(a, b, skip, kernels) for a, b in pairwise([width, *widths])))
        self.classifier = nn.Linear(widths[-1], classes)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The final activation a^(L), the means of the last feature maps.

        Args:
            x: (N, in_channels, s, s).

        Returns:
            (N, 4w).
        """
        return self.blocks(self.input_map(x)).mean(dim=(2, 3))

    @property
    def layer_paths(self) -> list[str]:
        """The modules whose outputs are the activations a^(1) .. a^(L-1), after every ReLU."""
        return ["input_map", *(f"blocks.{i}" for i in range(len(self.blocks)))]


class SplitKernel(nn.Module):
    """Two convolutions of the same input with their outputs concatenated: the halves of a rectangular kernel.

    Args:
        upper: gives the first channels.
        lower: gives the others.
    """

    def __init__(self, upper: nn.Conv2d, lower: nn.Conv2d) -> None:
        super().__init__()
        self.upper, self.lower = upper, lower

    def forward(self, h: Tensor) -> Tensor:
        return torch.cat([self.upper(h), self.lower(h)], 1)


def initialise(net: nn.Module, init: Init) -> None:
    """Draw the weights of all convolutions from N(0, 2 / S) or N(0, 1 / S^2), and zero their biases.

    S = C U V with C the input channels of the whole kernel, also where only its diagonal is kept.

    Args:
        net: any network; its convolutions must have biases.
        init: "kaiming" (variance 2 / S) or "hardt_ma" (variance 1 / S^2).

    Source:
        Yu and Tomasi, equations 3 and 4 (He et al. 2015; Hardt and Ma 2017).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.in_channels * math.prod(module.kernel_size)
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan) if init == "kaiming" else 1 / fan)
            assert module.bias is not None
            nn.init.zeros_(module.bias)


def _block(inputs: int, outputs: int, skip: bool, kernels: Kernels) -> ResidualBlock:
    stride = 1 if inputs == outputs else 2
    shortcut = unit_skip(inputs, outputs, (stride, stride), repeat=kernels == "dominant" and stride == 2)
    return ResidualBlock(_kernel(inputs, outputs, stride, kernels), shortcut, nn.ReLU(), skip=skip)


def _kernel(inputs: int, outputs: int, stride: int, kernels: Kernels) -> nn.Module:
    if kernels == "full":
        return _convolution(inputs, outputs, stride)
    diagonal = _convolution(inputs, inputs, stride, groups=inputs)
    if inputs == outputs:
        return diagonal
    return SplitKernel(diagonal, _convolution(inputs, inputs, stride, groups=inputs if kernels == "dominant" else 1))


def _convolution(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, KERNEL, stride=stride, padding=KERNEL // 2, groups=groups)


def _check(layers: int, skip: bool, init: str, kernels: str) -> None:
    if layers < 5 or (layers - 2) % 3:
        raise InputError(f"got layers={layers}, expected 3N+2 with N >= 1: 20, 32, 44, ...")
    if init not in ("kaiming", "hardt_ma"):
        raise InputError(f"got init='{init}', expected 'kaiming' or 'hardt_ma'")
    if kernels not in ("full", "dominant", "half") or (kernels != "full" and not skip):
        raise InputError(f"got kernels='{kernels}', expected 'full', or, with skips, 'dominant' or 'half'")
