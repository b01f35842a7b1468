"""Figure 2: residuals layer by layer, their mean and their standard deviation over samples of all classes."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from resdyn.nets import LogisticResNet, layer_map
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.transient_dynamics.networks import LAYERS, SAMPLES, case, logistic, states_of

SETTLED = 1e-2  # standard deviation over samples, mean over neurons, below which residuals count as settled
OSCILLATING = 100  # last layers in which the direction of change is looked at


def run(lab: Lab) -> None:
    """Shared weights and the perceptron unrolled, free weights at their own depth; 200 test images."""
    for kind in ("shared", "free", "mlp"):
        network = lab.trained(case(lab.scale, kind))
        model = logistic(network)
        depth = model.depth if kind == "free" else LAYERS[lab.scale]
        found = course(model, states_of(lab, network, SAMPLES[lab.scale])[0], depth)
        spread = found["std"].mean(1)
        note = f"mean over {found['std'].shape[1]} neurons; {SAMPLES[lab.scale]} test images; {depth} layers"
        lab.record(f"{kind}.first_std", spread[0], note=f"in the first layer; {note}")
        lab.record(f"{kind}.own_std", spread[model.depth - 1], note=f"in layer {model.depth}; {note}")
        lab.record(f"{kind}.last_std", spread[-1], note=f"in the last layer; {note}")
        lab.record(
            f"{kind}.std_from_5", spread[4 : model.depth].max(), note=f"largest in layers 5 to {model.depth}; {note}"
        )
        lab.record(
            f"{kind}.settled", settled(spread), note=f"first layer from which the std stays below {SETTLED}; {note}"
        )
        lab.record(
            f"{kind}.high", (found["mean"][-1] > 0.5).mean(), note=f"share of residuals above 1/2 at the end; {note}"
        )
        lab.record(f"{kind}.change", found["change"][-1], note=f"mean |y(T) - y(T-1)| at the end; {note}")
        turns = found["turns"][-OSCILLATING:]
        lab.record(
            f"{kind}.turns", turns.mean(), note=f"share of changes that reverse the one before, at the end; {note}"
        )
        lab.picture(kind, _picture(kind, found))
    _record_weights(lab)


def course(model: LogisticResNet, x: torch.Tensor, depth: int) -> dict[str, NDArray[np.float64]]:
    """By layer: `mean` and `std` over samples (layer, neuron), mean |y(t) - y(t-1)| and share of reversals (layer,)."""
    rows: dict[str, list[NDArray[np.float64]]] = {"mean": [], "std": [], "change": [], "turns": []}
    before, step = None, None
    with torch.no_grad():
        for _, y in model.walk(x, depth):
            new = torch.zeros_like(y) if before is None else y - before
            turned = torch.zeros_like(y) if step is None else (new * step < 0).to(y)
            for name, value in (
                ("mean", y.mean(0)),
                ("std", y.std(0)),
                ("change", new.abs().mean()),
                ("turns", turned.mean()),
            ):
                rows[name].append(value.double().cpu().numpy())
            before, step = y, new
    return {name: np.stack(values) for name, values in rows.items()}


def settled(spread: NDArray[np.float64]) -> float:
    """The first layer (from 1) from which on the spread stays below `SETTLED`; NaN where it does not."""
    above = np.flatnonzero(spread >= SETTLED)
    layer = 1 if not above.size else int(above[-1]) + 2
    return float(layer) if layer <= len(spread) else float("nan")


def _record_weights(lab: Lab) -> None:
    """Free weights of neighbouring layers: has the matrix become the same towards the output, as the paper says?"""
    model = logistic(lab.trained(case(lab.scale, "free")))
    matrices = [layer_map(block).weight.detach() for block in model.blocks]
    gaps = [float((b - a).norm() / b.norm()) for a, b in itertools.pairwise(matrices)]
    lab.record("free.weights_early", gaps[0], note="|W(2) - W(1)| / |W(2)|, Frobenius")
    lab.record("free.weights_late", gaps[-1], note="|W(T) - W(T-1)| / |W(T)|, Frobenius")
    row = pictures.series("|W(t) - W(t-1)| / |W(t)|", range(2, len(matrices) + 1), gaps)
    title = "Free weights: how far the matrices of neighbouring layers are apart"
    lab.picture("weights", pictures.lines(title, "section 6", [row], "layer t", "relative distance", log=True))


def _picture(kind: str, found: dict[str, NDArray[np.float64]]) -> dict:
    depth = len(found["mean"])
    layer = np.unique(np.geomspace(1, depth, 60).round().astype(int))
    rows = [
        pictures.series("mean residual", layer, found["mean"].mean(1)[layer - 1], style="-"),
        pictures.series("its std over neurons", layer, found["mean"].std(1)[layer - 1], style="-"),
        pictures.series("std over samples", layer, np.maximum(found["std"].mean(1)[layer - 1], 1e-12), style="-"),
        pictures.series(
            "change from layer to layer", layer[1:], np.maximum(found["change"][layer[1:] - 1], 1e-12), style="-"
        ),
    ]
    title = f"{kind}: residuals by layer, means over neurons"
    return pictures.lines(title, "figure 2", rows, "layer", "", log=True, logx=depth > 20)
