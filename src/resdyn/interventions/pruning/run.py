"""From a trained model and labelled images to a shorter model and what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from resdyn import _checks as checks
from resdyn._display import Displayed, Table, table
from resdyn.data.images import ImageData
from resdyn.errors import InputError
from resdyn.interventions.pruning.ranking import (
    BlockEffect,
    Rung,
    compare_answers,
    logits,
    rank_blocks,
    remove_greedily,
)
from resdyn.interventions.pruning.surgery import droppable_blocks, without
from resdyn.metrics.share import share_interval
from resdyn.models import LoadedModel
from resdyn.stream import find_stream


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers among `images`, with its binomial standard error sqrt(p (1 - p) / n).

    `low` and `high`: 95 % interval (Wilson's), which says something where all or none are right and the error is 0.
    """

    value: float
    error: float
    images: int
    low: float
    high: float


@dataclass(frozen=True, repr=False)
class Pruning(Displayed):
    """What was found: `effects` of single removals (ranked) and `rungs` of more and more of them, on the images that
    blocks were chosen by; `dropped`, the proposal; and accuracies on other images, `change` between them with its
    standard error from the differences image by image. `modules` are the paths to take out."""

    blocks: int
    effects: list[BlockEffect]
    rungs: list[Rung]
    dropped: tuple[int, ...]
    modules: list[str]
    before: Accuracy
    after: Accuracy
    change: float
    change_error: float
    chosen_by: int

    def _table(self) -> Table:
        rows = [
            (
                len(rung.dropped),
                self._path(rung.dropped[-1]),
                f"{rung.logits:.3g}",
                f"{rung.accuracy:+.3g} ± {rung.accuracy_error:.2g}",
                "yes" if len(rung.dropped) <= len(self.dropped) else "",
            )
            for rung in self.rungs
        ]
        accuracies = " -> ".join(f"{a.value:.4g} ± {a.error:.2g}" for a in (self.before, self.after))
        return table(
            f"{len(self.dropped)} of {self.blocks} blocks are proposed for removal",
            ("removed", "the last", "change of logits", "change of accuracy", "proposed"),
            rows,
            f"chosen on {self.chosen_by} images; on {self.after.images} others: accuracy {accuracies}, change "
            f"{self.change:+.4g} ± {self.change_error:.2g}",
        )

    def _path(self, index: int) -> str:
        return next((effect.path for effect in self.effects if effect.index == index), str(index))


def prune(
    loaded: LoadedModel, data: ImageData, tolerance: float = 0.005, choose_by: int = 1000, seed: int = 0
) -> Pruning:
    """Propose which blocks to drop so that accuracy falls by at most `tolerance` (a fraction), and measure the rest.

    The blocks of the stream (found by dataflow) that can be taken out go one by one, the one that changes the logits
    least first; of these rungs the lowest is proposed whose accuracy, on `choose_by` randomly chosen images, is within
    `tolerance`. That choice makes these images look better than others do, so accuracy before and after is told for
    the images of `data` that had no part in it. The model is left as it was.

    Errors: InputError where there are too few images, labels that the model has no output for, or outputs that are no
    table of logits; those of `find_stream`.
    """
    tolerance = checks.number("tolerance", tolerance, "a fraction in [0, 1]", least=0, most=1)
    choose_by, seed = checks.whole("choose_by", choose_by, 2), checks.seed(seed)
    if not 1 < choose_by < len(data) - 1:
        raise InputError(
            f"got choose_by={choose_by} of {len(data)} images, expected at least two images on either side"
        )
    if loaded.num_classes != len(data.class_names):
        raise InputError(f"the model tells {loaded.num_classes} classes apart, {data.name} has {len(data.class_names)}")
    data = data if data.preprocessing is not None else data.prepared(loaded.preprocessing)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    chosen, others = data.subset(order[:choose_by]).in_memory(), data.subset(order[choose_by:])
    example = chosen.inputs([0]).to(next(loaded.model.parameters()))
    stream = find_stream(loaded.model, example)
    found = droppable_blocks(stream, stream.states(example))
    effects = rank_blocks(stream, found, chosen)
    rungs = remove_greedily(stream, found, chosen)
    within = [rung.dropped for rung in rungs if rung.accuracy >= -tolerance]
    dropped = tuple(sorted(max(within, key=lambda gone: len(tuple(gone)), default=())))
    modules = [module for index in dropped if (module := found[index].module) is not None]
    old = logits(loaded.model, others)
    with without(loaded.model, modules):
        new = logits(loaded.model, others)
    _, change, error = compare_answers(new, old, others.labels)
    before, after = (binomial(int((z.argmax(1) == others.labels).sum()), len(others)) for z in (old, new))
    return Pruning(len(stream), effects, rungs, dropped, modules, before, after, change, error, choose_by)


def binomial(right: int, images: int) -> Accuracy:
    """The share, with the standard error and the interval of a binomial one."""
    share = right / images
    return Accuracy(share, math.sqrt(share * (1 - share) / images), images, *share_interval(right, images))
