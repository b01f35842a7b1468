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
    """What a callback receives after an epoch: the model and the epoch's figures.

    Attributes:
        epoch: The epoch that has ended, counted from 0.
        epochs: Epochs of the whole run.
        model: The network, in eval mode.
        loss: Mean cross entropy (nats) over the epoch's images, each before the step that it took part in.
        accuracy: The fraction of these images that was right then, in [0, 1].
        learning_rate: Of the epoch.
        optimizer: The one that trains the model, for a callback that takes parameters away.
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
        """The state before the first epoch, or `state` of a run that is resumed.

        Args:
            model: The untrained network, in eval mode.
            data: The images that it will be trained on.
            state: That of a resumed run; None: the run begins.

        Returns:
            The state.
        """
        ...

    def update(self, state: CallbackState, end: EpochEnd) -> CallbackState:
        """The state after one more epoch.

        Args:
            state: What `init` or `update` returned; it is not changed.
            end: The model and the epoch's figures.

        Returns:
            The new state.
        """
        ...

    def result(self, state: CallbackState) -> Any:
        """What the run is to return for this callback, in `History.results`.

        Args:
            state: The last one.
        """
        ...


@runtime_checkable
class Reshaping(Protocol):
    """A callback that changes which parts a model has, and can do so again when a run is resumed."""

    def reshape(self, state: CallbackState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Give a model as it was before the run the parts that it had in `state`.

        Args:
            state: That of the run to resume.
            model: The network as it was before the run, changed in place.
            optimizer: That of the network, changed in place.
        """
        ...
