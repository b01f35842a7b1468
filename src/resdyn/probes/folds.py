"""Class means and scatter with a tenth of the images left out, ten times: what errors over images are made of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from resdyn.probes.sample import Array, to_numpy
from resdyn.probes.scatter import Scatter

NUM_FOLDS = 10


class Turns:
    """Gives every image a fold: the images of a class take turns, in the order in which they are read."""

    def __init__(self, num_classes: int) -> None:
        self.read = torch.zeros(num_classes, dtype=torch.int64)

    def of(self, labels: Tensor) -> Tensor:
        """Folds (N,) of the next images, by their labels (N,)."""
        labels = labels.cpu()
        members = one_hot(labels, len(self.read))
        before = (members.cumsum(0) - members).gather(1, labels[:, None])[:, 0]
        folds = (self.read[labels] + before) % NUM_FOLDS
        self.read = self.read + members.sum(0)
        return folds


class Folds:
    """Of one layer: sums per fold in a first pass, then the scatter of what each fold leaves."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None
        self.scatters: list[Scatter] = []

    def add_to_means(self, h: Tensor, members: Tensor, folds: Tensor) -> None:
        """Add a batch of the first pass: h (N, d), members (N, C), folds (N,)."""
        own = torch.stack([members[fold == 1].T @ h[fold == 1] for fold in _masks(folds, h)])
        self.sums = own if self.sums is None else self.sums + own

    def begin(self, counts: Tensor) -> None:
        """Between the passes: the class means of what each fold leaves; counts (fold, C) are of the folds."""
        assert self.sums is not None, "the first pass came before"
        counts = counts.to(self.sums)
        for fold in range(NUM_FOLDS):
            left = counts.sum(0) - counts[fold]
            means = (self.sums.sum(0) - self.sums[fold]) / left[:, None]
            self.scatters.append(Scatter(means, left))
        self.sums = None

    def add(self, h: Tensor, labels: Tensor, folds: Tensor) -> None:
        """Add a batch of the second pass."""
        labels = labels.to(h.device)
        for scatter, fold in zip(self.scatters, _masks(folds, h), strict=True):
            scatter.add(h[fold == 0], labels[fold == 0], None)

    def results(self) -> dict[str, Array]:
        """mean (fold, C, d), within_trace (fold, C), within_projected (fold, C, C)."""
        found = [scatter.results() for scatter in self.scatters]
        return {name: np.stack([one[name] for one in found]) for name in ("mean", "within_trace", "within_projected")}


def left_in(counts: Tensor) -> Array:
    """Images of each class that each fold leaves, (fold, C), from those of the folds."""
    return to_numpy((counts.sum(0) - counts).long())


def _masks(folds: Tensor, h: Tensor) -> Iterator[Tensor]:
    """Of each fold, 1 at its images."""
    for fold in range(NUM_FOLDS):
        yield (folds == fold).to(h.device, torch.int8)
