"""From images in [0, 1] to model inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from resdyn.errors import InputError


@dataclass(frozen=True)
class Preprocessing:
    """The map ``x -> (fit(x) - mean) / std`` per channel, where fit gives an image the channels and size of the input.

    Attributes:
        input_size: (C, H, W): grey images are repeated over channels, colours averaged to grey, the shorter side is
            resized to fit (bilinear, antialiased) and the centre is cropped, without the margin that some evaluations
            crop first. A plain (n,) flattens the images, which must have n values. None (default) leaves images
            unchanged.
        mean: per channel, or one for all; None (default) leaves values in [0, 1].
        std: likewise.

    Example:
        >>> Preprocessing((3, 4, 4), mean=(0.5,), std=(0.5,))(torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 3, 4, 4])
    """

    input_size: tuple[int, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Map images to model inputs.

        Args:
            images: (N, C, H, W), floating point in [0, 1].

        Returns:
            ``(N, *input_size)``.

        Raises:
            InputError: a number of channels or of values that does not fit.
        """
        size = self.input_size
        if size is not None and len(size) == 3:
            images = _fit(_with_channels(images, size[0]), size[1], size[2])
        images = self._normalised(images)
        return images if size is None or len(size) == 3 else _flattened(images, size)

    def _normalised(self, images: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return images
        channels = images.shape[1]
        return (images - _per_channel(self.mean, channels)) / _per_channel(self.std, channels)


def _per_channel(values: tuple[float, ...], channels: int) -> Tensor:
    """The statistics as (channels, 1, 1); their mean where colours were averaged or grey was repeated."""
    if len(values) != channels:
        values = (sum(values) / len(values),) * channels
    return torch.tensor(values).view(channels, 1, 1)


def _with_channels(images: Tensor, channels: int) -> Tensor:
    have = images.shape[1]
    if have == channels:
        return images
    if have == 1:
        return images.expand(-1, channels, -1, -1)
    if channels == 1:
        return images.mean(dim=1, keepdim=True)
    raise InputError(f"got images of {have} channels, expected {channels} (or 1): choose other data or model")


def _fit(images: Tensor, height: int, width: int) -> Tensor:
    """Resize so that the image just covers the frame, then crop the centre."""
    if images.shape[2:] == (height, width):
        return images
    scale = max(height / images.shape[2], width / images.shape[3])
    size = [max(height, round(images.shape[2] * scale)), max(width, round(images.shape[3] * scale))]
    resized = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return resized[:, :, top : top + height, left : left + width]


def _flattened(images: Tensor, size: tuple[int, ...]) -> Tensor:
    numbers = math.prod(images.shape[1:])
    if numbers != math.prod(size):
        shape = tuple(images.shape[1:])
        raise InputError(
            f"got images of shape {shape} ({numbers} values), expected {math.prod(size)} values: "
            f"choose other data, or a network with in_features={'x'.join(map(str, shape))}"
        )
    return images.reshape(len(images), *size)
