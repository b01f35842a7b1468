"""Plain training that can be killed and resumed anywhere."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resdyn._display import Displayed, Table, table
from resdyn._hash import tensor_bytes
from resdyn.data.images import ImageData
from resdyn.errors import ComputationError, InputError
from resdyn.monitor.monitor import Monitor
from resdyn.progress import progress_bars
from resdyn.training.augmentation import augmented
from resdyn.training.callbacks import Callback, CallbackState, EpochEnd, Reshaping
from resdyn.training.checkpoint import (
    Checkpoint,
    join_states,
    load_checkpoint,
    save_checkpoint,
    split_states,
    with_prefix,
)
from resdyn.training.precision import computing_as, predict
from resdyn.training.recipe import Recipe

IN_MEMORY_BYTES = 2 * 2**30
Penalty = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True, repr=False)
class History(Displayed):
    """The history of a run.

    Attributes:
        records: One per epoch (epoch, loss, accuracy, learning_rate; see `EpochEnd`).
        results: Of each callback, in order.
        seconds: That training took, of earlier calls of a resumed run too, up to their last checkpoint.
    """

    records: list[dict[str, float]]
    results: list[Any]
    seconds: float

    def _table(self) -> Table:
        columns = list(dict.fromkeys(name for record in self.records for name in record))
        rows = [[f"{record[name]:.6g}" if name in record else "" for name in columns] for record in self.records]
        return table(f"{len(self.records)} epochs", columns, rows, f"{self.seconds:.1f} s")


@dataclass
class _Run:
    """Everything that changes during a run."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    states: list[CallbackState]
    penalty: Penalty | None = None
    records: list[dict[str, float]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Of training so far, of earlier calls too."""
        return time.monotonic() - self.began


def train(
    model: nn.Module,
    data: ImageData,
    recipe: Recipe,
    callbacks: Sequence[Callback | Monitor] = (),
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    penalty: Penalty | None = None,
) -> History:
    """Train `model` in place on `data` by `recipe`; it is left in eval mode.

    On one machine with one number of threads a resumed run equals an uninterrupted one bit for bit: all that is random
    in epoch t (order, augmentation, dropout) is a function of (seed, t). Every epoch sees every image once, except for
    a last batch of a single image, which batch norm could not take.

    Args:
        model: Trained on its own device, in its own precision.
        data: Images and labels, fed as `data.inputs`; use `ImageData.prepared` first.
        recipe: Epochs, optimizer, learning rates.
        callbacks: Called before the first and after every epoch.
        checkpoint: A safetensors file; the same call resumes where an earlier one stopped.
        checkpoint_every: Epochs between two writes of it; it is also written at the end.
        penalty: `penalty(model, inputs)` is added to the cross entropy of every batch; its repr says which run this is.

    Returns:
        The history of the whole run, of the epochs before a resumption too.

    Raises:
        ComputationError: When the loss stops being finite.
        InputError: For a checkpoint of another run, and for fewer than two images.
    """
    path = Path(checkpoint) if checkpoint is not None else None
    data = _cached(data)
    settings = _settings(model, data, recipe, callbacks) | ({"penalty": repr(penalty)} if penalty else {})
    saved = load_checkpoint(path, settings) if path is not None and path.exists() else None
    run = _begin(model, data, recipe, callbacks, saved)
    run.penalty = penalty
    if saved is not None:
        _restore(run, saved, callbacks)
    done = len(run.records)
    showing = progress_bars({"training": recipe.epochs}, before={"training": done})
    with showing as advance, _own_random_state(model), computing_as(recipe, model):
        for epoch in range(done, recipe.epochs):
            torch.manual_seed(_epoch_seed(recipe, epoch))
            end = _epoch(run, data, recipe, epoch)
            run.states = [notify(c, s, end) for c, s in zip(callbacks, run.states, strict=True)]
            if path is not None and ((epoch + 1) % checkpoint_every == 0 or epoch + 1 == recipe.epochs):
                save_checkpoint(path, _snapshot(run, settings))
            advance("training", 1)
    model.eval()
    results = [c.result(s) for c, s in zip(callbacks, run.states, strict=True)]
    return History(records=run.records, results=results, seconds=run.seconds)


def accuracy(model: nn.Module, data: ImageData, batch_size: int = 512) -> float:
    """Fraction of images whose largest output is their label; the model is switched to eval mode.

    Args:
        model: Gives logits (N, C).
        data: Images and labels, moved to the model's device batch by batch.
        batch_size: Images per pass.

    Returns:
        A fraction in [0, 1].

    Example:
        >>> from resdyn.data import load_data
        >>> digits = load_data("digits", "test")
        >>> always_zero = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> for parameter in always_zero.parameters():
        ...     _ = nn.init.zeros_(parameter)
        >>> f"{accuracy(always_zero, digits):.3f}, {(digits.labels == 0).float().mean():.3f}"
        '0.098, 0.098'
    """
    model.eval()
    weight = _weight(model)
    with torch.no_grad():
        right = sum(
            int((model(batch.inputs.to(weight)).argmax(1).cpu() == batch.labels).sum())
            for batch in data.batches(batch_size)
        )
    return right / len(data)


def _begin(
    model: nn.Module, data: ImageData, recipe: Recipe, callbacks: Sequence[Callback | Monitor], saved: Checkpoint | None
) -> _Run:
    if len(data) < 2:
        raise InputError(f"got {len(data)} image, expected at least two to train on")
    model.eval()
    known = [None] * len(callbacks) if saved is None else join_states(saved.progress["states"], saved.tensors)
    states = [c.init(model, data, state=state) for c, state in zip(callbacks, known, strict=True)]
    return _Run(model, _optimizer(model, recipe), states)


def notify(callback: Callback | Monitor, state: CallbackState, end: EpochEnd) -> CallbackState:
    """The callback's state after an epoch.

    Args:
        callback: A callback, or a monitor, which takes the same figures in another form.
        state: What `init` or the last call returned.
        end: The model and the epoch's figures.
    """
    if not isinstance(callback, Monitor):
        return callback.update(state, end)
    done = end.epoch + 1
    return callback.update(state, end.model, done, last=done == end.epochs, loss=end.loss, accuracy=end.accuracy)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def _epoch(run: _Run, data: ImageData, recipe: Recipe, epoch: int) -> EpochEnd:
    """One pass over the images, and its record."""
    rate = recipe.learning_rate(epoch)
    run.optimizer.param_groups[0]["lr"] = rate
    run.model.train()
    loss, right, seen = 0.0, 0, 0
    for positions in _batches(len(data), recipe, epoch):
        inputs = augmented(data.inputs(positions)) if recipe.augment else data.inputs(positions)
        batch_loss, batch_right = _step(run, recipe, inputs, data.labels[positions])
        if not math.isfinite(batch_loss):
            raise ComputationError(
                f"the loss became {batch_loss} in epoch {epoch}: lower the learning rate (lr={recipe.lr})"
            )
        loss, right, seen = loss + batch_loss * len(positions), right + batch_right, seen + len(positions)
    run.model.eval()
    end = EpochEnd(epoch, recipe.epochs, run.model, loss / seen, right / seen, rate, run.optimizer)
    run.records.append({"epoch": epoch, "loss": end.loss, "accuracy": end.accuracy, "learning_rate": end.learning_rate})
    return end


def _batches(images: int, recipe: Recipe, epoch: int) -> list[Tensor]:
    """Positions of each batch of an epoch: a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed(_epoch_seed(recipe, epoch))
    order = torch.randperm(images, generator=generator)
    return [positions for positions in order.split(recipe.batch_size) if len(positions) > 1]


def _epoch_seed(recipe: Recipe, epoch: int) -> int:
    return recipe.seed * 1_000_003 + epoch


def _own_random_state(model: nn.Module) -> AbstractContextManager[None]:
    """Leave the caller's random numbers as they were."""
    device = _weight(model).device
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _step(run: _Run, recipe: Recipe, inputs: Tensor, labels: Tensor) -> tuple[float, int]:
    weight = _weight(run.model)
    labels = labels.to(weight.device)
    inputs = inputs.to(weight)
    logits = predict(recipe, run.model, inputs)
    loss = F.cross_entropy(logits, labels)
    run.optimizer.zero_grad(set_to_none=True)
    (loss if run.penalty is None else loss + run.penalty(run.model, inputs)).backward()
    run.optimizer.step()
    return loss.item(), int((logits.argmax(1) == labels).sum())


def _weight(model: nn.Module) -> Tensor:
    """A parameter, whose device and dtype are those of the inputs."""
    return next(model.parameters())


def _cached(data: ImageData) -> ImageData:
    """Keep all inputs in memory where they fit."""
    one = data.inputs([0])
    return data.in_memory() if one.nbytes * len(data) <= IN_MEMORY_BYTES else data


def _settings(
    model: nn.Module, data: ImageData, recipe: Recipe, callbacks: Sequence[Callback | Monitor]
) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    first = data.inputs([0])
    return {
        **recipe.settings(),
        "data": data.name,
        "split": data.split,
        "images": len(data),
        "classes": list(data.class_names),
        "input_shape": list(first.shape[1:]),
        "data_hash": hashlib.sha256(tensor_bytes(data.labels) + tensor_bytes(first)).hexdigest(),
        "model": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
        "callbacks": [type(c).__name__ for c in callbacks],
    }


def _snapshot(run: _Run, settings: dict[str, Any]) -> Checkpoint:
    plain, tensors = split_states(run.states)
    tensors |= {f"model.{name}": tensor for name, tensor in run.model.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in _optimizer_state(run).items()}
    return Checkpoint(settings, {"records": run.records, "states": plain, "seconds": run.seconds}, tensors)


def _restore(run: _Run, saved: Checkpoint, callbacks: Sequence[Callback | Monitor]) -> None:
    run.records = saved.progress["records"]
    run.began -= saved.progress.get("seconds", 0.0)  # checkpoints of before it was counted have none
    for callback, state in zip(callbacks, run.states, strict=True):
        if isinstance(callback, Reshaping):
            callback.reshape(state, run.model, run.optimizer)
    run.model.load_state_dict(with_prefix(saved.tensors, "model."))
    parameters = dict(run.model.named_parameters())
    for key, tensor in with_prefix(saved.tensors, "optimizer.").items():
        entry, name = key.split(".", 1)
        parameter = parameters[name]
        own = torch.empty_like(parameter) if tensor.shape == parameter.shape else tensor.to(parameter.device)
        run.optimizer.state[parameter][entry] = own.copy_(tensor)  # in the parameter's format: Adam's loop relies on it


def _optimizer_state(run: _Run) -> dict[str, Tensor]:
    """What the optimizer keeps of every parameter, as `<entry>.<parameter>`: momenta, counts of steps."""
    return {
        f"{entry}.{name}": value
        for name, parameter in run.model.named_parameters()
        for entry, value in run.optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }
