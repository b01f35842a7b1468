"""From a trained model and labelled images to a shorter model and its accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from resdyn import _checks as checks
from resdyn._display import Displayed, Table, table
from resdyn._moved import renamed
from resdyn.data.images import ImageData
from resdyn.errors import InputError
from resdyn.interventions.pruning.ranking import (
    BlockEffect,
    PruningStep,
    compare_answers,
    logits,
    rank_blocks,
    remove_greedily,
)
from resdyn.interventions.pruning.surgery import droppable_blocks, without
from resdyn.metrics.share import share_interval
from resdyn.models import LoadedModel
from resdyn.stream import find_stream
from resdyn.stream.placement import like_weights


@dataclass(frozen=True)
class Accuracy:
    """Share of correct predictions.

    Attributes:
        value: the share p.
        error: its binomial standard error sqrt(p (1 - p) / n).
        images: their number n.
        low: lower end of Wilson's 95 % interval, which is informative where all or none are correct and the error is 0.
        high: its upper end.
    """

    value: float
    error: float
    images: int
    low: float
    high: float


@dataclass(frozen=True, repr=False)
class Pruning(Displayed):
    """Which blocks can be removed, and the accuracy before and after.

    Attributes:
        blocks: their number in the stream.
        effects: of single removals, ranked, on the images that blocks were chosen by.
        rungs: steps of more and more removals, on the same images.
        dropped: indices of the blocks that are proposed for removal.
        modules: their module paths.
        before: accuracy of the model on the other images.
        after: accuracy without the dropped blocks on the other images.
        change: ``after - before``.
        change_error: its standard error, from the differences per image.
        chosen_by: number of images that blocks were chosen by.
    """

    blocks: int
    effects: list[BlockEffect]
    rungs: list[PruningStep]
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
    loaded: LoadedModel,
    data: ImageData,
    max_accuracy_loss: float = 0.005,
    num_selection_images: int = 1000,
    seed: int = 0,
    *,
    tolerance: float | None = None,
    choose_by: int | None = None,
) -> Pruning:
    """Propose which blocks to drop so that accuracy falls by at most ``max_accuracy_loss``, and measure the result.

    The blocks of the stream (found by dataflow) that can be removed are removed one by one, the one that changes the
    logits least first. The longest of these steps is proposed whose accuracy, on ``num_selection_images`` randomly
    chosen images, is within ``max_accuracy_loss``. That choice makes these images look better than others do, so
    accuracy before and after is reported for the images of ``data`` that had no part in it. The model is left
    unchanged.

    Args:
        loaded: the trained model, by ``load_model``.
        data: labelled images; resized and normalised for the model unless that has been done.
        max_accuracy_loss: largest acceptable loss of accuracy, a fraction in [0, 1] (default 0.005: half a percentage
            point).
        num_selection_images: images that blocks are chosen by (default 1000); at least two others must remain.
        seed: of the choice of these images.
        tolerance: the former name of ``max_accuracy_loss``, in the same unit.
        choose_by: the former name of ``num_selection_images``.

    Returns:
        The effect of each removal, the proposal, and accuracy before and after.

    Raises:
        InputError: too few images, labels that the model has no output for, or an output that is not a table of logits;
            and as in ``find_stream``.

    Cost:
        n (n + 3) / 2 + 1 passes over the first images for n blocks that can be removed, and 2 over the others.
    """
    if not isinstance(loaded, LoadedModel):
        raise InputError(f"got a {type(loaded).__name__}; expected a loaded model; load it with resdyn.load_model")
    if tolerance is not None:
        max_accuracy_loss = renamed("tolerance", "max_accuracy_loss", tolerance)
    if choose_by is not None:
        num_selection_images = renamed("choose_by", "num_selection_images", choose_by)
    max_accuracy_loss = checks.number(
        "max_accuracy_loss",
        max_accuracy_loss,
        "a fraction in [0, 1]: 0.005 is half a percentage point",
        least=0,
        most=1,
    )
    selected, seed = checks.whole("num_selection_images", num_selection_images, 2), checks.seed(seed)
    if not 1 < selected < len(data) - 1:
        raise InputError(
            f"got num_selection_images={selected} of {len(data)} images, expected at least two images on either side"
        )
    if loaded.num_classes != len(data.class_names):
        raise InputError(f"the model has {loaded.num_classes} classes, {data.name} has {len(data.class_names)}")
    data = data if data.preprocessing is not None else data.prepared(loaded.preprocessing)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    chosen, others = data.subset(order[:selected]).in_memory(), data.subset(order[selected:])
    example = like_weights(chosen.inputs([0]), loaded.model)
    stream = find_stream(loaded.model, example)
    found = droppable_blocks(stream, stream.states(example))
    effects = rank_blocks(stream, found, chosen)
    rungs = remove_greedily(stream, found, chosen)
    within = [rung.dropped for rung in rungs if rung.accuracy >= -max_accuracy_loss]
    dropped = tuple(sorted(max(within, key=lambda gone: len(tuple(gone)), default=())))
    modules = [module for index in dropped if (module := found[index].module) is not None]
    old = logits(loaded.model, others)
    with without(loaded.model, modules):
        new = logits(loaded.model, others)
    _, change, error = compare_answers(new, old, others.labels)
    before, after = (binomial(int((z.argmax(1) == others.labels).sum()), len(others)) for z in (old, new))
    return Pruning(len(stream), effects, rungs, dropped, modules, before, after, change, error, selected)


def binomial(right: int, images: int) -> Accuracy:
    """The share of correct predictions, with its standard error and interval."""
    share = right / images
    return Accuracy(share, math.sqrt(share * (1 - share) / images), images, *share_interval(right, images))
