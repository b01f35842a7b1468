"""Tables 3, 6 and 9: do the two measures depend on the label of the image, or on the block alone?"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import f_oneway

from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.stiffness.blocks import OVER, TITLES
from resdyn.papers.stiffness.measure import QUANTITIES, READINGS, stiffness
from resdyn.papers.stiffness.networks import IMAGES, networks
from resdyn.papers.stiffness.printed import printed


def run(lab: Lab) -> None:
    """Means over the images of each label, averaged over blocks; variation over labels beside that over blocks."""
    for label, network in networks(lab):
        ds = stiffness(lab, network, IMAGES[lab.scale])
        for quantity in QUANTITIES:
            for reading in READINGS:
                record_labels(lab, label, reading, quantity, ds)
            lab.picture(f"{label}.{quantity}", _picture(label, quantity, ds))


def record_labels(lab: Lab, label: str, reading: str, quantity: str, ds: xr.Dataset) -> None:
    """Each label's mean; std over mean of the labels' means and of the blocks'; p-value of equal labels."""
    of_block = ds[f"{quantity}_{reading}"]
    of_image = of_block.mean("block")
    groups = by_label(of_image)
    for number, values in groups.items():
        lab.record(f"{label}.label{number}.{reading}.{quantity}", values, OVER, "mean over blocks")
    key = f"{label}.all.{reading}.{quantity}"
    means = [np.mean(values) for values in groups.values()]
    lab.record(f"{key}_label_variation", variation(means), note="std over |mean| of the labels' means")
    blocks = of_block.mean("sample").values
    lab.record(f"{key}_block_variation", variation(blocks), note="std over |mean| of the blocks' means")
    lab.record(f"{key}_label_p", label_p_value(list(groups.values())), note="analysis of variance over labels")


def by_label(values: xr.DataArray) -> dict[int, NDArray[np.float64]]:
    """The finite values (sample,) of each label."""
    known = values.where(np.isfinite(values), drop=True)
    return {int(c): known.values[known["label"].values == c] for c in np.unique(known["label"].values)}


def variation(means: list | NDArray[np.float64]) -> float:
    """Standard deviation of some means over the size of their mean."""
    known = np.asarray(means, dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(known.std() / abs(known.mean())) if known.size else float("nan")


def label_p_value(groups: list[NDArray[np.float64]]) -> float:
    """One-way analysis of variance: how likely differences as large as these are if the label does not matter."""
    usable = [group for group in groups if group.size > 1]
    if len(usable) < 2 or not any(np.ptp(group) > 0 for group in usable):
        return float("nan")
    return float(f_oneway(*usable).pvalue)


def _picture(label: str, quantity: str, ds: xr.Dataset) -> dict:
    rows = []
    for reading in READINGS:
        groups = by_label(ds[f"{quantity}_{reading}"].mean("block"))
        means = [np.mean(values) for values in groups.values()]
        rows.append(pictures.series(reading, list(groups), means, [np.std(v) for v in groups.values()]))
    numbers = np.unique(ds["label"].values)
    paper = printed([f"{label}.label{n}.slices.{quantity}" for n in numbers])
    if np.isfinite(paper).any():
        rows.append(pictures.series("paper", numbers, paper, style="s--"))
    return pictures.lines(f"{label}: {TITLES[quantity]}", "tables 3, 6, 9", rows, "label", TITLES[quantity])
