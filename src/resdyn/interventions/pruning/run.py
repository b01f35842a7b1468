"""From a trained model and labelled images to a shorter model and its accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from resdyn import _checks as checks
from resdyn._display import Displayed, Table, table
from resdyn._moved import renamed
from resdyn.capturing.selection import Data, LabelledInputs
from resdyn.errors import InputError
from resdyn.interventions.pruning.inputs import held, logits, model_and_inputs
from resdyn.interventions.pruning.ranking import (
    BlockEffect,
    PruningStep,
    compare_answers,
    rank_blocks,
    remove_greedily,
)
from resdyn.interventions.pruning.surgery import droppable_blocks, without
from resdyn.metrics.share import share_interval
from resdyn.models import LoadedModel
from resdyn.stream import Granularity, find_stream
from resdyn.stream.placement import model_device


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
    model: nn.Module | LoadedModel,
    data: Data,
    max_accuracy_loss: float = 0.005,
    num_selection_images: int | None = None,
    seed: int = 0,
    *,
    granularity: Granularity = "join",
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
        model: the trained model, by ``load_model``, or a module in eval mode.
        data: labelled images, resized and normalised for the model unless that has been done; or (inputs, labels), a
            data set or a ``DataLoader``, as ``resdyn.capture`` takes them.
        max_accuracy_loss: largest acceptable loss of accuracy, a fraction in [0, 1] (default 0.005: half a percentage
            point).
        num_selection_images: images that blocks are chosen by; at least two others must remain. None (default): half of
            them, at most 1000.
        seed: of the choice of these images.
        granularity: "join", or "layer" for transformers: a layer of attention and feed-forward is one block.
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
    network, labelled = model_and_inputs(model, data)
    asked = min(1000, len(labelled) // 2) if num_selection_images is None else num_selection_images
    selected, seed = checks.whole("num_selection_images", asked, 2), checks.seed(seed)
    if not 1 < selected < len(labelled) - 1:
        raise InputError(
            f"got num_selection_images={selected} of {len(labelled)} images, expected at least two images on "
            "either side"
        )
    order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(seed))
    chosen, others = held(labelled.subset(order[:selected])), labelled.subset(order[selected:])
    example = chosen.read(torch.arange(1)).to(model_device(network))
    stream = find_stream(network, *example.args, granularity=granularity, **example.kwargs)  # type: ignore[arg-type]
    _check_classes(logits(network, chosen.subset(torch.arange(1))).shape[1], labelled)
    found = droppable_blocks(stream, stream.states(*example.args, **example.kwargs))
    effects = rank_blocks(stream, found, chosen)
    rungs = remove_greedily(stream, found, chosen)
    within = [rung.dropped for rung in rungs if rung.accuracy >= -max_accuracy_loss]
    dropped = tuple(sorted(max(within, key=lambda gone: len(tuple(gone)), default=())))
    modules = [module for index in dropped if (module := found[index].module) is not None]
    old = logits(network, others)
    with without(network, modules):
        new = logits(network, others)
    _, change, error = compare_answers(new, old, others.labels)
    before, after = (binomial(int((z.argmax(1) == others.labels).sum()), len(others)) for z in (old, new))
    return Pruning(len(stream), effects, rungs, dropped, modules, before, after, change, error, selected)


def _check_classes(outputs: int, data: LabelledInputs) -> None:
    """Refuse labels that the model has no output for, and named classes that are not its own."""
    named = None if data.class_names is None else len(data.class_names)
    highest = int(data.labels.max()) + 1
    if (named is not None and named != outputs) or highest > outputs:
        raise InputError(f"the model has {outputs} classes, {data.name} has {named or highest}")


def binomial(right: int, images: int) -> Accuracy:
    """The share of correct predictions, with its standard error and interval."""
    share = right / images
    return Accuracy(share, math.sqrt(share * (1 - share) / images), images, *share_interval(right, images))
