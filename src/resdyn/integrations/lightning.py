"""Adaptive depth and monitors in Lightning's Trainer."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from torch import Tensor, nn

from resdyn.errors import InputError, require
from resdyn.integrations.watching import Watching
from resdyn.monitor.monitor import Monitor
from resdyn.training.adaptive import AdaptiveDepth
from resdyn.training.depth import follow_depth_on_load

COMPROMISED = ("2.6.2", "2.6.3")  # releases on PyPI that ran foreign code


def lightning_adaptive_depth(
    rule: AdaptiveDepth, inputs: tuple[Tensor, ...], *, monitor: str = "train_loss", attribute: str | None = None
) -> Any:
    """A Lightning `Callback` that applies `rule` at the end of every training epoch.

    The history goes into Lightning's checkpoints; a run that resumes from one of a shrunken network shrinks its own
    before the weights are loaded, hence before Lightning makes the optimizer. One optimizer only.

    Args:
        rule: When a block is removed.
        inputs: A batch for the network, its positional arguments. Residuals are compared on it, at most `rule.samples`
            of its rows.
        monitor: Name of the logged training loss: `self.log("train_loss", loss, on_epoch=True)`.
        attribute: Names the network within the LightningModule (`"model"` for `self.model`). None: the LightningModule
            itself, called with `inputs`.

    Returns:
        The callback. Its `rows` are the history (see `AdaptiveDepth`).

    Raises:
        MissingExtraError: Without Lightning.
        InputError: For a release of Lightning that was compromised; while training, for a `monitor` that was not logged
            and for several optimizers.

    Example:
        ::

            callback = lightning_adaptive_depth(AdaptiveDepth(), (images[:256],), attribute="model")
            lightning.Trainer(max_epochs=20, callbacks=[callback]).fit(module, loader)
            callback.rows[-1]["depths"]
    """
    return _callback(_lightning_callback(), rule, inputs, monitor, attribute)


def lightning_monitor(monitor: Monitor, inputs: Any, labels: Tensor | None = None, attribute: str | None = None) -> Any:
    """A Lightning `Callback` that measures by `monitor`: before training, every N epochs or steps, and at the end.

    New values go to all loggers of the Trainer as `resdyn/<name>`, against its global step. State and rows go into
    Lightning's checkpoints, and a resumed run continues with them. Where several processes train, the first one
    measures and the others wait.

    Args:
        monitor: What is measured, and how often; a step is one of the optimizer.
        inputs: The batch that is measured (see `Monitor.init`).
        labels: Classes of `inputs` that are arrays, int (N,); None: nothing is said about classes.
        attribute: Names the network within the LightningModule (`"model"` for `self.model`). None: the LightningModule
            itself.

    Returns:
        The callback. Its `rows` are the history; they hold what the training logged (`trainer.callback_metrics`) and
        the epoch too.

    Raises:
        MissingExtraError: Without Lightning.
        InputError: For a release of Lightning that was compromised; when training begins, for a batch that does not fit
            the network, as whatever else the first measurement raises.

    Example:
        ::

            callback = lightning_monitor(resdyn.Monitor(every=1), images, labels, attribute="model")
            lightning.Trainer(max_epochs=20, callbacks=[callback]).fit(module, loader)
            callback.rows
    """
    return _monitor_callback(_lightning_callback(), Watching(monitor, inputs, labels), attribute)


def _lightning_callback() -> type:
    package = require("lightning", "lightning")
    version = importlib.metadata.version("lightning")
    if version in COMPROMISED:
        raise InputError(f"got lightning {version}, a compromised release: install another one")
    callback: type = package.pytorch.Callback
    return callback


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
                    f"the training logged no '{monitor}', so it is not known when the loss stops falling: log it by "
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


def _monitor_callback(base: type, watching: Watching, attribute: str | None) -> Any:
    unit = watching.monitor.unit

    class MonitorCallback(base):  # type: ignore[misc, valid-type]
        @property
        def state_key(self) -> str:
            return f"MonitorCallback(every={watching.monitor.every}, unit={unit})"

        @property
        def rows(self) -> list[dict[str, Any]]:
            return watching.rows

        def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
            if trainer.is_global_zero:
                at = trainer.current_epoch if unit == "epoch" else trainer.global_step
                self._log(trainer, watching.begin(_network(pl_module, attribute), at))

        def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, *_: Any) -> None:
            if unit == "step":
                self._update(trainer, pl_module, trainer.global_step)

        def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
            if unit == "epoch":
                done = trainer.current_epoch + 1
                self._update(trainer, pl_module, done, last=trainer.should_stop or done == trainer.max_epochs)

        def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
            if unit == "step":
                self._update(trainer, pl_module, trainer.global_step, last=True)

        def state_dict(self) -> dict[str, Any]:
            return watching.state or {}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            watching.state = state_dict or None

        def _update(self, trainer: Any, pl_module: nn.Module, at: int, last: bool = False) -> None:
            if watching.due(at, last):
                scalars = {name: value for name, value in trainer.callback_metrics.items() if value.numel() == 1}
                scalars["epoch"] = trainer.current_epoch
                self._log(trainer, watching.update(_network(pl_module, attribute), at, last, scalars))

        def _log(self, trainer: Any, values: dict[str, float]) -> None:
            for logger in trainer.loggers if values else ():
                logger.log_metrics(values, step=trainer.global_step)

    return MonitorCallback()


def _network(pl_module: nn.Module, attribute: str | None) -> nn.Module:
    return pl_module if attribute is None else pl_module.get_submodule(attribute)
