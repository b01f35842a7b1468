"""What a worker runs: the moments of some samples' transports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resdyn import store as stores
from resdyn._numerics import plain_arithmetic
from resdyn.capturing.executor import Tick
from resdyn.capturing.worker import Job
from resdyn.errors import ComputationError
from resdyn.store import Region
from resdyn.stream.arguments import Arguments
from resdyn.stream.placement import model_dtype
from resdyn.stream.tail_map import TailMap, Target
from resdyn.stream.verify import taken_as_current
from resdyn.transporting.moments import Moments, sign_of
from resdyn.transporting.reductions import Reduction, block_size

PARTS = ("mean", "squares", "signed", "count")


@dataclass(frozen=True)
class TransportTask:
    """Some samples: their inputs, their valid positions (bool (n, T), None where states have none), their indices."""

    number: int
    region: Region
    inputs: Arguments
    valid: Tensor | None
    indices: tuple[int, ...]


@dataclass
class TransportJob:
    """What the tasks of one run share."""

    job: Job
    depths: tuple[int, ...]
    target: Target
    reduction: Reduction
    seed: int
    trace: bool
    products: torch.dtype | None = None

    @cached_property
    def tail(self) -> TailMap:
        return TailMap(self.job.stream.whole, self.depths, self.target, self.trace, self.products)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in dict(self.__dict__).items() if name != "tail"}

    def sample(self, inputs: Arguments, valid: Tensor | None) -> list[np.ndarray]:
        """The transport of one sample at every depth, each (rows, columns)."""
        stream = self.job.stream
        inputs = inputs.to(self.job.device)
        pullback = self.tail.at(stream.whole.states(*inputs.args, **inputs.kwargs))
        like = torch.empty(0, dtype=pullback.dtype, device=self.job.device)
        valid = None if valid is None else valid.to(self.job.device)
        block = block_size(self.tail.largest, like.element_size(), self.job.device)
        found = self.reduction.matrices(pullback, valid, like, block)
        return [matrix.to(accumulator(model_dtype(stream.model))).cpu().numpy() for matrix in found]


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """In which precision moments of a model of some precision are kept."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def run_transport_task(job: TransportJob, task: TransportTask, tick: Tick) -> int:
    """Measure and write one task, unless it is done already; return its number."""
    if not stores.is_done(job.job.store, task.number):
        with plain_arithmetic(), taken_as_current():
            moments = _moments(job, task, tick)
        stores.write_task(job.job.store, task.number, task.region, stacked(task.number, moments))
    return task.number


def _moments(job: TransportJob, task: TransportTask, tick: Tick) -> list[Moments]:
    dtype = str(accumulator(model_dtype(job.job.stream.model))).removeprefix("torch.")
    moments = [Moments.empty((job.reduction.rows, columns), dtype) for columns in job.reduction.columns]
    for n, index in enumerate(task.indices):
        found = job.sample(task.inputs[n : n + 1], None if task.valid is None else task.valid[n])
        for depth, x in enumerate(found):
            if not np.isfinite(x).all():
                raise ComputationError(
                    f"the transport from depth {job.depths[depth]} is not finite at sample {index}; leave it out, or "
                    "use a model in double precision"
                )
            moments[depth].add(x, sign_of(job.seed, index))
        tick(1)
    return moments


def stacked(number: int, moments: list[Moments]) -> dict[str, np.ndarray]:
    """Moments of all depths as the arrays of one task; narrower matrices are filled up with NaN."""
    columns = max(m.mean.shape[1] for m in moments)

    def filled(matrices: list[np.ndarray]) -> np.ndarray:
        rows = [np.pad(m, ((0, 0), (0, columns - m.shape[1])), constant_values=np.nan) for m in matrices]
        return np.stack(rows)

    return {
        f"mean_{number}": filled([m.mean for m in moments]),
        f"squares_{number}": filled([m.squares for m in moments]),
        f"signed_{number}": filled([m.signed for m in moments]),
        f"count_{number}": np.asarray([moments[0].count, moments[0].signs], dtype=np.int64),
    }


def from_arrays(arrays: dict[str, np.ndarray], number: int) -> Moments:
    """Moments of all depths together, from the arrays of one task."""
    mean, squares, signed, count = (arrays[f"{part}_{number}"] for part in PARTS)
    return Moments(int(count[0]), mean, squares, signed, int(count[1]))
