"""What a worker runs: it rebuilds the stream once, measures a task, writes it, and sets its flag."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from resdyn import store as stores
from resdyn._numerics import plain_arithmetic
from resdyn.capturing.executor import Tick
from resdyn.capturing.selection import LabelledInputs
from resdyn.errors import ComputationError
from resdyn.models import LoadedModel, load_model
from resdyn.models.placement import place
from resdyn.models.spec import parse_spec
from resdyn.phenomena.registry import is_built_in
from resdyn.probes import Probe, Sample, Singular, traits
from resdyn.probes.check import layout_of, measured
from resdyn.probes.sample import Layout
from resdyn.store import Region
from resdyn.stream import Granularity, Kind, Position, Stream, find_stream, stream_from_blocks
from resdyn.stream.arguments import Arguments
from resdyn.stream.by_name import Skip
from resdyn.stream.placement import model_device
from resdyn.stream.states import States
from resdyn.stream.verify import taken_as_current


@dataclass(frozen=True)
class SampleTask:
    """Some samples: their inputs travel with the task, they are few."""

    number: int
    region: Region
    inputs: Arguments
    labels: tuple[int, ...]
    indices: tuple[int, ...]


@dataclass(frozen=True)
class DataTask:
    """A pass over all data, which the job holds."""

    number: int
    region: Region


@dataclass(frozen=True)
class ModelSource:
    """How a worker comes by the model.

    The classes of a model made by `file.py:factory` exist only in the process that ran that file, so such a
    model travels as its specification and its weights; any other travels as it is.
    """

    model: nn.Module | None
    spec: str = ""
    weights: dict[str, Tensor] | None = None

    @classmethod
    def of(cls, model: nn.Module | LoadedModel) -> ModelSource:
        if not isinstance(model, LoadedModel):
            return cls(model)
        parsed = parse_spec(model.name) if ".py:" in model.name else None
        if parsed is None or parsed.scheme != "file":
            return cls(model.model)
        spec = model.name.replace(parsed.path, str(Path(parsed.path).absolute()), 1)
        return cls(None, spec, model.model.state_dict())

    def build(self) -> nn.Module:
        """A model of the caller's own: the source may be sent on to another worker while the caller traces its."""
        if self.model is not None:
            return deepcopy(self.model)
        assert self.weights is not None
        model = load_model(self.spec).model
        precisions = {weight.dtype for weight in self.weights.values() if weight.is_floating_point()}
        if len(precisions) == 1:  # the caller may have cast it
            place(model, dtype=precisions.pop())
        model.load_state_dict(self.weights)
        return model.to(next((weight.device for weight in self.weights.values()), "cpu"))


class EarlierResults(Protocol):
    """What was measured before, under the same settings, and need not be measured again."""

    def samples(self, indices: Sequence[int], names: Sequence[str]) -> dict[int, dict[str, np.ndarray]]: ...
    def whole(self, names: Sequence[str]) -> dict[str, np.ndarray]: ...


@dataclass
class Job:
    """All that the tasks of a capture share; `stream` is found again where the job arrives.

    Attributes:
        named: How a person named the stream's blocks (`ResidualStream.named`), None where it was discovered.
        hold: As `find_stream` takes it.
        within: As `find_stream` takes it.
        data: What the features probe reads.
        earlier: None where nothing was measured before.
    """

    store: str
    source: ModelSource
    example: Arguments
    named: tuple[tuple[str, ...], str] | None
    granularity: Granularity
    position: Position | None
    description: list[dict[str, Any]]
    probes: tuple[Probe, ...]
    kind: Kind
    seed: int
    num_classes: int
    data: LabelledInputs | None
    earlier: EarlierResults | None = None
    hold: tuple[str, ...] | None = None
    within: str | None = None

    @cached_property
    def stream(self) -> Stream:
        model = self.source.build().eval()
        example = self.example.to(model_device(model))
        if self.named is None:
            how: dict[str, Any] = {"granularity": self.granularity, "hold": self.hold, "within": self.within}
            whole = find_stream(model, *example.args, shared=tuple(example.shared), **how, **example.kwargs)
        else:
            paths, skip = self.named
            shared = tuple(example.shared)
            whole = stream_from_blocks(
                model, paths, *example.args, skip=cast("Skip", skip), shared=shared, **example.kwargs
            )
        stream: Stream = whole if self.position is None else whole.at(self.position)
        if stream.describe() != self.description:
            raise ComputationError("a worker found another stream in the model; capture in one process (workers=0)")
        return stream

    def __getstate__(self) -> dict[str, Any]:
        # the copy comes first: another thread may be adding `stream`
        return {name: value for name, value in dict(self.__dict__).items() if name not in ("stream", "layouts")}

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """What each probe has declared, by name."""
        return {probe.name: layout_of(probe, self.stream, self.num_classes) for probe in self.probes}

    @property
    def singular(self) -> Singular:
        """The probe whose triplets the samples share; of default settings where none was asked for."""
        asked = next((probe for probe in self.probes if isinstance(probe, Singular)), None)
        return Singular().fitted(self.stream) if asked is None else asked

    @property
    def device(self) -> torch.device:
        return model_device(self.stream.model)

    def batches(self, batch_size: int) -> Iterator[tuple[Arguments, Tensor]]:
        assert self.data is not None
        for inputs, labels in self.data.batches(batch_size):
            yield inputs.to(self.device), labels


