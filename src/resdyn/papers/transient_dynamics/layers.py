"""Appendix A: what a change of the residuals in each layer does to the output."""

from __future__ import annotations

import numpy as np

from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.transient_dynamics.networks import case, logistic
from resdyn.stream import find_stream, log_determinants, sensitivity

IMAGES: dict[Scale, int] = {"tiny": 2, "small": 10, "paper": 3}
EARLY, LATE = 4, 10  # the paper's s_1 and s_2


def run(lab: Lab) -> None:
    """log10 |det M'(s)| over s, M'(s) = d x(T) / d x(s); and |S(s)|, the derivative of the logits."""
    for kind in ("shared", "free"):
        network = lab.trained(case(lab.scale, kind))
        model = logistic(network).double()
        inputs = network.data.inputs(range(IMAGES[lab.scale])).double()
        stream = find_stream(model, inputs[:1])
        early, late = (EARLY, LATE) if len(stream) > LATE else (1, len(stream) - 1)
        logs, sizes = [], []
        for n in range(len(inputs)):
            states = stream.states(inputs[n : n + 1])
            logs.append(log_determinants(stream, states).values.cpu().numpy() / np.log(10))
            sizes.append([float(S.norm()) for S in sensitivity(stream, states)])
        table, norms = np.array(logs), np.array(sizes)
        note = f"log10 |det M'({early})| - log10 |det M'({late})|"
        lab.record(f"{kind}.log_ratio", table[:, early] - table[:, late], "training images", note)
        printed = table[:, early - 1] - table[:, late - 1]
        lab.record(
            f"{kind}.log_ratio_printed", printed, "training images", f"{note}, with the factor I + M(s) as printed"
        )
        ratio = norms[:, early] / norms[:, late]
        lab.record(f"{kind}.norm_ratio", ratio, "training images", f"|S({early})| / |S({late})|, Frobenius")
        layer = np.arange(table.shape[1])
        row = pictures.series("log10 |det M'(s)|", layer, table.mean(0), table.std(0))
        lab.picture(
            f"{kind}.det", pictures.lines(f"{kind}: determinants", "appendix A", [row], "s", "log10 |det M'(s)|")
        )
        row = pictures.series("|S(s)|", layer, norms.mean(0), norms.std(0))
        title = f"{kind}: sensitivity of the logits"
        lab.picture(f"{kind}.norm", pictures.lines(title, "appendix A", [row], "s", "|S(s)|", log=True))
