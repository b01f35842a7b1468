"""Adaptive depth in the Trainer of Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from resdyn.errors import InputError, require
from resdyn.training.adaptive import AdaptiveDepth
from resdyn.training.depth import follow_depth_on_load


def huggingface_adaptive_depth(rule: AdaptiveDepth, inputs: Mapping[str, Any]) -> Any:
    """A `TrainerCallback` that applies `rule` at the end of every epoch; `inputs`: a batch as the model is called with.

    Residuals are compared on `inputs` (at most `rule.samples` of them, without labels). The loss of an epoch is the
    mean of those that the Trainer logged since the last one, so `logging_strategy` must be "steps" or "epoch"; with
    "epoch" an epoch's loss is known, and acted upon, one epoch later. `callback.rows` is the course (see
    `AdaptiveDepth`). A number of layers in the model's config (`num_hidden_layers` and the like, `depths`) follows, so
    that what `save_pretrained` writes loads by `from_pretrained`; a Trainer that resumes from a checkpoint shrinks its
    model first (the course starts anew). Optimizer and scheduler stay those of the Trainer.

    Errors: MissingExtraError without transformers; InputError where no loss is ever logged.
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
                    "the Trainer has logged no loss for two epochs, so it cannot be told when it stops falling: set "
                    "logging_strategy='epoch' (or 'steps' with fewer steps than an epoch)"
                )
            self.losses = []
            before = self.state["depths"]
            self.state = rule.observe(self.state, model, optimizer, (), loss, **self.inputs)
            _follow_in_config(model, before, self.state["depths"])

    return AdaptiveDepthCallback()


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
