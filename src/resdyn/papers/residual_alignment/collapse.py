"""Figure 7: neural collapse and alignment over training, together."""

from __future__ import annotations

from typing import Any

import numpy as np

from resdyn.monitor import Monitor
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.networks import TRIPLETS, case

EVERY = {"tiny": 3, "small": 3, "paper": 10}
SAMPLES = {"tiny": 1, "small": 3, "paper": 5}
COLLAPSE = {
    "within_class_variability": "NC1",
    "equinorm": "NC2, norms",
    "equiangularity": "NC2, angles",
    "maximal_angle": "NC2, widest angles",
    "self_duality": "NC3",
    "nearest_mean_disagreement": "NC4",
}
ALIGNMENT = {
    "diagonal_energy_uv": "RA2, diagonal energy",
    "collinearity": "RA1, cosine of steps",
    "inverse_scaling_r_squared": "RA4, R^2 of 1/s_1",
}


def run(lab: Lab) -> None:
    """A network of type 4a with a monitor: what every measure was before training and what it is after."""
    data = "digits" if lab.scale == "tiny" else "mnist"
    probes = f"trajectory,singular(k={TRIPLETS[lab.scale]}),coupling,features"
    monitor = Monitor(EVERY[lab.scale], SAMPLES[lab.scale], probes, (*COLLAPSE, *ALIGNMENT))
    (rows,) = lab.trained(case(lab.scale, "type4a", data), [monitor]).found
    for name, title in (COLLAPSE | ALIGNMENT).items():
        first, last = rows[0][name], rows[-1][name]
        note = f"{title}, after {rows[-1]['epoch']} epochs; {_text(first)} before the first"
        lab.record(f"{name}.after", np.nan if last is None else last, note=note)
        ratio = last / first if first and last is not None else np.nan
        lab.record(f"{name}.ratio", ratio, note=f"{title}, after over before")
    for key, names, log in (("collapse", COLLAPSE, True), ("alignment", ALIGNMENT, False)):
        lab.picture(key, _picture(rows, key, names, log))


def _picture(rows: list[dict[str, Any]], key: str, names: dict[str, str], log: bool) -> dict[str, Any]:
    epochs = [row["epoch"] for row in rows]
    curves = [
        pictures.series(title, epochs, [np.nan if row[name] is None else row[name] for row in rows], style=".-")
        for name, title in names.items()
    ]
    return pictures.lines(f"{key} over training, type 4a", "figure 7", curves, "epoch", key, log=log)


def _text(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"
