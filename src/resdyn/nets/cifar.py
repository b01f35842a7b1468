"""The CIFAR-10 ResNets of He et al. (2016) with parameter-free shortcuts."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CifarBlock(nn.Module):
    """The block ``h -> ReLU(shortcut(h) + F(h))``, F = Conv-BN-ReLU-Conv-BN.

    Where the shape changes the shortcut takes every second pixel and pads the new channels with zeros, half of them
    before and half after.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the first convolution; 1 requires ``inputs == outputs``.
        skip: False gives ReLU(F(h)) (default True).

    Source:
        He et al. (2016), "Deep residual learning", section 4.2, option A.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, skip: bool = True) -> None:
        super().__init__()
        self.skip = skip
        self.stride, self.padding = stride, (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, h: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(h)))))
        return F.relu(self._shortcut(h) + branch) if self.skip else F.relu(branch)

    def _shortcut(self, h: Tensor) -> Tensor:
        if self.stride == 1:
            return h
        return F.pad(h[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))


class CifarResNet(nn.Module):
    """ResNet of 6n + 2 layers: a convolution, three stages of n blocks with 16, 32 and 64 channels, a classifier.

    Shapes: input (N, 3, 32, 32), normalised per channel with ``mean`` and ``std`` (images in [0, 1]); states (N, 16,
    32, 32), (N, 32, 16, 16), (N, 64, 8, 8); output (N, classes).

    Args:
        blocks_per_stage: n.
        classes: outputs (default 10).
        skip: False gives the plain twin without shortcuts (default True).
        width: channels of the first stage (default 16).
        image_size: height and width to which inputs are resized (default 32).
        in_channels: of the images (default 3).

    Source:
        He et al. (2016), "Deep residual learning", section 4.2.

    Example:
        >>> len(CifarResNet(blocks_per_stage=3).layer1)
        3
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(
        self,
        blocks_per_stage: int,
        classes: int = 10,
        *,
        skip: bool = True,
        width: int = 16,
        image_size: int = 32,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.input_size = (in_channels, image_size, image_size)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks_per_stage, 1, skip)
        self.layer2 = _stage(width, 2 * width, blocks_per_stage, 2, skip)
        self.layer3 = _stage(2 * width, 4 * width, blocks_per_stage, 2, skip)
        self.linear = nn.Linear(4 * width, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights of all convolutions and of the linear layer, after He et al. (2015)."""
        self.apply(_he_initialise)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(h))).mean(dim=(2, 3)))


def _stage(inputs: int, outputs: int, blocks: int, stride: int, skip: bool) -> nn.Sequential:
    first = CifarBlock(inputs, outputs, stride, skip)
    return nn.Sequential(first, *(CifarBlock(outputs, outputs, 1, skip) for _ in range(blocks - 1)))


def _he_initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