def run_task(job: Job, task: SampleTask | DataTask, tick: Tick) -> int:
    """Measure and write one task, unless it is done already; return its number."""
    if not stores.is_done(job.store, task.number):
        with plain_arithmetic(), taken_as_current():  # the capture has looked; a worker has found the stream itself
            arrays = (
                _measure_samples(job, task, tick) if isinstance(task, SampleTask) else _measure_data(job, task, tick)
            )
        stores.write_task(job.store, task.number, task.region, arrays)
    return task.number


def _measure_samples(job: Job, task: SampleTask, tick: Tick) -> dict[str, np.ndarray]:
    known = {} if job.earlier is None else job.earlier.samples(task.indices, task.region.variables)
    rows = []
    for n, index in enumerate(task.indices):
        rows.append(known[index] if index in known else _measure_sample(job, task, n))
        tick(int(index not in known))
    return {name: _stacked([row[name] for row in rows]) for name in rows[0]}


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of one array; where some come from a store, in which short ones are filled up, all are."""
    shape = tuple(max(lengths) for lengths in zip(*(row.shape for row in rows), strict=True))
    if all(row.shape == shape for row in rows):
        return np.stack(rows)
    stacked = np.full((len(rows), *shape), np.nan, rows[0].dtype)
    for target, row in zip(stacked, rows, strict=True):
        target[tuple(slice(0, length) for length in row.shape)] = row
    return stacked


def _measure_sample(job: Job, task: SampleTask, n: int) -> dict[str, np.ndarray]:
    """One sample alone: in a batch with others its states would be rounded differently."""
    inputs = task.inputs[n : n + 1].to(job.device)
    states = job.stream.states(*inputs.args, **inputs.kwargs)
    _check_finite(job, states, task.indices[n])
    sample = Sample(job.stream, states, task.labels[n], task.indices[n], job.kind, job.seed, job.singular.svd)
    arrays: dict[str, np.ndarray] = {}
    for probe in job.probes:
        if traits(probe).per_sample:
            with _named(probe, f"at sample {sample.index}"), _watched(probe, job.stream.model):
                found = probe.measure(sample, job.num_classes)
            arrays |= measured(probe, found, job.layouts[probe.name], sample.index)
    return arrays


def _check_finite(job: Job, states: States, index: int) -> None:
    """Raise `ComputationError` for a sample whose states hold NaN or infinite values, which no metric could tell."""
    for depth, state in enumerate(states):
        if not bool(torch.isfinite(state).all()):
            where = f"behind block {depth - 1} ({job.stream.blocks[depth - 1].path})" if depth else "before block 0"
            raise ComputationError(
                f"the states of sample {index} hold NaN or infinite values from depth {depth} on, {where}: the model "
                "overflows there, or attends to nothing (a sample of padding alone); leave the sample out, or measure "
                "in a wider precision"
            )


def _measure_data(job: Job, task: DataTask, tick: Tick) -> dict[str, np.ndarray]:
    if job.earlier is not None:
        return job.earlier.whole(task.region.variables)
    arrays: dict[str, np.ndarray] = {}
    for probe in job.probes:
        own = traits(probe)
        if not own.per_sample:
            batches = partial(job.batches, own.batch_size)
            with _named(probe, "in a pass over the data"), _watched(probe, job.stream.model):
                found = probe.measure(job.stream, batches, job.num_classes, tick)
            arrays |= measured(probe, found, job.layouts[probe.name])
    return arrays


@contextlib.contextmanager
def _watched(probe: Probe, model: torch.nn.Module) -> Iterator[None]:
    """Raise `ComputationError` where somebody's own probe leaves the model with other weights than it found."""
    if is_built_in(probe.name):
        yield
        return
    before = _sums(model)
    yield
    if changed := [name for name, value in _sums(model).items() if before.get(name) != value]:
        raise ComputationError(
            f"probe {probe.name!r} changed weights of the model ({', '.join(changed[:3])}), so what is measured after "
            "it would be another model's; let it work on a copy, as copy.deepcopy(sample.stream.model)"
        )


def _sums(model: torch.nn.Module) -> dict[str, str]:
    """A number per tensor of the model, as text so that NaN equals itself: cheap, and blind to permutations alone."""
    real = {name: torch.view_as_real(t) if t.is_complex() else t for name, t in model.state_dict().items()}
    return {name: repr(t.detach().sum(dtype=torch.float64).item()) for name, t in real.items()}


@contextlib.contextmanager
def _named(probe: Probe, where: str) -> Iterator[None]:
    """Add to whatever a probe raises whose it is."""
    try:
        yield
    except Exception as error:
        error.add_note(f"raised by the probe '{probe.name}' {where}")
        raise
