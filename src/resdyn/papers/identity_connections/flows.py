"""Figures 10 and 12: dominant gradient flows of trained networks, layer by layer and over training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdyn.papers import pictures
from resdyn.papers.identity_connections.networks import KINDS, depth, fledged, simplified, watched
from resdyn.papers.identity_connections.watch import HISTOGRAM
from resdyn.papers.lab import Lab

FloatArray = NDArray[np.float64]


def run(lab: Lab) -> None:
    """sigma of equation 13 of simplified and fully-fledged networks; gradients of the final activation."""
    layers = depth(lab.scale)
    courses = {kind: watched(lab, simplified(lab.scale, kind, layers))[1] for kind in KINDS}
    number = np.arange(1, layers - 1)  # a^(1) .. a^(L-2): a^(L-1) feeds its own mean alone
    _compare(lab, "simplified", courses, number, f"figure 12 (a), depth {layers}")
    _gradients(lab, courses["residual"])
    courses = {kind: watched(lab, fledged(lab.scale, kind))[1] for kind in KINDS}
    blocks = len(courses["plain"]["fraction"][0]) - 1
    _compare(lab, "fledged", courses, 3 + 2 * np.arange(blocks), "figure 12 (b), ends of blocks")


def _compare(lab: Lab, name: str, courses: dict[str, Any], number: NDArray[np.int_], where: str) -> None:
    """Residual beside plain: (epoch, layer) without the last layer, whose flow is dominant by construction."""
    plain, residual = (np.array(courses[kind]["fraction"])[:, : len(number)] for kind in KINDS)
    epochs = courses["plain"]["flow_epoch"]
    at = f"epochs {', '.join(map(str, epochs))}"
    for key, layer in (("shallow", 0), ("deep", -1)):
        ratio = residual[:, layer].mean() / max(plain[:, layer].mean(), 1e-12)
        lab.record(
            f"{name}.{key}", ratio, note=f"sigma of residual over plain at layer {number[layer]}, means over {at}"
        )
    lab.record(
        f"{name}.untrained_margin", float((residual[0] - plain[0]).min()), note="least residual - plain, untrained"
    )
    lab.record(f"{name}.last_margin", float((residual[-1] - plain[-1]).min()), note="least residual - plain, trained")
    lab.record(
        f"{name}.rise", float(residual[0, -1] - residual[0, 0]), note="residual, untrained: deepest minus first layer"
    )
    lab.record(
        f"{name}.plain_rise", float(plain[0, -1] - plain[0, 0]), note="plain, untrained: deepest minus first layer"
    )
    lab.record(
        f"{name}.fall",
        float((residual[0] - residual[-1]).mean()),
        note="residual: untrained minus trained, mean over layers",
    )
    lab.record(
        f"{name}.plain_fall",
        float((plain[0] - plain[-1]).mean()),
        note="plain: untrained minus trained, mean over layers",
    )
    rows = [
        pictures.series(f"{kind}, {when}", number, values[row], style=style)
        for kind, values in (("plain", plain), ("residual", residual))
        for when, row, style in (("untrained", 0, "o-"), (f"epoch {epochs[-1]}", -1, "s:"))
    ]
    lab.picture(name, pictures.lines(f"{name}: fraction of dominant flows", where, rows, "layer", "sigma"))
    x = np.arange(len(epochs))
    over = [pictures.series(kind, x, values.mean(1)) for kind, values in (("plain", plain), ("residual", residual))]
    title = f"{name}: sigma over training, mean over layers"
    lab.picture(f"{name}.course", pictures.lines(title, "appendix D.4.2", over, f"measurement ({at})", "sigma"))


def _gradients(lab: Lab, course: dict[str, Any]) -> None:
    """The gradients of the loss with respect to the final activation, collected over the first epochs."""
    mean, second, fourth = np.array(course["moments"]).mean(0)
    spread = float((second - mean**2) ** 0.5)
    lab.record("gradient.mean", float(mean), note="of the loss of single images, residual network")
    lab.record("gradient.std", spread)
    lab.record("gradient.centre", abs(float(mean)) / spread, note="|mean| over standard deviation")
    lab.record("gradient.kurtosis", float(fourth / second**2 - 3), note="excess kurtosis, 0 for a normal law")
    rows = [pictures.series("gradients", (HISTOGRAM[1:] + HISTOGRAM[:-1]) / 2, course["counts"], style="-")]
    lab.picture(
        "gradients", pictures.lines("gradients of the final activation", "figure 10", rows, "gradient", "count")
    )
