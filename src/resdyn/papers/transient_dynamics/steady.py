"""Figure 5 and the eigenvalues of section 6: class means of the residuals after 1000 layers, and what they rest on."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from resdyn.nets import layer_map
from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.transient_dynamics import theory
from resdyn.papers.transient_dynamics.networks import LAYERS, case, logistic, states_of

IMAGES: dict[Scale, int] = {"tiny": 40, "small": 500, "paper": 500}
APART = 1e-2  # class means of a neuron that differ by less count as the same
SHOWN = 200  # neurons in a picture: those whose class means differ most


def run(lab: Lab) -> None:
    """Spread within classes and between their means; eigenvalues of equation 3 at the mean residual of each class."""
    for kind in ("shared", "mlp"):
        network = lab.trained(case(lab.scale, kind))
        model = logistic(network)
        x, labels = states_of(lab, network, IMAGES[lab.scale])
        with torch.no_grad():
            ((_, y),) = deque(model.walk(x, LAYERS[lab.scale]), maxlen=1)  # the last alone
        classes = np.unique(labels)
        means = torch.stack([y[labels == c].mean(0) for c in classes])
        stds = torch.stack([y[labels == c].std(0) for c in classes])
        differ = (means.max(0).values - means.min(0).values) > APART
        note = f"layer {LAYERS[lab.scale]}, {len(labels)} test images"
        lab.record(f"{kind}.within_std", stds.mean(1).cpu().numpy(), "classes", f"mean over neurons; {note}")
        lab.record(
            f"{kind}.differ",
            100 * differ.double().mean().item(),
            note=f"per cent of neurons whose class means differ; {note}",
        )
        apart = torch.cdist(means, means, p=float("inf"))[~torch.eye(len(classes), dtype=torch.bool)]
        lab.record(
            f"{kind}.least_apart", apart.min().item(), note=f"largest difference of the closest two class means; {note}"
        )
        _draw(lab, kind, means, stds)
        if kind == "shared":
            _record_eigenvalues(lab, means, layer_map(model.blocks[0]).weight.detach(), classes.tolist())


def _record_eigenvalues(lab: Lab, means: torch.Tensor, W: torch.Tensor, classes: list[int]) -> None:
    positive, largest = [], []
    for c, mean in zip(classes, means, strict=True):
        values = theory.stability(mean, W)
        count = int((values.real > 1e-9).sum())
        positive.append(count)
        largest.append(float(values.real[0]))
        move = float(theory.residual_flow(mean, W).abs().max())
        lab.record(
            f"class{c}.eigenvalue", largest[-1], note=f"largest real part; {count} positive; max |dy/dt| {move:.1e}"
        )
    counts = np.array(positive)
    lab.record(
        "saddles",
        (counts == 1).sum(),
        note=f"classes with exactly one eigenvalue of positive real part, of {len(counts)}",
    )
    lab.record("positive", counts, "classes", "eigenvalues of positive real part, above 1e-9")
    single = np.array(largest)[counts == 1]
    lab.record("saddle.eigenvalue", single if single.size else np.nan, "classes with one", "the positive eigenvalue")
    lab.record("largest.eigenvalue", largest, "classes", "largest real part")


def _draw(lab: Lab, kind: str, means: torch.Tensor, stds: torch.Tensor) -> None:
    chosen = (means.max(0).values - means.min(0).values).argsort(descending=True)[:SHOWN]
    for name, values in (("mean", means), ("std", stds)):
        title = f"{kind}: {name} of the residuals by class at the last layer, {len(chosen)} neurons that differ most"
        lab.picture(
            f"{kind}.{name}", pictures.heat(title, "figure 5", values[:, chosen].cpu().numpy(), "neuron", "class")
        )
