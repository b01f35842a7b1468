"""Adaptive depth in Lightning's Trainer."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from torch import Tensor, nn

from resdyn.errors import InputError, require
from resdyn.training.adaptive import AdaptiveDepth
from resdyn.training.depth import follow_depth_on_load

COMPROMISED = ("2.6.2", "2.6.3")  # releases on PyPI that ran foreign code


def lightning_adaptive_depth(
    rule: AdaptiveDepth, inputs: tuple[Tensor, ...], *, monitor: str = "train_loss", attribute: str | None = None
) -> Any:
    """A Lightning `Callback` that applies `rule` at the end of every training epoch; `inputs`: a batch for the network.

    `attribute` names the network within the LightningModule (`"model"` for `self.model`; None: the LightningModule
    itself, called with `inputs`). `monitor` is the logged training loss: `self.log("train_loss", loss, on_epoch=True)`.
    Residuals are compared on `inputs`, at most `rule.samples` of them. `callback.rows` is the course (see
    `AdaptiveDepth`), which goes into Lightning's checkpoints; a run that resumes from one of a shrunken network shrinks
    its own before the weights are loaded, hence before Lightning makes the optimizer. One optimizer only.

    Errors: MissingExtraError without Lightning; InputError for a release of Lightning that was compromised, for a
    monitor that was not logged, for several optimizers.
    """
    return _callback(_lightning_callback(), rule, inputs, monitor, attribute)


def _lightning_callback() -> type:
    package = require("lightning", "lightning")
    version = importlib.metadata.version("lightning")
    if version in COMPROMISED:
        raise InputError(f"got lightning {version}, a compromised release: install another one")
    found: type = package.pytorch.Callback
    return found


def _callback(base: type, rule: AdaptiveDepth, inputs: tuple[Tensor, ...], monitor: str, attribute: str | None) -> Any:
    class AdaptiveDepthCallback(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.state: dict[str, Any] | None = None

        @property
        def rows(self) -> list[dict[str, Any]]:
            return [] if self.state is None else self.state["rows"]

        def setup(self, trainer: Any, pl_module: nn.Module, stage: str) -> None:
            follow_depth_on_load(_network(pl_module, attribute))

        def on_fit_start(self, trainer: Any, pl_module: nn.Module) -> None:
            network = _network(pl_module, attribute)
            if self.state is None:  # else resumed, and the network has become shorter when its weights were loaded
                self.state = rule.begin(network, *self._inputs(network))

        def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
            if len(trainer.optimizers) != 1:
                raise InputError(f"got {len(trainer.optimizers)} optimizers, expected one")
            if monitor not in trainer.callback_metrics:
                raise InputError(
                    f"the training logged no '{monitor}', so it cannot be told when the loss stops falling: log it by "
                    f"self.log('{monitor}', loss, on_epoch=True), or name another one by monitor="
                )
            network = _network(pl_module, attribute)
            loss = float(trainer.callback_metrics[monitor])
            self.state = rule.observe(self.state, network, trainer.optimizers[0], self._inputs(network), loss)  # type: ignore[arg-type]

        def state_dict(self) -> dict[str, Any]:
            return {} if self.state is None else self.state

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.state = state_dict or None

        def _inputs(self, network: nn.Module) -> tuple[Tensor, ...]:
            device = next(network.parameters()).device
            return tuple(value[: rule.samples].to(device) for value in inputs)

    return AdaptiveDepthCallback()


def _network(pl_module: nn.Module, attribute: str | None) -> nn.Module:
    return pl_module if attribute is None else pl_module.get_submodule(attribute)
