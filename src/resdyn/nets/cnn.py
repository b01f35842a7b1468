"""Convolutional residual networks (Types 2, 3 and 5 of the Residual Alignment paper)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from resdyn.nets.block import ResidualBlock, residual_branch


def _conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias)


def _block(
    inputs: int, outputs: int, *, batch_norm: bool, preactivation: bool, skip: bool, drop: float
) -> ResidualBlock:
    """A block of two 3x3 convolutions; where the width grows, stride 2 and a 1x1 projection shortcut."""

    def norm(channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()

    stride = 1 if inputs == outputs else 2
    bias = not batch_norm
    maps = (_conv(inputs, outputs, stride, bias=bias), _conv(outputs, outputs, bias=bias or preactivation))
    norms = (norm(inputs if preactivation else outputs), norm(outputs))
    shortcut: nn.Module = nn.Identity()
    if stride != 1:
        shortcut = nn.Sequential(_conv(inputs, outputs, stride, kernel=1, bias=bias), norm(outputs))
    branch = residual_branch(maps, norms, preactivation=preactivation)
    return ResidualBlock(branch, shortcut, nn.Identity() if preactivation else nn.ReLU(), skip=skip, drop=drop)


class ResidualCNN(nn.Module):
    """Convolutional residual network: convolution of stride 2, ``depth`` blocks, mean over pixels, classifier.

    Post-activation: h_{i+1} = ReLU(h_i + F_i(h_i)), F = Conv-BN-ReLU-Conv-BN with 3 x 3 convolutions, and
    ReLU(BN(Conv(x))) before the first block; pre-activation as in ``ResidualMLP``.

    Shapes: input (N, in_channels, image_size, image_size); states (N, width, image_size/2, image_size/2), in the last
    half of a down-sampling network (N, 2 width, image_size/4, image_size/4); output (N, classes).

    Args:
        in_channels: of the images (default 3).
        width: channels (default 64).
        depth: number of blocks (default 16).
        classes: outputs (default 10).
        image_size: height and width to which inputs are resized (default 32).
        downsample: let the first block of the last half double the channels and halve the resolution (stride 2;
            shortcut: 1 x 1 convolution, batch norm) (default False).
        batch_norm: as in ``ResidualMLP`` (default True).
        preactivation: as in ``ResidualMLP`` (default False).
        skip: False removes every shortcut (default True).
        drop: probability of stochastic depth (default 0; see ``ResidualBlock``).

    Source:
        Li and Papyan (2023), section 2.1: Type 2 is width 64 at 16 x 16 with depth 16, Type 3 the same with
        ``downsample``, Type 5 is Type 2 with depth 8. The paper does not say how 16 x 16 is reached from its images;
        here they are resized to 32 x 32 and the first convolution has stride 2.

    Example:
        >>> ResidualCNN(width=4, depth=2).input_size
        (3, 32, 32)
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 16,
        classes: int = 10,
        *,
        image_size: int = 32,
        downsample: bool = False,
        batch_norm: bool = True,
        preactivation: bool = False,
        skip: bool = True,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.input_size = (in_channels, image_size, image_size)
        late = depth - depth // 2 if downsample else depth
        widths = [width] * (late + 1) + [2 * width] * (depth - late)

        def edge(channels: int) -> nn.Sequential:
            return nn.Sequential(nn.BatchNorm2d(channels) if batch_norm else nn.Identity(), nn.ReLU())

        entry = _conv(in_channels, width, stride=2, bias=not batch_norm or preactivation)
        self.input_map = entry if preactivation else nn.Sequential(entry, edge(width))
        self.blocks = nn.Sequential(
            *(
                _block(a, b, batch_norm=batch_norm, preactivation=preactivation, skip=skip, drop=drop)
                for a, b in pairwise(widths)
            )
        )
        self.final = edge(widths[-1]) if preactivation else nn.Identity()
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.final(self.blocks(self.input_map(x))).mean(dim=(2, 3)))
