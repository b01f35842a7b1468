"""A run into a store by tasks; when it ends, the moments of its tasks are merged and the store holds the result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from resdyn import store as stores
from resdyn.capturing.executor import run_tasks, tell_resuming
from resdyn.store import Layout, place
from resdyn.store.lock import locked
from resdyn.transporting.moments import Moments
from resdyn.transporting.plan import RESULT, Plan
from resdyn.transporting.worker import PARTS, from_arrays, run_transport_task


@dataclass(frozen=True)
class Fit:
    """A plan, and where its tasks run."""

    plan: Plan
    workers: int
    scheduler: str | None
    show_progress: bool
    provenance: dict[str, Any]

    def into(self, store: Path, overwrite: bool = False) -> xr.Dataset:
        """Create or resume a store, and open it."""
        settings = self.plan.settings()
        stores.recover(store)
        with locked(store):
            if overwrite:
                stores.overwrite_store(store, self.plan.layout, settings, self.provenance)
            elif not stores.exists(store):
                stores.create_store(store, self.plan.layout, settings, self.provenance)
            else:
                stores.check_resumable(store, settings)
            if not is_result(stores.open_store(store)):
                moments = self._measure(store)
                replace_by_result(store, self.plan.result_layout, settings, self.provenance, moments)
        return stores.open_store(store)

    def _measure(self, store: Path) -> Moments:
        """The moments of all samples, or of those until the error is small enough."""
        done = stores.done_tasks(store)
        regions = stores.stored_regions(store, self.plan.layout)
        tasks = self.plan.tasks(regions)
        tell_resuming(done, self.show_progress)
        size = len(tasks) if self.plan.until is None else max(1, self.workers)
        merged: Moments | None = None
        for start in range(0, len(tasks), size):
            some = tasks[start : start + size]
            run_tasks(
                run_transport_task,
                [task for task in some if not done[task.payload.number]],
                self.plan.job(str(store)),
                workers=self.workers,
                scheduler=self.scheduler,
                show_progress=self.show_progress,
            )
            for moments in stored_moments(store, range(start, start + len(some))):
                merged = moments if merged is None else merged.merged(moments)
                if self.plan.until is not None and bool((relative_error(merged) <= self.plan.until).all()):
                    return merged
        assert merged is not None
        return merged


def is_result(dataset: xr.Dataset) -> bool:
    """Whether a store holds a finished transport, and not the moments of its tasks."""
    return RESULT[0] in dataset


def stored_moments(store: Path, numbers: range) -> Iterator[Moments]:
    """Moments of finished tasks, all depths together, read one by one."""
    dataset = stores.open_store(store)
    for number in numbers:
        names = [f"{part}_{number}" for part in PARTS]
        yield from_arrays({name: dataset[name].values for name in names}, number)


def relative_error(moments: Moments) -> np.ndarray:
    """Frobenius norm of the standard errors over that of the mean, per depth; NaN (never small) for one sample."""
    error, mean = (np.nan_to_num(m.astype(np.float64)) for m in (moments.standard_error, moments.mean))
    if moments.count < 2:
        return np.full(len(mean), np.nan)
    norms = np.linalg.norm(mean, axis=(1, 2))
    errors = np.linalg.norm(error, axis=(1, 2))
    return np.divide(errors, norms, out=np.where(errors > 0, np.inf, 0.0), where=norms > 0)


def replace_by_result(
    store: Path, layout: Layout, settings: dict[str, Any], provenance: dict[str, Any], moments: Moments
) -> None:
    """A store of the same settings that holds the result alone, in the place of the one of the tasks."""
    count = {"num_samples": moments.count, "signs": moments.signs}
    larger = place.beside(store)
    place.remove(larger, store)
    digests = provenance.get("sample_digests", [])[: moments.count]
    stores.create_store(larger, layout, settings, provenance | count | {"sample_digests": digests})
    arrays = dict(zip(RESULT, (moments.mean, moments.standard_error, moments.noise), strict=True))
    stores.write_task(larger, 0, layout.regions[0], arrays)
    place.put_in_place(larger, store)


def moments_of(dataset: xr.Dataset) -> Moments:
    """The moments that a finished transport was made of."""
    count, signs = int(dataset.attrs["num_samples"]), int(dataset.attrs["signs"])
    mean, error, noise = (dataset[name].values for name in RESULT)
    if count < 2:
        return Moments(count, mean, np.where(np.isnan(mean), np.nan, 0).astype(mean.dtype), signs * mean, signs)
    scale = count * (count - 1)
    return Moments(count, mean, error**2 * scale, noise * scale**0.5 + signs * mean, signs)
