"""A capture, decided and checked before anything is written: its settings, arrays and tasks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor, nn

from resdyn.capturing.executor import Task
from resdyn.capturing.selection import LabelledInputs, fingerprint
from resdyn.capturing.worker import DataTask, EarlierResults, Job, ModelSource, SampleTask
from resdyn.models import LoadedModel, weights_hash
from resdyn.probes import Features, Probe
from resdyn.probes.sample import Layout as ProbeLayout
from resdyn.probes.sample import float_dtype, state_sizes
from resdyn.store import Layout, Region, Variable
from resdyn.stream import Kind, ResidualStream, TokenStream

MANY_CLASSES = 1000
Coords = dict[str, tuple[tuple[str, ...], np.ndarray]]


@dataclass(frozen=True)
class Plan:
    """Everything that a capture needs.

    Attributes:
        samples: Rows of `data` that are measured one by one, int64.
        read: What the features probe reads.
        n_classes: Of the data, or the model's logits where no label is known.
        notes: What a reader must know of the classes.
    """

    model: nn.Module | LoadedModel
    stream: ResidualStream | TokenStream
    data: LabelledInputs
    probes: tuple[Probe, ...]
    samples: Tensor
    read: LabelledInputs
    n_classes: int
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
            "data_hash": fingerprint(self.data, self.samples, self.read_by_features),
            "class_names": self._class_names(),
            "samples": self.data.index[self.samples].tolist(),
            "feature_samples": len(self.read) if self._reads_all else None,
            "probes": {probe.name: dataclasses.asdict(probe) for probe in self.probes},
            "kind": self.kind,
            "position": self.stream.position,
            "granularity": self.stream.granularity,
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
        nameless = not self.data.labelled or self.n_classes > MANY_CLASSES
        return [] if nameless else [str(c) for c in range(self.n_classes)]

    @cached_property
    def layout(self) -> Layout:
        """All arrays; where probes want different lengths of an axis, the longest (the rest stays NaN)."""
        wanted: dict[bool, ProbeLayout] = {probe.per_sample: {} for probe in self.probes}
        for probe in self.probes:
            wanted[probe.per_sample] |= probe.layout(self.stream, self.n_classes)
        sample_names, data_names = tuple(wanted.get(True, ())), tuple(wanted.get(False, ()))
        lengths = _lengths([*wanted.get(True, {}).values(), *wanted.get(False, {}).values()])
        lengths["sample"] = len(self.samples)
        variables = {}
        for per_sample, group in wanted.items():
            for name, (dims, _, dtype) in group.items():
                dims = ("sample", *dims) if per_sample else dims
                variables[name] = Variable(dims, tuple(lengths[dim] for dim in dims), dtype)
        regions = [Region(sample_names, n, n + self.chunk_size) for n in self._starts] if sample_names else []
        regions += [Region(data_names)] if data_names else []
        return Layout(variables, self._coords(lengths, bool(sample_names)), tuple(regions), self.chunk_size)

    def tasks(self) -> list[Task]:
        """One per region of the layout, in the same order."""
        return [self._task(number, region) for number, region in enumerate(self.layout.regions)]

    def job(self, store: str, earlier: EarlierResults | None = None) -> Job:
        """What the tasks share. The stream that was found here serves in this process."""
        job = Job(
            store=store,
            source=ModelSource.of(self.model),
            example=self.data.read(self.samples[:1]),
            named=self.stream.named,
            granularity=self.stream.granularity,
            position=self.stream.position,
            description=self.stream.describe(),
            probes=self.probes,
            kind=self.kind,
            seed=self.seed,
            n_classes=self.n_classes,
            data=self.read_by_features,
            earlier=earlier,
        )
        job.stream = self.stream
        return job

    @property
    def read_by_features(self) -> LabelledInputs | None:
        """What the features probe reads, where it was asked for."""
        return self.read if self._reads_all else None

    @property
    def _reads_all(self) -> bool:
        return any(not probe.per_sample for probe in self.probes)

    @property
    def _starts(self) -> range:
        return range(0, len(self.samples), self.chunk_size)

    def _task(self, number: int, region: Region) -> Task:
        if region.start is None:
            size = next(probe.batch_size for probe in self.probes if isinstance(probe, Features))
            return Task(DataTask(number, region), "class means", ticks=2 * -(-len(self.read) // size))
        rows = self.samples[region.start : region.stop]
        labels, indices = self.data.labels[rows].tolist(), self.data.index[rows].tolist()
        payload = SampleTask(number, region, self.data.read(rows), tuple(labels), tuple(indices))
        return Task(payload, "samples", ticks=len(rows))

    def _coords(self, lengths: dict[str, int], with_samples: bool) -> Coords:
        depths = len(self.stream) + 1
        coords = {
            "block": (("block",), np.arange(depths - 1)),
            "depth": (("depth",), np.arange(depths)),
            "stage": (("block",), np.asarray([block.stage for block in self.stream.blocks])),
            "stage_of_depth": (("depth",), np.asarray(self.stream.stage_of_depth)),
            "state_size": (("depth",), np.asarray(state_sizes(self.stream))),
            "class": (("class",), np.arange(self.n_classes)),
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
    return {dim: lengths[dim.removesuffix("_j")] for dim in lengths}
