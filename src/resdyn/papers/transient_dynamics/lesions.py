"""Sections 1 and 4: a layer's weights removed or replaced by noise in a trained network, early against late.

The paper takes from lesion studies that damage to the first layers harms more, and derives it for a change of the
residuals (see `layers`); it shows no lesion. Here one layer at a time has its weights and biases set to zero, or noise
of the same standard deviation added to its weights. Shared weights are damaged in that one layer alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn.nets import LogisticResNet, layer_map
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.transient_dynamics.networks import NOISE_IMAGES, SEEDS, case, logistic, states_of

KINDS = ("shared", "free")
LESIONS = {"zero": "weights and bias zero", "noise": "noise of their standard deviation added to the weights"}


def run(lab: Lab) -> None:
    """Per cent of the right predictions that are lost, layer by layer; first third of the layers less the last."""
    for kind in KINDS:
        lost = np.array([_of_seed(lab, kind, seed) for seed in SEEDS[lab.scale]])  # (seed, lesion, layer)
        third = max(1, lost.shape[-1] // 3)
        early, late = lost[..., :third].mean(-1), lost[..., -third:].mean(-1)
        for k, (name, what) in enumerate(LESIONS.items()):
            note = f"per cent of right predictions lost, {third} layers; {what}; {NOISE_IMAGES[lab.scale]} test images"
            lab.record(f"{kind}.{name}.early", early[:, k], "seeds", note)
            lab.record(f"{kind}.{name}.late", late[:, k], "seeds", note)
            lab.record(f"{kind}.{name}.difference", early[:, k] - late[:, k], "seeds", f"early less late, {note}")
        layer = np.arange(1, lost.shape[-1] + 1)
        spread = lost.std(0, ddof=1) if len(lost) > 1 else np.zeros(lost.shape[1:])
        rows = [pictures.series(LESIONS[n], layer, lost.mean(0)[k], spread[k]) for k, n in enumerate(LESIONS)]
        title = f"{kind} weights: right predictions lost when one layer is damaged"
        lab.picture(kind, pictures.lines(title, "sections 1 and 4", rows, "layer", "per cent lost"))


def lost_predictions(model: LogisticResNet, x: Tensor, labels: Tensor, seed: int) -> NDArray[np.float64]:
    """(lesion, layer): share of the predictions right without a lesion that are wrong with it; x is x(0) (N, width)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        right = model.classifier(model.blocks(x)).argmax(1) == labels
        rows = []
        for lesion in LESIONS:
            damaged = [_damaged(model, x, layer, lesion, generator) for layer in range(model.depth)]
            rows.append([float((d.argmax(1) != labels)[right].double().mean()) for d in damaged])
    return np.array(rows)


def _damaged(model: LogisticResNet, x: Tensor, layer: int, lesion: str, generator: torch.Generator) -> Tensor:
    """Logits with one layer damaged."""
    for number, block in enumerate(model.blocks):
        z = layer_map(block)(x)
        if number == layer:
            z = torch.zeros_like(z) if lesion == "zero" else z + x @ _noise(layer_map(block).weight, generator).T
        x = torch.sigmoid(z) + (x if block.shortcut is not None else 0)
    return model.classifier(x)


def _noise(weight: Tensor, generator: torch.Generator) -> Tensor:
    return weight.std() * torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)


def _of_seed(lab: Lab, kind: str, seed: int) -> NDArray[np.float64]:
    network = lab.trained(case(lab.scale, kind, seed))
    x, labels = states_of(lab, network, NOISE_IMAGES[lab.scale])
    return 100 * lost_predictions(logistic(network), x, torch.as_tensor(labels).to(x.device), seed)
