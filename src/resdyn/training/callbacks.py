"""What may watch a training run: three functions and a state that is a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from resdyn.data.images import ImageData

CallbackState = dict[str, Any]


@dataclass(frozen=True, eq=False)
class EpochEnd:
    """What a callback receives after epoch `epoch` (from 0): the model, in eval mode, and the epoch's figures.

    loss: mean cross entropy over the epoch's images, each before the step that it took part in; accuracy: the
    fraction of them that was right then; learning_rate: of the epoch; epochs: of the whole run; optimizer: the one
    that trains the model, for a callback that takes parameters away.
    """

    epoch: int
    epochs: int
    model: nn.Module
    loss: float
    accuracy: float
    learning_rate: float
    optimizer: torch.optim.Optimizer | None = None


class Callback(Protocol):
    """Watches a run without keeping anything itself, so that a run can stop and resume anywhere.

    The state maps names to tensors or to values that JSON can hold; it is saved with every checkpoint.
    """

    def init(self, model: nn.Module, data: ImageData, *, state: CallbackState | None = None) -> CallbackState:
        """The state before the first epoch, or `state` of a run that is resumed; model untrained, in eval mode."""
        ...

    def update(self, state: CallbackState, end: EpochEnd) -> CallbackState:
        """The state after one more epoch."""
        ...

    def result(self, state: CallbackState) -> Any:
        """What the run is to return for this callback."""
        ...


@runtime_checkable
class Reshaping(Protocol):
    """A callback that changes which parts a model has, and can do so again when a run is resumed."""

    def reshape(self, state: CallbackState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Give a model as it was before the run the parts that it had in `state`."""
        ...
