"""What the monitors of every loop have in common: when they begin, what a new row has to log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from resdyn.monitor.monitor import Monitor, MonitorState

PREFIX = "resdyn/"


@dataclass
class Watching:
    """A monitor, its batch and its state, None before training. `begin` and `update` return what is new to log."""

    monitor: Monitor
    inputs: Any
    labels: Tensor | None = None
    state: MonitorState | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history so far."""
        return [] if self.state is None else self.monitor.result(self.state)

    def begin(self, model: nn.Module, at: int) -> dict[str, float]:
        """Measure before training, or continue from the state that was loaded."""
        resumed = self.state is not None
        self.state = self.monitor.init(model, self.inputs, self.labels, at=at, state=self.state)
        return {} if resumed else self._last()

    def due(self, at: int, last: bool) -> bool:
        """Whether to `update`."""
        return self.state is not None and self.monitor.due(self.state, at, last)

    def update(self, model: nn.Module, at: int, last: bool, scalars: Mapping[str, Any]) -> dict[str, float]:
        """Measure after `at` epochs or steps."""
        assert self.state is not None, "training has begun"
        named = {name: value for name, value in scalars.items() if name != "last"}
        self.state = self.monitor.update(self.state, model, at, last=last, **named)
        return self._last()

    def _last(self) -> dict[str, float]:
        return prefixed(self.monitor.values(self.rows[-1]))


def prefixed(values: Mapping[str, float], prefix: str = PREFIX) -> dict[str, float]:
    """Values under one heading of a dashboard."""
    return {f"{prefix}{name}": value for name, value in values.items()}


def tensorboard_log(writer: Any, prefix: str = PREFIX) -> Callable[[Mapping[str, float], int], None]:
    """For `Monitor(log=...)`: every value of a new row as a scalar of `writer`, against the epochs or steps done.

    Args:
        writer: A `torch.utils.tensorboard.SummaryWriter`, or whatever has its `add_scalar(tag, value, step)`.
        prefix: What the names of the values begin with in the dashboard.

    Returns:
        A function of the values by name and of the epochs or steps done.

    Example:
        >>> class Printer:
        ...     def add_scalar(self, tag, value, step):
        ...         print(step, tag, value)
        >>> tensorboard_log(Printer())({"line_shape_score": 0.75}, 3)
        3 resdyn/line_shape_score 0.75
    """

    def log(values: Mapping[str, float], at: int) -> None:
        for tag, value in prefixed(values, prefix).items():
            writer.add_scalar(tag, value, at)

    return log
