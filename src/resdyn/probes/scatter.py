"""Within-class scatter of one layer, as the features probe sums it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from resdyn.probes.sample import Array, to_numpy


class Scatter:
    """Within-class scatter of one layer about class means that are known, summed batch by batch."""

    def __init__(self, means: Tensor, counts: Tensor) -> None:
        self.means, self.counts, self.present = means, counts, counts > 0
        centred = means - means[self.present].mean(0)
        self.centred = torch.where(self.present[:, None], centred, 0.0)
        self.gram = self.centred @ self.centred.T
        self.trace = torch.zeros_like(counts)
        self.projected = torch.zeros_like(self.gram)
        self.agrees = self.correct = 0.0

    def add(self, h: Tensor, labels: Tensor, predictions: Tensor | None) -> None:
        """Add a batch: states h (N, d), labels (N,), predictions (N,) where they are of these classes."""
        labels = labels.to(h.device)
        deviation = h - self.means[labels]
        self.trace += class_members(labels, len(self.means)).T @ deviation.square().sum(1)
        along = deviation @ self.centred.T
        self.projected += along.T @ along
        # |h - mu_c|^2 up to what does not depend on c
        distance = self.gram.diagonal() - 2 * (along + self.gram[labels])
        nearest = torch.where(self.present, distance, torch.inf).argmin(1)
        self.correct += float((nearest == labels).sum())
        self.agrees += float("nan") if predictions is None else float((nearest == predictions.to(h.device)).sum())

    def results(self) -> dict[str, Array]:
        """The sums as means, in float64."""
        n, absent = self.counts.sum(), ~self.present
        projected = self.projected / n
        projected[absent], projected[:, absent] = torch.nan, torch.nan
        return {
            "mean": to_numpy(self.means),
            "within_trace": to_numpy(self.trace / self.counts),
            "within_projected": to_numpy(projected),
            "nearest_mean_agrees": np.asarray(self.agrees / float(n)),
            "nearest_mean_accuracy": np.asarray(self.correct / float(n)),
        }


def class_members(labels: Tensor, num_classes: int) -> Tensor:
    """(N, C), one where the image belongs to the class: sums by matrix product are the same every time."""
    return one_hot(labels, num_classes).double()
