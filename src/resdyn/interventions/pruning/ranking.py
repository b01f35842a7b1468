"""How much every block matters: what its removal does to the logits and to the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resdyn._display import Displayed, Table, table
from resdyn.data.images import ImageData
from resdyn.interventions.pruning.surgery import Droppable, without
from resdyn.stream import ResidualStream

BATCH = 256
STEP_IMAGES = 64  # images over which the residual itself is measured


@dataclass(frozen=True, repr=False)
class BlockEffect:
    """What the removal of block `index` alone does.

    `step`: |h_{i+1} - h_i| / |h_i|, the residual that would be lost (NaN where the shape changes). `logits`:
    |z' - z| / |z|; `accuracy`: change of the share of right answers, with `accuracy_error`, its standard error from the
    differences image by image. Means over images; NaN for a block that cannot be removed.
    """

    index: int
    path: str
    step: float
    logits: float
    accuracy: float
    accuracy_error: float
    droppable: Droppable

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
class Rung:
    """`dropped` blocks in the order in which they went, and what is left of logits and answers (as `BlockEffect`)."""

    dropped: tuple[int, ...]
    logits: float
    accuracy: float
    accuracy_error: float


def _changes(effect: BlockEffect | Rung) -> tuple[str, str]:
    return f"{effect.logits:.3g}", f"{effect.accuracy:+.3g} ± {effect.accuracy_error:.2g}"


def rank_blocks(stream: ResidualStream, found: Sequence[Droppable], data: ImageData) -> BlockEffects:
    """Every block with the effect of its removal, the least change of the logits first, those that must stay last.

    Cost: one pass over `data` for each block that can be removed.
    """
    answers = logits(stream.model, data)
    steps = _steps(stream, data)
    effects = []
    for block, candidate in zip(stream, found, strict=True):
        change = (float("nan"),) * 3
        if candidate.module is not None:
            with without(stream.model, [candidate.module]):
                change = compare_answers(logits(stream.model, data), answers, data.labels)
        effects.append(BlockEffect(block.index, block.path, steps[block.index], *change, candidate))
    return BlockEffects(sorted(effects, key=lambda e: (e.droppable.module is None, e.logits, e.index)))


def remove_greedily(
    stream: ResidualStream, found: Sequence[Droppable], data: ImageData, most: int | None = None
) -> list[Rung]:
    """One block after the other goes, each time the one without which the logits change least in all.

    `most`: how many at most. Cost: n (n + 1) / 2 passes over `data` for n blocks that can be removed.
    """
    answers = logits(stream.model, data)
    left = {candidate.index: candidate.module for candidate in found if candidate.module is not None}
    gone: dict[int, str] = {}
    rungs: list[Rung] = []
    for _ in range(len(left) if most is None else min(most, len(left))):
        tried = {}
        for index, module in left.items():
            with without(stream.model, [*gone.values(), module]):
                tried[index] = compare_answers(logits(stream.model, data), answers, data.labels)
        best = min(tried, key=lambda index: (tried[index][0], index))
        gone[best] = left.pop(best)
        rungs.append(Rung(tuple(gone), *tried[best]))
    return rungs


def logits(model: nn.Module, data: ImageData) -> Tensor:
    """(images, classes), in eval mode."""
    weight = next(model.parameters())
    with torch.no_grad():
        return torch.cat([model(batch.inputs.to(weight)).cpu() for batch in data.batches(BATCH)])


def compare_answers(new: Tensor, old: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """Mean relative change of the logits, change of the share of right answers, and its standard error."""
    change = ((new - old).norm(dim=1) / old.norm(dim=1)).mean()
    difference = (new.argmax(1) == labels).double() - (old.argmax(1) == labels).double()
    return float(change), float(difference.mean()), float(difference.std() / len(difference) ** 0.5)


def _steps(stream: ResidualStream, data: ImageData) -> list[float]:
    weight = next(stream.model.parameters())
    states = stream.states(data.inputs(range(min(STEP_IMAGES, len(data)))).to(weight))
    steps = []
    for before, after in zip(states, states.outputs):
        if before.shape == after.shape:
            steps.append(float(((after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)).mean()))
        else:
            steps.append(float("nan"))
    return steps
