"""The CIFAR-10 ResNets of He et al. (2016) with parameter-free shortcuts."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CifarBlock(nn.Module):
    """h -> ReLU(shortcut(h) + F(h)), F = Conv-BN-ReLU-Conv-BN.

    Where the shape changes the shortcut takes every second pixel and pads the new channels with zeros, half
    of them before and half after. Source: He et al. (2016), "Deep residual learning", section 4.2, option A.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, h: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(h)))))
        return F.relu(self._shortcut(h) + branch)

    def _shortcut(self, h: Tensor) -> Tensor:
        if self.stride == 1:
            return h
        return F.pad(h[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))


class CifarResNet(nn.Module):
    """ResNet of 6n+2 layers: a convolution, three stages of n blocks with 16, 32, 64 channels, classifier.

    Shapes: input (N, 3, 32, 32), normalised per channel with `mean` and `std` (images in [0, 1]); states
    (N, 16, 32, 32), (N, 32, 16, 16), (N, 64, 8, 8); output (N, classes).
    Source: He et al. (2016), "Deep residual learning", section 4.2.

    >>> len(CifarResNet(blocks_per_stage=3).layer1)
    3
    """

    input_size = (3, 32, 32)
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, blocks_per_stage: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks_per_stage, stride=1)
        self.layer2 = _stage(16, 32, blocks_per_stage, stride=2)
        self.layer3 = _stage(32, 64, blocks_per_stage, stride=2)
        self.linear = nn.Linear(64, classes)
        self.apply(_he_initialise)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(h))).mean(dim=(2, 3)))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = CifarBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(CifarBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def _he_initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
