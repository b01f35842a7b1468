"""Adaptive depth and monitors in the Trainer of Hugging Face transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from resdyn.errors import InputError, require
from resdyn.integrations.watching import Watching
from resdyn.monitor.monitor import Monitor
from resdyn.training.adaptive import AdaptiveDepth
from resdyn.training.depth import follow_depth_on_load


def huggingface_adaptive_depth(rule: AdaptiveDepth, inputs: Mapping[str, Any]) -> Any:
    """A `TrainerCallback` that applies `rule` at the end of every epoch.

    The loss of an epoch is the mean of those that the Trainer logged since the last one, so `logging_strategy` must be
    "steps" or "epoch"; with "epoch" an epoch's loss is known, and acted upon, one epoch later. A number of layers in
    the model's config (`num_hidden_layers` and the like, `depths`) follows, so that what `save_pretrained` writes loads
    by `from_pretrained`; a Trainer that resumes from a checkpoint shrinks its model first (the history starts again).
    Optimizer and scheduler stay those of the Trainer.

    Args:
        rule: When a block is removed.
        inputs: A batch as the model is called with, tensors of any device by argument name. Residuals are compared on
            it: at most `rule.samples` of its rows, without `labels` or `label`.

    Returns:
        The callback. Its `rows` are the history (see `AdaptiveDepth`).

    Raises:
        MissingExtraError: Without transformers.
        InputError: While training, where no loss has been logged for two epochs.

    Example:
        ::

            trainer = Trainer(model, TrainingArguments(logging_strategy="epoch"), train_dataset=dataset)
            callback = huggingface_adaptive_depth(AdaptiveDepth(), {"input_ids": token_ids})
            trainer.add_callback(callback)
            trainer.train()
            callback.rows[-1]["depths"]
    """
    base = require("transformers", "hf").TrainerCallback

    class AdaptiveDepthCallback(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.state: dict[str, Any] | None = None
            self.losses: list[float] = []
            self.inputs: dict[str, Any] = {}

        @property
        def rows(self) -> list[dict[str, Any]]:
            return [] if self.state is None else self.state["rows"]

        def on_init_end(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
            follow_depth_on_load(model)  # before a checkpoint is loaded to resume from

        def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
            device = next(model.parameters()).device
            kept = {name: value for name, value in inputs.items() if name not in ("labels", "label")}
            self.inputs = {
                name: value[: rule.samples].to(device) if isinstance(value, Tensor) and value.dim() else value
                for name, value in kept.items()
            }
            self.state = rule.begin(model, **self.inputs)

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.losses.append(float(logs["loss"]))

        def on_epoch_end(self, args: Any, state: Any, control: Any, model: nn.Module, optimizer: Any, **_: Any) -> None:
            assert self.state is not None
            loss = sum(self.losses) / len(self.losses) if self.losses else None
            if loss is None and len(self.rows) > 2:
                raise InputError(
                    "the Trainer has logged no loss for two epochs, so it is not known when it stops falling: set "
                    "logging_strategy='epoch' (or 'steps' with fewer steps than an epoch)"
                )
            self.losses = []
            before = self.state["depths"]
            self.state = rule.observe(self.state, model, optimizer, (), loss, **self.inputs)
            _follow_in_config(model, before, self.state["depths"])

    return AdaptiveDepthCallback()


def huggingface_monitor(monitor: Monitor, inputs: Any, labels: Tensor | None = None) -> Any:
    """A `TrainerCallback` that measures by `monitor`: before training, every N epochs or steps, and at the end.

    `attach` adds the callback to a Trainer and lets it log there: new values go, as `resdyn/<name>`, by `trainer.log`
    into `state.log_history` and to whatever reports (TensorBoard, W&B). A callback that was passed to the Trainer
    instead keeps its rows, and writes to `state.log_history` alone. The state goes into the Trainer's checkpoints
    (`trainer_state.json`), and a resumed run continues it. Where several processes train, the first one measures and
    the others wait. One monitor per Trainer.

    Args:
        monitor: What is measured, and how often.
        inputs: The batch that is measured (see `Monitor.init`), such as token ids, pixel values, or tensors by the
            names of the model's arguments, as a data collator makes them.
        labels: Classes of `inputs` that are arrays, int (N,); None: nothing is said about classes.

    Returns:
        The callback. Its `rows` are the history, with the last `loss` that the Trainer had logged before, and for steps
        the `epoch`; `attach(trainer)` returns the callback.

    Raises:
        MissingExtraError: Without transformers.
        InputError: When training begins, for a batch that does not fit the model, as whatever else the first
            measurement raises.

    Example:
        ::

            trainer = Trainer(model, arguments, train_dataset=dataset)
            callback = huggingface_monitor(resdyn.Monitor(every=100, unit="step"), token_ids).attach(trainer)
            trainer.train()
            callback.rows
    """
    package = require("transformers", "hf")
    bases = (package.TrainerCallback, require("transformers.trainer_callback", "hf").ExportableState)
    watching, unit, key = Watching(monitor, inputs, labels), monitor.unit, "MonitorCallback"
    trainers: list[Any] = []  # shared by all instances: a Trainer that restores its callbacks makes a new one

    class MonitorCallback(*bases):  # type: ignore[misc]
        def __init__(self) -> None:
            self.loss: float | None = None

        @property
        def rows(self) -> list[dict[str, Any]]:
            return watching.rows

        def attach(self, trainer: Any) -> Any:
            """Take part in the training of `trainer` and log by it; returns the callback."""
            if self not in trainer.callback_handler.callbacks:
                trainer.add_callback(self)
            trainers[:] = [trainer]
            return self

        def state(self) -> dict[str, Any]:
            return {"args": {}, "attributes": {}, "course": watching.state}

        def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
            saved = state.stateful_callbacks.setdefault(key, self.state())  # there is none of a run without a monitor
            if state.is_world_process_zero:
                watching.state = saved["course"] if state.global_step else None
                at = round(state.epoch) if unit == "epoch" else state.global_step
                self._log(state, control, watching.begin(model, at))

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.loss = float(logs["loss"])

        def on_step_end(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
            if unit == "step":
                self._update(state, control, model, state.global_step, {"epoch": state.epoch, "loss": self.loss})

        def on_epoch_end(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
            if unit == "epoch":
                self._update(state, control, model, math.ceil(round(state.epoch, 6)), {"loss": self.loss})

        def _update(self, state: Any, control: Any, model: nn.Module, at: int, scalars: dict[str, Any]) -> None:
            last = state.global_step >= state.max_steps
            if watching.due(at, last):
                self._log(state, control, watching.update(model, at, last, scalars))

        def _log(self, state: Any, control: Any, values: dict[str, float]) -> None:
            if values and trainers:
                wanted = control.should_log
                trainers[0].log(values)
                control.should_log = wanted  # logging takes it back, and the Trainer's own loss would not be logged
            elif values:
                state.log_history.append(values | {"epoch": state.epoch, "step": state.global_step})

    return MonitorCallback()


def _follow_in_config(model: nn.Module, before: dict[str, int], now: dict[str, int]) -> None:
    """Numbers of layers in a config that are those of the lists of blocks follow them."""
    config: Any = getattr(getattr(model, "module", model), "config", None)
    if config is None or before == now:
        return
    if len(before) == 1:
        (old,), (new,) = before.values(), now.values()
        for name in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"):
            if getattr(config, name, None) == old:
                setattr(config, name, new)
    elif list(getattr(config, "depths", ())) == list(before.values()):
        config.depths = list(now.values())
