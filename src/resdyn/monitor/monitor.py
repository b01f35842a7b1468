"""Watching residual alignment and neural collapse while a network trains, in any loop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import nn

from resdyn import _checks as checks
from resdyn._statistics import standard_error
from resdyn.capturing.selection import Array, Data
from resdyn.errors import InputError
from resdyn.metrics.summary import Metric, descriptions
from resdyn.monitor.budget import Budget
from resdyn.monitor.runner import ProbeRunner, fixed_batch, names
from resdyn.probes import Probe, resolve_probes
from resdyn.stream import KINDS
from resdyn.stream.granularity import check_granularity
from resdyn.stream.isolation import isolated, synchronize, unwrapped
from resdyn.stream.token import plain_position

MonitorState = dict[str, Any]
Log = Callable[[Mapping[str, float], int], None]

WATCHED = (
    "line_shape_score",
    "collinearity",
    "diagonal_energy_uv",
    "inverse_scaling_slope",
    "inverse_scaling_r_squared",
    "within_class_variability",
    "nearest_mean_disagreement",
)
LAST_ENTRY_ONLY = ("within_class_variability", "nearest_mean_disagreement")
OPTIONS = ("kind", "position", "granularity", "shared", "feature_samples", "chunk_size")
EMPTY_STATE: MonitorState = {"rows": [], "training_seconds": 0.0, "measuring_seconds": 0.0, "costs": {}, "spent": {}}
STREAM = "stream"  # finding it, among the costs


class Monitor:
    """Measures a fixed batch before training, every `every` epochs or steps, and where a loop says that it ends.

        monitor = resdyn.Monitor(every=1)
        state = monitor.init(model, inputs, labels)
        for epoch in range(epochs):
            ...
            state = monitor.update(state, model, epoch + 1, loss=loss)
        rows = monitor.result(state)

    A row holds how many epochs or steps (`unit`) were done; for each name in `metrics` the mean over all stages that
    `resdyn.metrics.summarize` reports (neural collapse: of the last entry, the classifier's input where there is one),
    None where it was not measured; `standard_errors`, those over samples by name (neural collapse: over classes) where
    they are known; `skipped`, the probes that the budget left out; `error`, one line where measuring failed (training
    then continues; the first time there is a `RuntimeWarning` too); and the loop's own scalars.

    Training is bit-for-bit the same with and without a monitor: random numbers, modes, gradients, buffers and autocast
    are left as they were (`isolated`), in train mode and under `no_grad` too. `DistributedDataParallel` and
    `torch.compile` are seen through. The monitor keeps the batch and the network's stream; all else is in the state.

    Args:
        every: Epochs or steps between measurements.
        samples: Samples of the batch that are measured one by one (all of it is read for neural collapse).
        probes: As for `resdyn.capture`. None: trajectory, 10 singular triplets and their coupling, and with labels of
            whole states neural collapse.
        metrics: Names of what a row holds.
        seed: Of the choice of samples and of the probes.
        unit: What `at` counts, "epoch" or "step".
        budget: The largest share of the training time that measuring may take, such as 0.05; None is no bound. Training
            time is the clock's since `init` without what measuring took, summed over the sessions of a resumed run.
            Probes are tried from cheap to expensive, each at what it cost the last time, and one that would exceed the
            budget is left out of that row. Of G probes the k cheapest together may take k / G of the budget, so that an
            expensive one is measured when enough is saved up (`singular` and `coupling` count as one). The measurement
            of `init` is made whatever it costs, and later ones wait until the budget covers it.
        log: Called with the values of a new row by name, and the epochs or steps done.
        clock: In seconds.
        **options: `kind`, `position`, `granularity`, `shared`, `feature_samples`, `chunk_size` of `resdyn.capture`.

    Raises:
        InputError: For what `resdyn.capture` would refuse.
    """

    def __init__(
        self,
        every: int = 10,
        samples: int = 5,
        probes: str | Sequence[str | Probe] | None = None,
        metrics: Sequence[str] = WATCHED,
        seed: int = 0,
        *,
        unit: Literal["epoch", "step"] = "epoch",
        budget: float | None = None,
        log: Log | None = None,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        if budget is not None:
            budget = checks.number("budget", budget, "a share of the training time such as 0.05, or None", 0)
        if unknown := sorted(set(options) - set(OPTIONS)):
            raise InputError(f"got {unknown[0]}={options[unknown[0]]!r}, but a monitor takes {', '.join(OPTIONS)}")
        self.every, self.samples = checks.whole("every", every, 1), checks.whole("samples", samples, 1)
        self.seed, self.unit = checks.seed(seed), checks.one_of("unit", unit, ("epoch", "step"))
        self.probes = None if probes is None else resolve_probes(probes)
        self.metrics = checks.words("metrics", metrics)
        known = tuple(descriptions())
        for name in self.metrics:
            checks.one_of("a metric", name, known)
        self.budget, self.log, self.clock, self.options = budget, log, clock, options
        check_options(options)
        for name, call in (("log", log), ("clock", clock)):
            if call is not None and not callable(call):
                raise checks.wrong(name, call, "a function")
        self._runner: ProbeRunner | None = None
        self._since = 0.0

    def __repr__(self) -> str:
        budget = "" if self.budget is None else f", budget={self.budget:g}"
        return f"Monitor(every={self.every}, unit={self.unit!r}, samples={self.samples}{budget})"

    def init(
        self,
        model: nn.Module,
        inputs: Data,
        labels: Array | None = None,
        *,
        at: int = 0,
        state: MonitorState | None = None,
    ) -> MonitorState:
        """The state with its first row, of the network as it is; or `state`, saved earlier, to continue from.

        Args:
            model: The network.
            inputs: Whatever `resdyn.capture` takes as data; without labels nothing is said about classes.
            labels: Of inputs that are arrays; see `resdyn.capture`.
            at: The epochs or steps done.
            state: Of an earlier session.

        Returns:
            Numbers, text, lists and dicts, for JSON and checkpoints.

        Raises:
            InputError: For a batch that does not fit the model, as whatever else measuring raises.
        """
        self._runner = ProbeRunner(fixed_batch(inputs, labels), self.probes, self.samples, self.seed, self.options)
        if state is None:
            state = self._with_row(EMPTY_STATE, unwrapped(model), at, {}, first=True)
        self._since = self.clock()
        return state

    def update(
        self, state: MonitorState, model: nn.Module, at: int, /, *, last: bool = False, **scalars: Any
    ) -> MonitorState:
        """The state after `at` epochs or steps, with one more row where it is due.

        May be called at every step: where no row is due it costs nothing. Never raises what measuring raises.

        Args:
            state: What `init` or `update` returned.
            model: The network.
            at: The epochs or steps done.
            last: Nothing comes after, so a row is due.
            **scalars: For the row; numbers or tensors of one element.

        Returns:
            The new state; `state` itself is not changed.

        Raises:
            InputError: If this monitor knows no batch, since `init` was not called.
        """
        due = self.due(state, at, last)
        if due:
            synchronize(unwrapped(model))
        now = self.clock()
        state = EMPTY_STATE | state
        state["training_seconds"] += now - self._since
        if due:
            state = self._with_row(state, unwrapped(model), at, scalars)
        self._since = self.clock() if due else now
        return state

    def due(self, state: MonitorState, at: int, last: bool = False) -> bool:
        """Whether `update` would add a row.

        Args:
            state: What `init` or `update` returned.
            at: The epochs or steps done.
            last: Nothing comes after, so a row is due unless there is one of `at`.
        """
        rows = state["rows"]
        known = bool(rows) and rows[-1][self.unit] == at  # a step of several batches is reported several times
        return (last or at % self.every == 0) and not known

    def result(self, state: MonitorState) -> list[dict[str, Any]]:
        """All rows, in order.

        Args:
            state: The last one.
        """
        rows: list[dict[str, Any]] = state["rows"]
        return rows

    def values(self, row: Mapping[str, Any]) -> dict[str, float]:
        """What was measured of a row, by name.

        Args:
            row: One of `result`.

        Returns:
            Those of `metrics` that have a value.
        """
        return {name: row[name] for name in self.metrics if row.get(name) is not None}

    def _with_row(
        self, state: MonitorState, model: nn.Module, at: int, scalars: Mapping[str, Any], first: bool = False
    ) -> MonitorState:
        """The state with one more row, its time and its costs recorded."""
        within = None if self.budget is None or first else self.budget * state["training_seconds"]
        spending = Budget(state, within, self.clock)
        with isolated(model):
            row = self._row(model, spending, first)
        row = {self.unit: at, **_plain(scalars), self.unit: at, **row}  # a scalar of a name that is taken is dropped
        self._notify(row, at, known=any(earlier["error"] for earlier in state["rows"]))
        return {
            **state,
            "rows": [*state["rows"], row],
            "measuring_seconds": spending.measuring_seconds,
            "costs": spending.costs,
            "spent": spending.spent,
        }

    def _row(self, model: nn.Module, spending: Budget, first: bool) -> dict[str, Any]:
        """Every metric that the budget allows, what was left out, and what went wrong."""
        found: list[Metric] = []
        skipped: set[str] = set()
        errors: list[str] = []
        runner = self._require_runner()
        groups = {names(group): group for group in self._groups()}
        for name in spending.by_cost(list(groups)):
            if not spending.allows(name, list(groups), () if runner.has_stream(model) else (STREAM,)):
                skipped |= {probe.name for probe in groups[name]}
                continue
            try:
                found += self._measure(groups[name], model, spending)
            except Exception as error:  # whatever it is, training is worth more
                if first:
                    raise
                errors.append(_line(error))
        row: dict[str, Any] = {name: _value(found, name) for name in self.metrics}
        known = {name: _standard_error(found, name) for name in self.metrics if row[name] is not None}
        row["standard_errors"] = {name: error for name, error in known.items() if error is not None}
        left_out = [probe.name for probe in runner.probes if probe.name in skipped]
        return row | {"skipped": left_out, "error": "; ".join(dict.fromkeys(errors)) or None}

    def _groups(self) -> list[tuple[Probe, ...]]:
        """Probes that are measured together; without a budget all are."""
        return [self._require_runner().probes] if self.budget is None else self._require_runner().groups()

    def _measure(self, group: tuple[Probe, ...], model: nn.Module, spending: Budget) -> list[Metric]:
        """All metrics of some probes; their cost is recorded."""
        runner = self._require_runner()
        if not runner.has_stream(model) or runner.is_outdated(model):
            with spending.timed(STREAM):
                runner.find_stream(model)
        with spending.timed(names(group)):
            return runner.measure(model, group)

    def _require_runner(self) -> ProbeRunner:
        if self._runner is None:
            raise InputError("this monitor knows no batch yet: call init(model, inputs, labels, state=state) first")
        return self._runner

    def _notify(self, row: dict[str, Any], at: int, known: bool) -> None:
        if row["error"] and not known:
            said = f"the monitor could not measure at {self.unit} {at}, training continues: {row['error']}"
            warnings.warn(said, RuntimeWarning, stacklevel=4)
        if self.log is not None:
            self.log(self.values(row), at)


def check_options(options: Mapping[str, Any]) -> None:
    """What `capture` would refuse at the first row, said when the monitor is made."""
    if "kind" in options:
        checks.one_of("kind", options["kind"], KINDS)
    if options.get("position") is not None:
        plain_position(options["position"])
    check_granularity(options.get("granularity", "join"))
    checks.words("shared", options.get("shared", ()))
    for name in ("feature_samples", "chunk_size"):
        checks.optional_whole(name, options.get(name), 1)


def _value(found: Sequence[Metric], name: str) -> float | None:
    values = [metric.value for metric in found if metric.name == name and metric.value is not None]
    if not values:
        return None
    return values[-1] if name in LAST_ENTRY_ONLY else sum(values) / len(values)


def _standard_error(found: Sequence[Metric], name: str) -> float | None:
    """The error of `_value`, None where one of its parts has none.

    Stages share their samples: the error is that of the samples' own means over stages where these are known, else the
    mean of the errors, which it cannot exceed.
    """
    rows = [metric for metric in found if metric.name == name and metric.value is not None]
    rows = rows[-1:] if name in LAST_ENTRY_ONLY else rows
    errors = [row.standard_error for row in rows if row.standard_error is not None]
    if not rows or len(errors) < len(rows):
        return None
    samples = [row.per_sample for row in rows if row.per_sample is not None]
    if len(samples) == len(rows) > 1 and len(set(map(len, samples))) == 1:
        means = np.mean(samples, axis=0)
        if means.size > 1 and np.isfinite(means).all():
            return float(standard_error(means))
    return sum(errors) / len(errors)


def _plain(scalars: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors and numpy's numbers as Python's."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in scalars.items()}


def _line(error: Exception) -> str:
    reason = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__
