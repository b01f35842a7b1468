"""Tables 2, 5 and 8: stiffness index and percentage of negative real parts by block, by either reading."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.stiffness.measure import QUANTITIES, READINGS, stiffness
from resdyn.papers.stiffness.networks import IMAGES, networks
from resdyn.papers.stiffness.printed import printed

OVER = "test images"
TITLES = {"stiffness_index": "stiffness index", "percent_negative": "negative real parts, %"}


def run(lab: Lab) -> None:
    """Means over test images for every block and all, and the last half of the blocks over the first half."""
    for label, network in networks(lab):
        ds = stiffness(lab, network, IMAGES[lab.scale])
        for quantity in QUANTITIES:
            for reading in READINGS:
                record_blocks(lab, label, reading, quantity, ds)
            lab.picture(f"{label}.{quantity}", _picture(label, quantity, ds))


def record_blocks(lab: Lab, label: str, reading: str, quantity: str, ds: xr.Dataset) -> None:
    """Each block, all of them, and the ratio of the halves of the network (of sizes, whatever their sign)."""
    values = ds[f"{quantity}_{reading}"].transpose("sample", "block").values
    for number, column in enumerate(values.T, start=1):
        lab.record(f"{label}.block{number}.{reading}.{quantity}", column, OVER)
    lab.record(f"{label}.all.{reading}.{quantity}", _means(values), OVER, "mean over blocks")
    note = "size in the last half of the blocks over that in the first"
    lab.record(f"{label}.all.{reading}.{quantity}_ratio", late_ratio(values), OVER, note)


def late_ratio(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean size of (sample, block) over the last half of the blocks over that of the first half, as pseudo-values.

    Their mean over the samples is the ratio without its bias of first order, their standard error that of the
    jackknife (Tukey 1958): n r - (n - 1) r_i, where r_i leaves sample i out. A mean of ratios would not exist where one
    is divided by zero.
    """
    half = values.shape[1] // 2
    late, early = _means(np.abs(values[:, half:])), _means(np.abs(values[:, :half]))
    known = np.isfinite(late) & np.isfinite(early)
    late, early, n = late[known], early[known], int(known.sum())
    if n < 2 or not (early.sum() - early > 0).all():
        return np.array([np.nan])
    left_out = (late.sum() - late) / (early.sum() - early)
    return n * late.sum() / early.sum() - (n - 1) * left_out


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over the blocks that are known; NaN where none is."""
    known = np.isfinite(values)
    count = known.sum(1)
    return np.where(known, values, 0).sum(1) / np.where(count > 0, count, np.nan)


def _picture(label: str, quantity: str, ds: xr.Dataset) -> dict:
    number = np.arange(1, ds.sizes["block"] + 1)
    rows = []
    for reading in READINGS:
        values = np.ma.masked_invalid(ds[f"{quantity}_{reading}"].transpose("sample", "block").values)
        mean, spread = values.mean(0).filled(np.nan), values.std(0).filled(np.nan)
        rows.append(pictures.series(reading, number, mean, spread))
    paper = printed([f"{label}.block{n}.slices.{quantity}" for n in number])
    if np.isfinite(paper).any():
        rows.append(pictures.series("paper", number, paper, style="s--"))
    return pictures.lines(f"{label}: {TITLES[quantity]}", "tables 2, 5, 8", rows, "block", TITLES[quantity])
