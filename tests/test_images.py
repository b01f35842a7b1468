"""Image files of every kind: values mean what the file says, and what is not a regular file is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from resdyn.data import load_data, load_text
from resdyn.errors import InputError

RAMP = np.arange(64).reshape(8, 8)


def read(tmp_path, picture: Image.Image, suffix: str = "png") -> torch.Tensor:
    (tmp_path / "a").mkdir(exist_ok=True)
    picture.save(tmp_path / "a" / f"0.{suffix}")
    return load_data(tmp_path).image(0)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_grey_of_sixteen_bits_keeps_its_values(tmp_path, suffix):
    values = (RAMP * 1040).astype(np.uint16)
    got = read(tmp_path, Image.fromarray(values), suffix)
    torch.testing.assert_close(got[0], torch.from_numpy(values / 65535).float())


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_grey_that_has_no_white_of_its_own_stays_within_zero_and_one(tmp_path, dtype):
    values = (RAMP / 63).astype(dtype)
    torch.testing.assert_close(read(tmp_path, Image.fromarray(values), "tif")[0], torch.from_numpy(values).float())


@pytest.mark.parametrize(
    "values", [RAMP.astype(np.int32), RAMP.astype(np.float32), -RAMP.astype(np.float32) / 63, RAMP * np.float32(np.nan)]
)
def test_and_is_refused_elsewhere_with_its_range(tmp_path, values):
    with pytest.raises(InputError, match=r"0\.tif: it holds (int32|float32) from .* expected 0 to 1"):
        read(tmp_path, Image.fromarray(values.astype(values.dtype)), "tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_files_of_eight_bits_are_read_as_torchvision_reads_them(tmp_path, mode):
    colours = Image.fromarray(np.stack([RAMP * 4, 255 - RAMP * 4, RAMP * 2], -1).astype(np.uint8))
    picture = colours.convert("P").convert(mode) if mode == "PA" else colours.convert(mode)
    got = read(tmp_path, picture, "png" if mode in ("1", "L", "LA", "P", "RGB", "RGBA") else "tif")
    with Image.open(next((tmp_path / "a").iterdir())) as saved:
        wanted = np.asarray(saved.convert("RGB"))
    assert got.shape[0] == (1 if mode in ("1", "L", "LA") else 3)
    np.testing.assert_allclose(got.expand(3, 8, 8).permute(1, 2, 0), wanted / 255, atol=1e-6)


def test_files_of_eight_and_sixteen_bits_in_one_batch_are_on_one_scale(tmp_path):
    read(tmp_path, Image.fromarray(np.full((8, 8), 65535, np.uint16)))
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "a" / "1.png")
    inputs = load_data(tmp_path).inputs([0, 1])
    torch.testing.assert_close(inputs[0], inputs[1])


@pytest.mark.parametrize("kind", ["fifo", "device", "dangling"])
def test_what_is_no_regular_file_among_images_is_named(tmp_path, kind):
    read(tmp_path, Image.fromarray(RAMP.astype(np.uint8)))
    path = tmp_path / "a" / "1.png"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "/nowhere")
    with pytest.raises(InputError, match=r"1\.png' is not a regular file"):
        load_data(tmp_path)


def test_a_pipe_is_no_text(tmp_path):
    os.mkfifo(tmp_path / "t.txt")
    with pytest.raises(InputError, match="is not a regular file"):
        load_text(tmp_path / "t.txt", list)
