"""A capture, decided and checked before anything is written: its settings, arrays and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor, nn

from resdyn.capturing.described import COORDS, DIMS, described_array, settings_of
from resdyn.capturing.executor import Task
from resdyn.capturing.selection import LabelledInputs, fingerprint
from resdyn.capturing.worker import DataTask, EarlierResults, Job, ModelSource, SampleTask
from resdyn.models import LoadedModel, weights_hash
from resdyn.probes import Probe, traits
from resdyn.probes.check import layouts_of
from resdyn.probes.protocol import attributes
from resdyn.probes.sample import float_dtype, state_sizes
from resdyn.store import Layout, Region, Variable
from resdyn.stream import Kind, Stream

MANY_CLASSES = 1000
SAMPLES, PASSES = "samples", "passes over the data"  # titles of the parts of a capture
Coords = dict[str, tuple[tuple[str, ...], np.ndarray]]


@dataclass(frozen=True)
class Plan:
    """Everything that a capture needs.

    Attributes:
        samples: Rows of `data` that are measured one by one, int64.
        read: What probes read that pass over the data.
        num_classes: Of the data, or the model's logits where no label is known.
        notes: What a reader must know of the classes.
    """

    model: nn.Module | LoadedModel
    stream: Stream
    data: LabelledInputs
    probes: tuple[Probe, ...]
    samples: Tensor
    read: LabelledInputs
    num_classes: int
    kind: Kind
    seed: int
    chunk_size: int
    notes: tuple[str, ...] = ()

    @property
    def model_name(self) -> str:
        """The specification that the model was loaded by, or its class."""
        return self.model.name if isinstance(self.model, LoadedModel) else type(self.model).__name__

    def settings(self) -> dict[str, Any]:
        """What a store is made for: a run resumes only a store in which all of this is the same.

        The model is its weights and its graph (code, constants, buffers); what it is called is not compared.
        """
        return {
            "weights_hash": weights_hash(self.stream.model),
            "graph_hash": self.stream.fingerprint(),
            "stream": self.stream.describe(),
            "data": self.data.name,
            "split": self.data.split,
            "data_hash": fingerprint(self.data, self.samples, self.read_in_passes),
            "class_names": self._class_names(),
            "samples": self.data.index[self.samples].tolist(),
            "feature_samples": len(self.read) if self._reads_all else None,
            "probes": {probe.name: settings_of(probe) for probe in self.probes},
            "kind": self.kind,
            "position": self.stream.position,
            "granularity": self.stream.granularity,
            "hold": self.stream.whole.hold,
            "within": self.stream.whole.within,
            "dtype": float_dtype(self.stream),
            "batch_norm": "eval",
            "nonsquare": "skip",
            "seed": self.seed,
            "chunk_size": self.chunk_size,
        }

    def _class_names(self) -> list[str]:
        """Names of the data's classes, else numbers; none for a vocabulary, or where no label is known."""
        if self.data.class_names is not None:
            return list(self.data.class_names)
        nameless = not self.data.labelled or self.num_classes > MANY_CLASSES
        return [] if nameless else [str(c) for c in range(self.num_classes)]

    @cached_property
    def layout(self) -> Layout:
        """All arrays; where probes want different lengths of an axis, the longest (the rest stays NaN)."""
        layouts = layouts_of(self.probes, self.stream, self.num_classes)
        lengths = _lengths([entry for layout in layouts.values() for entry in layout.values()])
        lengths["sample"] = len(self.samples)
        variables, names = {}, {True: (), False: ()}  # type: tuple[dict[str, Variable], dict[bool, tuple[str, ...]]]
        for probe in self.probes:
            said, per_sample = attributes(probe, self.kind), traits(probe).per_sample
            names[per_sample] += tuple(layouts[probe.name])
            for name, (dims, _, dtype) in layouts[probe.name].items():
                dims = ("sample", *dims) if per_sample else dims
                meaning = described_array(probe.name, dims, said.get(name, {}))
                variables[name] = Variable(dims, tuple(lengths[dim] for dim in dims), dtype, meaning)
        sample_names, data_names = names[True], names[False]
        regions = [Region(sample_names, n, n + self.chunk_size) for n in self._starts] if sample_names else []
        regions += [Region(data_names)] if data_names else []
        coords = self._coords(lengths, bool(sample_names))
        meaning = {name: {"long_name": (DIMS | COORDS)[name]} for name in coords}
        return Layout(variables, coords, tuple(regions), self.chunk_size, meaning)

    def tasks(self, regions: Sequence[Region]) -> list[Task]:
        """One per region of the store, in the same order."""
        return [self._task(number, region) for number, region in enumerate(regions)]

    def job(self, store: str, earlier: EarlierResults | None = None) -> Job:
        """What the tasks share. The stream that was found here serves in this process."""
        job = Job(
            store=store,
            source=ModelSource.of(self.model),
            example=self.data.read(self.samples[:1]),
            named=self.stream.named,
            granularity=self.stream.granularity,
            hold=self.stream.whole.hold,
            within=self.stream.whole.within,
            position=self.stream.position,
            description=self.stream.describe(),
            probes=self.probes,
            kind=self.kind,
            seed=self.seed,
            num_classes=self.num_classes,
            data=self.read_in_passes,
            earlier=earlier,
        )
        job.stream = self.stream
        return job

    @property
    def read_in_passes(self) -> LabelledInputs | None:
        """What the features probe reads, where it was asked for."""
        return self.read if self._reads_all else None

    @property
    def _reads_all(self) -> bool:
        return bool(self._reading)

    @property
    def _reading(self) -> list[Probe]:
        """The probes that pass over the data."""
        return [probe for probe in self.probes if not traits(probe).per_sample]

    @property
    def _starts(self) -> range:
        return range(0, len(self.samples), self.chunk_size)

    def _task(self, number: int, region: Region) -> Task:
        if region.start is None:
            reading = [traits(probe) for probe in self._reading]
            batches = sum(probe.passes * -(-len(self.read) // probe.batch_size) for probe in reading)
            return Task(DataTask(number, region), PASSES, ticks=batches)
        rows = self.samples[region.start : region.stop]
        labels, indices = self.data.labels[rows].tolist(), self.data.index[rows].tolist()
        payload = SampleTask(number, region, self.data.read(rows), tuple(labels), tuple(indices))
        return Task(payload, SAMPLES, ticks=len(rows))

    def _coords(self, lengths: dict[str, int], with_samples: bool) -> Coords:
        depths = len(self.stream) + 1
        coords = {
            "block": (("block",), np.arange(depths - 1)),
            "depth": (("depth",), np.arange(depths)),
            "stage": (("block",), np.asarray([block.stage for block in self.stream.blocks])),
            "stage_of_depth": (("depth",), np.asarray(self.stream.stage_of_depth)),
            "state_size": (("depth",), np.asarray(state_sizes(self.stream))),
            "class": (("class",), np.arange(self.num_classes)),
        }
        if "rank" in lengths:
            coords["rank"] = (("rank",), np.arange(lengths["rank"]))
        if with_samples:
            coords["sample"] = (("sample",), self.data.index[self.samples].numpy())
            coords["label"] = (("sample",), self.data.labels[self.samples].numpy())
        return {name: (dims, values.astype(np.int64)) for name, (dims, values) in coords.items()}


def _lengths(layouts: list[Any]) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for dims, shape, _ in layouts:
        for dim, length in zip(dims, shape):
            lengths[dim] = max(length, lengths.get(dim, 0))
    return {dim: max(length, lengths.get(dim.removesuffix("_j"), 0)) for dim, length in lengths.items()}
