"""ResNet-18, 34 and 50 for 32 x 32 images: the ImageNet networks with a stem that keeps the resolution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from resdyn.errors import InputError

EXPANSION = 4  # of a bottleneck: output channels over inner channels


class _Block(nn.Module, ABC):
    """h -> ReLU(shortcut(h) + F(h)); the shortcut is a strided 1x1 convolution with BN where the shape changes.

    Source: He et al. (2016), "Deep residual learning", equations 1 and 2, option B.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    @abstractmethod
    def branch(self, h: Tensor) -> Tensor:
        """F(h)."""

    def forward(self, h: Tensor) -> Tensor:
        return F.relu((h if self.downsample is None else self.downsample(h)) + self.branch(h))


class BasicBlock(_Block):
    """The block with F = Conv3x3-BN-ReLU-Conv3x3-BN and the stride in the first convolution.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the block.

    Source:
        He et al. (2016), figure 5, left.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def branch(self, h: Tensor) -> Tensor:
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(h)))))


class Bottleneck(_Block):
    """The block with F = Conv1x1-BN-ReLU-Conv3x3-BN-ReLU-Conv1x1-BN and a quarter of the output's channels inside.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the block.

    Source:
        He et al. (2016), figure 5, right, where the stride is in the first convolution; here it is in the 3 x 3 one, as
        in torchvision.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        inner = outputs // EXPANSION
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)

    def branch(self, h: Tensor) -> Tensor:
        inner = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(h))))))
        return self.bn3(self.conv3(inner))


class ResNet(nn.Module):
    """ResNet ``h_{i+1} = ReLU(shortcut(h_i) + F_i(h_i))``: 3 x 3 convolution, max-pool, four stages, mean, classifier.

    The max-pool has stride 2. Stage s = 0..3 has width * 2^s channels (four times that with ``bottleneck``) at
    image_size / 2^(s + 1) pixels per side; its first block has stride 2 for s > 0. Parameters have torchvision's names.

    Shapes: input (N, 3, image_size, image_size); states of ResNet-18 and 34 (N, 64, 16, 16), (N, 128, 8, 8),
    (N, 256, 4, 4), (N, 512, 2, 2); output (N, classes).

    Args:
        blocks: residual blocks of each of the four stages (default (2, 2, 2, 2), ResNet-18).
        width: channels of the first stage (default 64).
        classes: outputs (default 10).
        bottleneck: use ``Bottleneck`` instead of ``BasicBlock`` (default False).
        image_size: height and width to which inputs are resized (default 32).

    Raises:
        InputError: not four stages, or a stage or width below 1.

    Source:
        He et al. (2016), "Deep residual learning", table 1; the stem is the one implied by the element counts of the
        stiffness paper (tables 10 and 11).

    Example:
        >>> [len(stage) for stage in ResNet(blocks=(1, 2, 1, 1), width=4).stages]
        [1, 2, 1, 1]
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __init__(
        self,
        blocks: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        classes: int = 10,
        *,
        bottleneck: bool = False,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1 or width < 1:
            raise InputError(f"got blocks={tuple(blocks)}, width={width}, expected four stages of at least one block")
        self.input_size = (3, image_size, image_size)
        block, expansion = (Bottleneck, EXPANSION) if bottleneck else (BasicBlock, 1)
        channels = [width, *(width * expansion * 2**stage for stage in range(4))]
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block, inputs, outputs, count, 1 if number == 0 else 2)
            for number, ((inputs, outputs), count) in enumerate(zip(pairwise(channels), blocks))
        )
        self.fc = nn.Linear(channels[-1], classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights of all convolutions, after He et al. (2015)."""
        self.apply(_he_initialise)

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """The four stages, in order."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def forward(self, x: Tensor) -> Tensor:
        h = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            h = stage(h)
        return self.fc(h.mean(dim=(2, 3)))


def _stage(block: type[_Block], inputs: int, outputs: int, count: int, stride: int) -> nn.Sequential:
    return nn.Sequential(block(inputs, outputs, stride), *(block(outputs, outputs, 1) for _ in range(count - 1)))


def _he_initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
