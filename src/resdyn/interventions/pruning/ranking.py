"""The importance of every block: what its removal does to the logits and to the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from resdyn._display import Displayed, Table, table
from resdyn._moved import renamed
from resdyn.capturing.selection import LabelledInputs
from resdyn.interventions.pruning.inputs import as_labelled, logits
from resdyn.interventions.pruning.surgery import RemovalCandidate, without
from resdyn.stream import ResidualStream
from resdyn.stream.placement import model_device

STEP_IMAGES = 64  # images over which the residual itself is measured


@dataclass(frozen=True, repr=False)
class BlockEffect:
    """What the removal of one block alone does; means over images, NaN for a block that cannot be removed.

    Attributes:
        index: of the block.
        path: module that holds its branch.
        step: ``|h_{i+1} - h_i| / |h_i|``, the residual that would be lost (NaN where the shape changes).
        logits: ``|z' - z| / |z|``.
        accuracy: change of the share of correct predictions.
        accuracy_error: its standard error, from the differences per image.
        droppable: the module to remove, or why there is none.
    """

    index: int
    path: str
    step: float
    logits: float
    accuracy: float
    accuracy_error: float
    droppable: RemovalCandidate

    def __repr__(self) -> str:
        return (
            f"BlockEffect({self.index}, {self.path!r}, step={self.step:.3g}, logits={self.logits:.3g}, "
            f"accuracy={self.accuracy:+.3g} ± {self.accuracy_error:.2g})"
        )


class BlockEffects(list[BlockEffect], Displayed):
    """Effects of single removals, as a list that shows itself as a table."""

    __repr__ = Displayed.__repr__

    def _table(self) -> Table:
        rows = [
            (e.index, e.path or "(model)", f"{e.step:.3g}", *_changes(e), e.droppable.reason or "yes") for e in self
        ]
        columns = ("block", "module", "lost step", "change of logits", "change of accuracy", "can be removed")
        return table(f"What the removal of each of {len(self)} blocks does", columns, rows)


@dataclass(frozen=True)
class PruningStep:
    """The removal of one more block; means over images.

    Attributes:
        dropped: indices of all blocks removed so far, in order of removal.
        logits: ``|z' - z| / |z|``.
        accuracy: change of the share of correct predictions.
        accuracy_error: its standard error, from the differences per image.
    """

    dropped: tuple[int, ...]
    logits: float
    accuracy: float
    accuracy_error: float


def _changes(effect: BlockEffect | PruningStep) -> tuple[str, str]:
    return f"{effect.logits:.3g}", f"{effect.accuracy:+.3g} ± {effect.accuracy_error:.2g}"


def rank_blocks(stream: ResidualStream, candidates: Sequence[RemovalCandidate], data: Any) -> BlockEffects:
    """Every block with the effect of its removal, by ascending change of the logits, those that must stay last.

    Args:
        stream: of the trained model.
        candidates: from ``droppable_blocks``, one per block.
        data: labelled images, prepared for the model, or (inputs, labels), as `resdyn.capture` takes them.

    Returns:
        One effect per block.

    Cost:
        One pass over ``data`` for each block that can be removed, and one more.
    """
    data = as_labelled(stream.model, data)
    reference = logits(stream.model, data)
    steps = _steps(stream, data)
    effects = []
    for block, candidate in zip(stream, candidates, strict=True):
        change = (float("nan"),) * 3
        if candidate.module is not None:
            with without(stream.model, [candidate.module]):
                change = compare_answers(logits(stream.model, data), reference, data.labels)
        effects.append(BlockEffect(block.index, block.path, steps[block.index], *change, candidate))
    return BlockEffects(sorted(effects, key=lambda e: (e.droppable.module is None, e.logits, e.index)))


def remove_greedily(
    stream: ResidualStream,
    candidates: Sequence[RemovalCandidate],
    data: Any,
    limit: int | None = None,
    *,
    most: int | None = None,
) -> list[PruningStep]:
    """Remove one block after the other, each time the one whose removal changes the logits least in total.

    Args:
        stream: of the trained model; restored afterwards.
        candidates: from ``droppable_blocks``, one per block.
        data: labelled images, prepared for the model, or (inputs, labels), as `resdyn.capture` takes them.
        limit: largest number of removals; None (default) for all that can be removed.
        most: the former name of ``limit``.

    Returns:
        One step per removal, each with all blocks removed so far.

    Cost:
        n (n + 1) / 2 passes over ``data`` for n blocks that can be removed.
    """
    if most is not None:
        limit = renamed("most", "limit", most)
    data = as_labelled(stream.model, data)
    reference = logits(stream.model, data)
    left = {candidate.index: candidate.module for candidate in candidates if candidate.module is not None}
    removed: dict[int, str] = {}
    steps: list[PruningStep] = []
    for _ in range(len(left) if limit is None else min(limit, len(left))):
        changes = {}
        for index, module in left.items():
            with without(stream.model, [*removed.values(), module]):
                changes[index] = compare_answers(logits(stream.model, data), reference, data.labels)
        best = min(changes, key=lambda index: (changes[index][0], index))
        removed[best] = left.pop(best)
        steps.append(PruningStep(tuple(removed), *changes[best]))
    return steps


def compare_answers(new: Tensor, old: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """Mean relative change of the logits, change of the share of correct predictions, and its standard error."""
    change = ((new - old).norm(dim=1) / old.norm(dim=1)).mean()
    difference = (new.argmax(1) == labels).double() - (old.argmax(1) == labels).double()
    return float(change), float(difference.mean()), float(difference.std() / len(difference) ** 0.5)


def _steps(stream: ResidualStream, data: LabelledInputs) -> list[float]:
    first = data.read(torch.arange(min(STEP_IMAGES, len(data)))).to(model_device(stream.model))
    states = stream.states(*first.args, **first.kwargs)
    steps = []
    for before, after in zip(states, states.outputs):
        if before.shape == after.shape:
            steps.append(float(((after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)).mean()))
        else:
            steps.append(float("nan"))
    return steps
