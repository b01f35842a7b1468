"""From image files to numbers in the file's own scale: black is 0 and white is 1, whatever the format."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resdyn.errors import InputError

_GREY_MODES = {"1", "L", "LA", "La"}
_SIXTEEN_BIT_MODES = {"I;16", "I;16B", "I;16L", "I;16N"}
_SIXTEEN_BIT_FORMATS = {"PNG", "PPM"}  # their grey of more than 8 bits is read as mode I of 0..65535


def pixels(picture: Image.Image) -> Tensor:
    """An image with channels first: uint8 in 0..255, or for grey of more than 8 bits float32 in [0, 1].

    Grey of 16 bits is divided by 65535, the largest value of the format. Grey of 32 bits and of floating point has no
    defined white: it is kept where all values are in [0, 1], and refused otherwise. Palettes, CMYK and other colours
    become RGB of 8 bits; transparent pixels keep their stored colour, as in torchvision's loader.
    """
    if picture.mode in _SIXTEEN_BIT_MODES or (picture.mode == "I" and picture.format in _SIXTEEN_BIT_FORMATS):
        return torch.from_numpy((np.asarray(picture).astype(np.float64) / 65535).astype(np.float32)[None])
    if picture.mode in ("I", "F"):
        return torch.from_numpy(_in_unit_range(np.asarray(picture))[None])
    values = np.array(picture.convert("L" if picture.mode in _GREY_MODES else "RGB"))
    return torch.from_numpy(values[None] if values.ndim == 2 else values.transpose(2, 0, 1).copy())


def _in_unit_range(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN is not between any two
        raise ValueError(
            f"it holds {values.dtype} from {low:g} to {high:g}, expected 0 to 1: only you know which value is white; "
            "divide by it and save again"
        )
    return values.astype(np.float32)


def read_regular(path: str | Path) -> bytes:
    """The content of a regular file; a pipe or a device, which might never end, is refused."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InputError(f"'{path}' is not a regular file; remove it, or give a folder of regular files")
        return file.read()
