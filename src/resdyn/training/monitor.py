"""Watching residual alignment and neural collapse while a network trains."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from resdyn.capture import capture
from resdyn.data.images import ImageData
from resdyn.metrics import summarize
from resdyn.stream import ResidualStream, find_stream
from resdyn.training.callbacks import CallbackState, EpochEnd

WATCHED = (
    "line_shape_score",
    "collinearity",
    "diagonal_energy_uv",
    "inverse_scaling_slope",
    "inverse_scaling_r_squared",
    "within_class_variability",
    "nearest_mean_disagreement",
)


class Monitor:
    """A callback that measures fixed training samples before the first epoch, every `every` epochs and at the end.

    Each row of its result holds `epoch` (epochs done), and for each name in `metrics` the mean over all stages
    that `resdyn.metrics.summarize` reports (neural collapse: of the last entry, the classifier's input where
    there is one). Measuring uses its own random numbers, so the training is the same with and without it.
    """

    def __init__(
        self,
        every: int = 10,
        samples: int = 5,
        probes: str = "trajectory,singular(k=10),coupling,features",
        metrics: Sequence[str] = WATCHED,
        seed: int = 0,
    ) -> None:
        self.every = every
        self.samples = samples
        self.probes = probes
        self.metrics = tuple(metrics)
        self.seed = seed
        self._data: ImageData | None = None
        self._stream: ResidualStream | None = None

    def init(self, model: nn.Module, data: ImageData) -> CallbackState:
        """The first row: the network at initialisation."""
        self._data = data
        self._stream = find_stream(model, data.inputs([0]))
        return {"rows": [self._row(model, 0)]}

    def update(self, state: CallbackState, end: EpochEnd) -> CallbackState:
        """One more row where it is due."""
        done = end.epoch + 1
        if done % self.every and done != end.epochs:
            return state
        row = self._row(end.model, done) | {"loss": end.loss, "accuracy": end.accuracy}
        return {"rows": [*state["rows"], row]}

    def result(self, state: CallbackState) -> list[dict[str, Any]]:
        """All rows, by epoch."""
        rows: list[dict[str, Any]] = state["rows"]
        return rows

    def _row(self, model: nn.Module, epoch: int) -> dict[str, Any]:
        assert self._data is not None
        with tempfile.TemporaryDirectory(prefix="resdyn-monitor-") as folder:
            measured = capture(
                model, self._data, self.probes, Path(folder) / "store.zarr", samples=self.samples, seed=self.seed,
                stream=self._stream, quiet=True,
            )  # fmt: skip
            found = summarize(measured)
            measured.close()
        return {"epoch": epoch} | {name: self._value(found, name) for name in self.metrics}

    def _value(self, found: Sequence[Any], name: str) -> float | None:
        values = [metric.value for metric in found if metric.name == name and metric.value is not None]
        if not values:
            return None
        collapse = name in ("within_class_variability", "nearest_mean_disagreement")
        return values[-1] if collapse else sum(values) / len(values)
