"""Figure 3: the neuron that each class's read-out is most sensitive to, its residuals and their sum."""

from __future__ import annotations

import numpy as np
import torch

from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.transient_dynamics.networks import case, logistic, states_of

PER_CLASS: dict[Scale, int] = {"tiny": 10, "small": 500, "paper": 800}  # the rarest class has 892 test images


def run(lab: Lab) -> None:
    """Whether x(T), mean over a class, is largest of the ten neurons at that class's own."""
    for kind in ("shared", "free"):
        network = lab.trained(case(lab.scale, kind))
        model = logistic(network)
        weight = model.classifier.weight
        neurons = weight.argmax(1)  # of each class
        x, labels = states_of(lab, network, PER_CLASS[lab.scale] * weight.shape[0])
        with torch.no_grad():
            steps = [(state[:, neurons], y[:, neurons]) for state, y in model.walk(x)]
        sums, residuals = (torch.stack(rows).double().cpu().numpy() for rows in zip(*steps))  # (layer, sample, neuron)
        classes = np.arange(weight.shape[0])
        own = np.stack([[rows[:, labels == c].mean(1) for c in classes] for rows in (sums, residuals)])
        largest = own[0, :, -1].argmax(1) == classes  # (class,), of the mean state at the end
        per_image = sums[-1].argmax(1) == labels
        lab.record(f"{kind}.classes", largest.sum(), note=f"{len(classes)} classes; {len(labels)} test images")
        lab.record(f"{kind}.images", 100 * per_image, "test images", "per cent whose own class's neuron is largest")
        transient = residuals.sum(0).argmax(1) == labels  # without x(0)
        note = "per cent whose own class's neuron has the largest sum of residuals"
        lab.record(f"{kind}.transients", 100 * transient, "test images", note)
        own_sum = own[1].sum(1).argmax(1) == classes
        lab.record(f"{kind}.transient_classes", own_sum.sum(), note=f"the same of class means; {len(classes)} classes")
        if kind == "shared":
            _draw(lab, own)


def _draw(lab: Lab, own: np.ndarray) -> None:
    layers = np.arange(1, own.shape[2] + 1)
    for row, key, what in ((own[1], "residuals", "residual"), (own[0], "cumulative", "cumulative x(t)")):
        rows = [pictures.series(f"class {c}", layers, row[c, :, c]) for c in range(len(row))]
        title = f"Each class's most sensitive neuron: {what}, mean over its images"
        lab.picture(key, pictures.lines(title, "figure 3", rows, "layer", what))
