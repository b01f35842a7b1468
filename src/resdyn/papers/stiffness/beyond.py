"""Beyond the paper: what blocks do as maps, which Euler step would be stable, and whether stiffness predicts anything.

The paper suggests that stiffness explains why networks fall for adversarial examples. The index is compared here with
the smallest noise that makes the network change its answer (see the probe `robustness`), image by image.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.stiffness.blocks import OVER
from resdyn.papers.stiffness.correlation import SIGNIFICANT, write_correlation
from resdyn.papers.stiffness.measure import QUANTITIES, READINGS, stiffness
from resdyn.papers.stiffness.networks import IMAGES, networks

MAPS = {
    "spectral_radius": "largest |eigenvalue| of the block",
    "spectral_norm": "largest singular value of the block",
    "stable_step": "largest h at which h -> h + h (block(h) - h) amplifies no decaying direction; the block is h = 1",
    "growing_share": "share of eigenvalues with real part above 1",
}
NOISES = ("noise_amplitude", "gradient_amplitude")


def run(lab: Lab) -> None:
    """Every block as a map; robustness of the images; Spearman's rho of both measures with it, corrected."""
    for label, network in networks(lab):
        ds = stiffness(lab, network, IMAGES[lab.scale])
        for name, note in MAPS.items():
            for number, column in enumerate(ds[name].transpose("sample", "block").values.T, start=1):
                lab.record(f"{label}.block{number}.{name}", column, OVER, note)
        lab.record(f"{label}.last.stable_step", ds["stable_step"].isel(block=-1).values, OVER, MAPS["stable_step"])
        for noise in NOISES:
            lab.record(f"{label}.all.{noise}", ds[noise].values, OVER, "L2 norm in the units of the network's input")
        for reading in READINGS:
            record_robustness(lab, label, reading, ds)
        lab.picture(f"{label}.maps", _picture(label, ds))


def record_robustness(lab: Lab, label: str, reading: str, ds: xr.Dataset) -> None:
    """rho of each block's measures with the smallest noise; how many blocks survive Holm's correction."""
    pairs = [(quantity, noise) for quantity in QUANTITIES for noise in NOISES]
    found = {}
    for quantity, noise in pairs:
        values = np.abs(ds[f"{quantity}_{reading}"].transpose("sample", "block").values)
        found[quantity, noise] = [metrics.spearman(column, ds[noise].values) for column in values.T]
    corrected = metrics.holm([[row.p_value for row in rows] for rows in found.values()])
    for (quantity, noise), rows, adjusted in zip(found.keys(), found.values(), corrected):
        name = f"{quantity}_{noise}"
        for number, (row, p_value) in enumerate(zip(rows, adjusted), start=1):
            note = f"n = {row.n}, 95 % interval {row.low:.2f} to {row.high:.2f}, p {p_value:.2g} (Holm)"
            write_correlation(lab, f"{label}.block{number}.{reading}.rho_{name}", row, note)
        count = int((adjusted <= SIGNIFICANT).sum())
        lab.record(f"{label}.all.{reading}.significant_{name}", count, note=f"of {len(rows)} blocks, after Holm")
        last = rows[-1]
        key = f"{label}.last.{reading}.rho_{name}"
        write_correlation(lab, key, last, f"p {last.p_value:.2g}, n = {last.n}")


def _picture(label: str, ds: xr.Dataset) -> dict:
    number = np.arange(1, ds.sizes["block"] + 1)
    rows = []
    for name in ("spectral_radius", "spectral_norm", "stable_step"):
        values = np.ma.masked_invalid(ds[name].transpose("sample", "block").values)
        mean, spread = values.mean(0).filled(np.nan), values.std(0).filled(np.nan)
        rows.append(pictures.series(name.replace("_", " "), number, mean, spread))
    return pictures.lines(f"{label}: blocks as maps", "beyond the paper", rows, "block", "value", log=True)
