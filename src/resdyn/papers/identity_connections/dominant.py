"""Table 5: networks whose kernels are diagonal, so that signals flow along the dominant paths alone."""

from __future__ import annotations

from typing import Any

from resdyn.papers import pictures
from resdyn.papers.identity_connections.networks import DEPTHS, depth, simplified, watched
from resdyn.papers.identity_connections.watch import risk
from resdyn.papers.lab import Lab, Scale

OF_DEPTH: dict[Scale, int] = {"tiny": 2, "small": 1, "paper": 3}


def run(lab: Lab) -> None:
    """Loss and test error of T', of the residual network of its depth, and of T' with a free lower half."""
    for layers in DEPTHS[lab.scale][: OF_DEPTH[lab.scale]]:
        right = {}
        for name, kernels in (("residual", "full"), ("dominant", "dominant"), ("half", "half")):
            if name == "half" and layers != depth(lab.scale):
                continue
            options: dict[str, Any] = {} if kernels == "full" else {"kernels": kernels}
            network, course = watched(lab, simplified(lab.scale, "residual", layers, **options))
            accuracy = lab.result.networks[network.name]["test_accuracy"]
            lab.record(f"{name}.{layers}.loss", risk(network.model, network.data))
            lab.record(f"{name}.{layers}.error", 1 - accuracy)
            right[name] = accuracy, course
        share = right["dominant"][0] / right["residual"][0]
        lab.record(f"share.{layers}", share, note="accuracy of T' over that of the residual network")
        if layers == depth(lab.scale):
            lab.record(
                "half_gain",
                right["half"][0] - right["dominant"][0],
                note="accuracy with a free lower half minus that of T'",
            )
            rows = [pictures.series(name, c["epoch"], c["risk"], style="-") for name, (_, c) in right.items()]
            lab.picture("risk", pictures.lines(f"depth {layers}: training risk", "table 5", rows, "epoch", "risk"))
    deep, shallow = DEPTHS[lab.scale][OF_DEPTH[lab.scale] - 1], depth(lab.scale)
    if deep != shallow:
        losses = [lab.result.numbers[f"dominant.{n}.loss"].value or float("nan") for n in (deep, shallow)]
        lab.record("growth", losses[0] / losses[1], note=f"loss of T' at depth {deep} over that at depth {shallow}")
