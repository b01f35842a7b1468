"""What measuring may cost while a network trains, and what it has cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Budget:
    """How long measuring may take, and how long it has taken.

    Of G groups of probes by rising cost the first k may together take k / G of the budget: cheap ones leave something
    for expensive ones, and what they do not need goes to the next.

    Attributes:
        costs: Seconds of the last measurement, by name.
        spent: Seconds of all measurements, by name.

    Args:
        state: That of the monitor.
        allowed: Seconds that measuring may have taken by now; None is no bound.
        clock: In seconds.
    """

    def __init__(self, state: dict[str, Any], allowed: float | None, clock: Callable[[], float]) -> None:
        self.costs, self.spent = dict(state["costs"]), dict(state["spent"])
        self._allowed = math.inf if allowed is None else allowed
        self._clock, self._start, self._before = clock, clock(), state["measuring_seconds"]

    @property
    def measuring_seconds(self) -> float:
        """Seconds that measuring has taken, up to now."""
        seconds: float = self._before + self._clock() - self._start
        return seconds

    def by_cost(self, names: Sequence[str]) -> list[str]:
        """Names by rising cost."""
        return sorted(names, key=lambda name: self.costs.get(name, 0.0))

    def allows(self, name: str, names: Sequence[str], also: Sequence[str] = ()) -> bool:
        """Whether `name`, one of `names`, may be measured now, and all of `also` with it, at what they cost last."""
        cost = self.costs.get(name, 0.0)
        if self.measuring_seconds + cost + sum(self.costs.get(other, 0.0) for other in also) > self._allowed:
            return False
        order = self.by_cost(names)
        rank = order.index(name) + 1
        return sum(self.spent.get(other, 0.0) for other in order[:rank]) + cost <= self._allowed * rank / len(order)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Record the time of what happens inside, if it does not fail."""
        start = self._clock()
        yield
        self.costs[name] = self._clock() - start
        self.spent[name] = self.spent.get(name, 0.0) + self.costs[name]
