"""More samples for a finished store: a larger one is made beside it, which measures the new samples alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from resdyn import store as stores
from resdyn.capturing.executor import Task
from resdyn.capturing.plan import Plan
from resdyn.capturing.selection import fingerprint
from resdyn.capturing.worker import SampleTask
from resdyn.errors import StoreError
from resdyn.store import place

ALONE = ("versions", "machine", "command")  # what is recorded of each run that has measured some samples


@dataclass
class Earlier:
    """What a finished store holds of the same measurement; read once more wherever it arrives."""

    store: str

    @cached_property
    def dataset(self) -> xr.Dataset:
        return stores.open_store(self.store)

    def samples(self, indices: Sequence[int], names: Sequence[str]) -> dict[int, dict[str, np.ndarray]]:
        """Arrays of those of some samples that are there, by their index."""
        known = self.dataset["sample"].values.tolist() if "sample" in self.dataset.dims else []
        found = [index for index in indices if index in known]
        rows = self.dataset[list(names)].isel(sample=[known.index(index) for index in found]).load() if found else None
        return (
            {}
            if rows is None
            else {index: {name: rows[name].values[n] for name in names} for n, index in enumerate(found)}
        )

    def without_known(self, task: Task) -> Task:
        """The task, worth as many steps as it has samples that are not there; a pass over the data is not repeated."""
        known = set(self.dataset["sample"].values.tolist()) if "sample" in self.dataset.dims else set()
        new = [i for i in task.payload.indices if i not in known] if isinstance(task.payload, SampleTask) else []
        return replace(task, ticks=len(new))

    def whole(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Arrays that do not belong to samples."""
        return {name: self.dataset[name].values for name in names}

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store}


def is_extension(path: Path, plan: Plan, settings: dict[str, Any]) -> bool:
    """Whether the store at `path` is finished, and of the same settings with some of the samples."""
    stored, finished = stores.stored_settings(path)
    asked = json.loads(json.dumps(settings))
    if not finished or not set(stored["samples"]) < set(asked["samples"]):
        return False
    same = {"samples", "data_hash"}
    if {k: v for k, v in stored.items() if k not in same} != {k: v for k, v in asked.items() if k not in same}:
        return False
    rows = plan.data.rows_of(stored["samples"])
    return bool(fingerprint(plan.data, rows, plan.read_in_passes) == stored["data_hash"])


def begin_extension(path: Path, plan: Plan, settings: dict[str, Any], provenance: dict[str, Any]) -> Path:
    """Make the larger store beside the one at `path`, or find it as an earlier run left it."""
    target = place.beside(path)
    if target.exists():
        with contextlib.suppress(StoreError):
            stores.check_resumable(target, settings)
            return target
        place.remove(target, path)
    before = stores.open_store(path)
    earlier = [*before.attrs.get("extends", []), _run_of(before)]
    notes = [*before.attrs.get("notes", []), *provenance["notes"]]
    provenance = provenance | {"extends": earlier, "notes": list(dict.fromkeys(notes))}
    stores.create_store(target, plan.layout, settings, provenance)
    return target


def _run_of(dataset: xr.Dataset) -> dict[str, Any]:
    return {"samples": dataset.attrs["samples"]} | {name: dataset.attrs.get(name) for name in ALONE}
