"""A transport, decided and checked before anything is written: its settings, arrays and tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from resdyn._hash import tensor_bytes
from resdyn.capturing.executor import Task
from resdyn.capturing.selection import LabelledInputs, fingerprint
from resdyn.capturing.worker import Job, ModelSource
from resdyn.models import LoadedModel, weights_hash
from resdyn.probes.sample import float_dtype
from resdyn.store import Layout, Region, Variable
from resdyn.stream import ResidualStream
from resdyn.stream.arguments import Arguments
from resdyn.stream.placement import model_dtype
from resdyn.transporting.preparing import Prepared
from resdyn.transporting.reductions import Reduction
from resdyn.transporting.worker import PARTS, TransportJob, TransportTask, accumulator

DIMS = ("depth", "row", "column")
RESULT = ("transport", "transport_standard_error", "transport_noise")
MEANING = {
    "transport": "E[d target / d h_depth] over the samples",
    "transport_standard_error": "standard error of each entry over the samples",
    "transport_noise": "one draw of what the error of the mean may be (random signs over the samples)",
}


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs: what was prepared, and how it is split into tasks."""

    model: nn.Module | LoadedModel
    prepared: Prepared
    seed: int
    chunk_size: int
    until: float | None

    @property
    def stream(self) -> ResidualStream:
        return self.prepared.stream

    @property
    def data(self) -> LabelledInputs:
        return self.prepared.inputs

    @property
    def reduction(self) -> Reduction:
        return self.prepared.reduction

    def settings(self) -> dict[str, Any]:
        """What a store is made for; a run resumes only a store in which all of this is the same."""
        found, valid = self.prepared, self.prepared.valid
        return {
            "measurement": "transport",
            "weights_hash": weights_hash(self.stream.model),
            "graph_hash": self.stream.fingerprint(),
            "stream": self.stream.describe(),
            "data": self.data.name,
            "split": self.data.split,
            "data_hash": fingerprint(self.data, self.prepared.samples),
            "samples": self.data.index[self.prepared.samples].tolist(),
            "depths": list(self.prepared.tail.depths),
            "to": self.prepared.target,
            "reduction": self.reduction.name,
            "average_targets": self.reduction.average_targets,
            "causal": self.reduction.causal,
            "channels": self.reduction.channels if self.reduction.name == "pool" else None,
            "target_shape": list(self.reduction.target),
            "columns": self.reduction.columns,
            "positions": self.prepared.positions,
            "positions_hash": None if valid is None else hashlib.sha256(tensor_bytes(valid)).hexdigest(),
            "granularity": self.stream.granularity,
            "dtype": float_dtype(self.stream),
            "batch_norm": "eval",
            "seed": self.seed,
            "chunk_size": self.chunk_size,
            "until": self.until,
        } | ({} if found.products is None else {"products": str(found.products).removeprefix("torch.")})

    @property
    def _precision(self) -> str:
        return str(accumulator(model_dtype(self.stream.model))).removeprefix("torch.")

    @property
    def _shape(self) -> tuple[int, int, int]:
        return len(self.prepared.tail.depths), self.reduction.rows, max(self.reduction.columns)

    @property
    def _chunks(self) -> list[Tensor]:
        return list(self.prepared.samples.split(self.chunk_size))

    @property
    def layout(self) -> Layout:
        """Every task has arrays of its own: moments of its samples."""
        variables = {}
        for number in range(len(self._chunks)):
            for part in PARTS[:3]:
                variables[f"{part}_{number}"] = Variable(DIMS, self._shape, self._precision)
            variables[f"count_{number}"] = Variable(("count",), (2,), "int64")
        regions = tuple(Region(_names(number)) for number in range(len(self._chunks)))
        return Layout(variables, coords_of(self.prepared.tail.depths, self.reduction.columns), regions)

    @property
    def result_layout(self) -> Layout:
        """What a finished store holds."""
        return result_layout(self.prepared.tail.depths, self.reduction.columns, self._shape, self._precision)

    def tasks(self, regions: Sequence[Region]) -> list[Task]:
        """One per chunk of the samples, in their order."""
        starts = np.cumsum([0, *map(len, self._chunks)]).tolist()
        found = []
        for number, (rows, region) in enumerate(zip(self._chunks, regions, strict=True)):
            valid = None if self.prepared.valid is None else self.prepared.valid[starts[number] : starts[number + 1]]
            indices = tuple(self.data.index[rows].tolist())
            payload = TransportTask(number, region, self.data.read(rows), valid, indices)
            found.append(Task(payload, "samples", ticks=len(rows)))
        return found

    def job(self, store: str) -> TransportJob:
        """What the tasks share. The stream that was found here serves in this process."""
        job = Job(
            store=store,
            source=ModelSource.of(self.model if isinstance(self.model, LoadedModel) else self.stream.model),
            example=self.data.read(self.prepared.samples[:1]),
            named=self.stream.named,
            granularity=self.stream.granularity,
            position=None,
            description=self.stream.describe(),
            probes=(),
            kind="block",
            seed=self.seed,
            num_classes=0,
            data=None,
        )
        job.stream = self.stream
        shared = TransportJob(
            job, self.prepared.tail.depths, self.prepared.target, self.reduction, self.seed, self.prepared.trace
        )
        shared.tail = self.prepared.tail
        return shared

    def digests(self) -> list[str]:
        """A short hash of every sample's inputs, by which samples of a fit are recognised."""
        return [digest for rows in self.prepared.samples.split(256) for digest in sample_digests(self.data.read(rows))]


def coords_of(depths: Sequence[int], columns: Sequence[int]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Coordinates of a transport's arrays."""
    return {
        "depth": (("depth",), np.asarray(depths, dtype=np.int64)),
        "columns": (("depth",), np.asarray(columns, dtype=np.int64)),
    }


def result_layout(depths: Sequence[int], columns: Sequence[int], shape: tuple[int, int, int], precision: str) -> Layout:
    """The arrays of a finished transport, written by one task."""
    variables = {name: Variable(DIMS, shape, precision, {"long_name": MEANING[name]}) for name in RESULT}
    return Layout(variables, coords_of(depths, columns), (Region(RESULT),))


def sample_digests(inputs: Arguments) -> list[str]:
    """A short hash of the inputs of each sample, those that all samples share left out."""
    named = {name: values for name, values in sorted(inputs.named.items()) if name not in inputs.shared}
    found = []
    for n in range(len(inputs)):
        digest = hashlib.blake2b(digest_size=8)
        for name, values in named.items():
            digest.update(f"{name}{values.dtype}{tuple(values.shape[1:])}".encode())
            digest.update(tensor_bytes(values[n]))
        found.append(digest.hexdigest())
    return found


def _names(number: int) -> tuple[str, ...]:
    return tuple(f"{part}_{number}" for part in PARTS)
