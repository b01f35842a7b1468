"""What a capture will cost: said where it is long, from what was measured of it so far and the arrays it stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, prod

import numpy as np

from resdyn._format import bytes_text, duration
from resdyn.capturing.executor import Task
from resdyn.capturing.plan import PASSES, SAMPLES, Plan
from resdyn.probes import traits
from resdyn.store import Layout, Variable

LONG_SECONDS = 30.0  # a capture that takes less says nothing
PATIENCE_SECONDS = 10.0  # how long nothing may be known of the time before the rest is said
SHARE_KNOWN = 0.1  # done of the work before its time is estimated where it is not known how many tasks run at once
METADATA_BYTES = 1600  # of an array: shape, attributes, seals
FILE_BYTES = 50  # around the numbers of a chunk
PADDED = ("coord", "eigenvalue")


@dataclass(frozen=True)
class Size:
    """Bytes of what a capture stores.

    Attributes:
        on_disk: Estimated: padding, which compresses to nothing, is left out; numbers are taken as they are, so that it
            is too much where many of them are zero, as after ReLUs.
        in_memory: Of all arrays, loaded.
    """

    on_disk: int
    in_memory: int

    def __str__(self) -> str:
        return f"a store of about {bytes_text(self.on_disk)} ({bytes_text(self.in_memory)} once loaded)"


def size_of(layout: Layout) -> Size:
    """How large a store of this layout is when every task is done."""
    sizes = layout.coords["state_size"][1] if "state_size" in layout.coords else np.ones(1)
    share = float(np.mean(sizes) / max(np.max(sizes), 1))
    whole = {name: prod(v.shape) * np.dtype(v.dtype).itemsize for name, v in layout.variables.items()}
    kept = sum(size * (share if _is_padded(layout.variables[name]) else 1.0) for name, size in whole.items())
    files = sum(len(region.variables) for region in layout.regions)
    metadata = METADATA_BYTES * (len(layout.variables) + len(layout.coords) + 1)
    return Size(int(kept + metadata + FILE_BYTES * files), sum(whole.values()))


def _is_padded(variable: Variable) -> bool:
    """Whether an axis has the length of the largest state, for every block or depth."""
    return any(dim in variable.dims for dim in PADDED) and any(dim in variable.dims for dim in ("block", "depth"))


@dataclass
class Cost:
    """Says once what a capture costs, as soon as some of it was measured; as `progress_bars` takes its remarks.

    Attributes:
        work: Title of each part -> what it consists of, such as "32 samples of 9 blocks (trajectory, singular)".
        size: Of the store.
        at_once: How many tasks run at a time; None: not known.
    """

    work: Mapping[str, str]
    size: Size
    at_once: int | None = 1
    _said: set[str] = field(default_factory=set)
    _begun: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, tasks: Sequence[Task], at_once: int | None) -> Cost:
        """What these tasks of a plan cost, `at_once` of them at a time."""
        steps = Counter[str]()
        for task in tasks:
            steps[task.title] += task.ticks
        names = {SAMPLES: [], PASSES: []}  # type: dict[str, list[str]]
        for probe in plan.probes:
            names[SAMPLES if traits(probe).per_sample else PASSES].append(probe.name)
        units = {SAMPLES: f"samples of {len(plan.stream)} blocks", PASSES: "batches of passes over the data"}
        work = {title: f"{n} {units[title]} ({', '.join(names[title])})" for title, n in steps.items() if n}
        return cls(work, size_of(plan.layout), at_once)

    def __call__(self, totals: Mapping[str, int | None], done: Mapping[str, int], seconds: float) -> str | None:
        """A line for now, or None: `done` of `totals` steps were taken after some seconds."""
        for title, total in totals.items():
            begun = self._begun.setdefault(title, seconds if self._begun else 0.0)
            if not total or done[title] >= total:
                continue
            if title not in self._said and done[title] >= self._needed(total):
                self._said |= {title, ""}
                return self._estimate(title, done[title], total, seconds - begun)
            break  # parts are done one after the other
        if "" not in self._said and seconds >= PATIENCE_SECONDS:
            self._said.add("")
            return (
                f"to do: {', then '.join(self.work.values())}; {self.size}; the time is estimated once a part is done"
            )
        return None

    def _needed(self, total: int) -> int:
        return max(1, ceil(SHARE_KNOWN * total) if self.at_once is None else 1)

    def _estimate(self, title: str, done: int, total: int, seconds: float) -> str | None:
        together = self.at_once or 1
        expected = seconds * ceil(total / together) / ceil(done / together)
        if expected < LONG_SECONDS:
            return None
        basis = f"estimated from {done} of {total}, which took {duration(seconds)}"
        return f"{self.work[title]}: about {duration(expected)} ({basis}); {self.size}"
