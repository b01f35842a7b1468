"""Sources of single images: a tensor in memory, or encoded bytes that are decoded on demand."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Protocol

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from resdyn.data.pixels import pixels
from resdyn.errors import InputError

CACHE_BYTES = 512 * 2**20


class ImageSource(Protocol):
    """Images by position: (C, H, W), uint8 in 0..255 or floating point in [0, 1]."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Tensor: ...


class TensorSource:
    """Images in memory as one tensor (N, ...)."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Tensor:
        return self.images[index]


class EncodedSource:
    """Images as PNG, JPEG, ... bytes, decoded on demand and cached up to ``CACHE_BYTES`` of pixels.

    ``encoded(i)`` gives the bytes of image i, ``describe(i)`` its name for error messages.
    """

    def __init__(self, length: int, encoded: Callable[[int], bytes], describe: Callable[[int], str]) -> None:
        self._length, self.encoded, self._describe = length, encoded, describe
        self._cache: dict[int, Tensor] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return self._length

    def read(self, index: int) -> Tensor:
        if (cached := self._cache.get(index)) is not None:
            return cached
        image = self._decode(index)
        if self._cached_bytes + image.nbytes <= CACHE_BYTES:
            self._cache[index] = image
            self._cached_bytes += image.nbytes
        return image

    def _decode(self, index: int) -> Tensor:
        try:
            with Image.open(io.BytesIO(self.encoded(index))) as picture:
                return pixels(picture)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            why = "it is not an image file" if isinstance(error, UnidentifiedImageError) else str(error)
            raise InputError(f"cannot decode {self._describe(index)}: {why}. Remove or replace this image") from error
