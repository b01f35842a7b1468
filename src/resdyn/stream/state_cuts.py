"""Cuts of a graph between the updates of lanes: what the rest of the network depends on at each of them."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import fx

from resdyn.stream.cut import between, reach
from resdyn.stream.flow import Flow
from resdyn.stream.graph import is_floating, tensor_of
from resdyn.stream.held import held_among, value_name
from resdyn.stream.sums import Candidate, weights_of, without_views

Values = dict[Hashable, fx.Node]  # of each lane, by its number; of a value that is only kept, by its node


@dataclass(frozen=True)
class Lane:
    """Values that replace one another: each block's fork, sum and what it returns; without blocks, one that is kept."""

    first: fx.Node
    blocks: tuple[Candidate, ...] = ()
    outs: tuple[fx.Node, ...] = ()

    @property
    def name(self) -> str:
        """What computes the first value."""
        return value_name(self.first)

    @property
    def values(self) -> set[fx.Node]:
        """All values that there are of it, without views."""
        nodes = (self.first, *self.outs, *(node for block in self.blocks for node in (block.fork, block.total)))
        return {without_views(node) for node in nodes}

    def fork(self, done: int) -> fx.Node:
        """The value that the next block reads, after so many of them."""
        if done < len(self.blocks):
            return self.blocks[done].fork
        return self.outs[-1] if self.outs else self.first

    def total(self, done: int) -> fx.Node:
        """The sum of the last of so many blocks."""
        return self.blocks[done - 1].total if done else self.fork(0)

    def out(self, done: int) -> fx.Node:
        """What the last of so many blocks returns."""
        return self.outs[done - 1] if done else self.fork(0)


@dataclass(frozen=True)
class Step:
    """A block between two cuts: values that it reads, sums, values that it returns, and its updates by lane."""

    forks: Values
    totals: Values
    outs: Values
    updates: dict[int, list[Candidate]]

    @property
    def is_plain(self) -> bool:
        """Whether none of its updates has a skip."""
        return all(block.kind == "none" for blocks in self.updates.values() for block in blocks)


def leaves_of(flow: Flow, block: Candidate) -> list[fx.Node]:
    """What a block reads besides its state."""
    nodes = between(flow.graph, [block.fork], [block.total])
    inside = {block.fork, *nodes}
    return list(dict.fromkeys(n for node in nodes for n in node.all_input_nodes if n not in inside))


class StateCuts:
    """Lanes, the order of their updates, and the cuts between these."""

    def __init__(
        self, flow: Flow, lanes: Sequence[Lane], hold: Sequence[str] | None, held: Collection[fx.Node] = ()
    ) -> None:
        self.flow = flow
        self._held = held
        self.lanes = list(lanes)
        self.hold = hold
        order = [(flow.place[block.total], i) for i, lane in enumerate(lanes) for block in lane.blocks]
        self.order = [i for _, i in sorted(order)]
        # What only leads into held values is no reason to keep a value.
        needed = reach([flow.target], lambda node: node.all_input_nodes, stop=set(held))
        readers = {node for node in flow if node in needed and without_views(node) not in held}
        self._readers = [sum(1 << flow.place[user] for user in node.users if user in readers) for node in flow]
        self._start = sum(1 << flow.place[lane.first] for lane in lanes if lane.first in flow)
        self._weights = weights_of(flow.graph)
        self._carried = reach(flow.graph.parameters, lambda node: node.users)
        self.kept = [] if hold is None else [Lane(node) for node in self._static_values(hold)]
        self._needed = {i: self._first_reader(lane) for i, lane in enumerate([*self.lanes, *self.kept])}

    def _static_values(self, hold: Sequence[str]) -> Iterator[fx.Node]:
        """What blocks read that was computed with weights before the first of them."""
        leaves = dict.fromkeys(node for block in self.lanes[0].blocks for node in leaves_of(self.flow, block))
        firsts = {lane.first for lane in self.lanes}
        for node in held_among(self.flow.graph, leaves):
            after = any(
                value in self.flow and node in self.flow and self.flow.precedes(value, node) for value in self._held
            )
            held = value_name(node) in hold or after or without_views(node) in self._held
            if not held and not self._moves(node) and node not in firsts:
                yield node

    def _moves(self, node: fx.Node) -> bool:
        """Whether a value is computed from the first state."""
        return node in self.flow and bool(self.flow.ancestors(node) & self._start)

    def _first_reader(self, lane: Lane) -> int | None:
        """The first update that reads a lane's first value; None where that is computed from another lane."""
        others = [other.first for other in self.lanes if other is not lane and other.first in self.flow]
        if lane.first in self.flow and any(self.flow.precedes(o, lane.first) for o in others if o is not lane.first):
            return None
        after = reach([lane.first], lambda node: node.users)
        done = dict.fromkeys(range(len(self.lanes)), 0)
        for index, i in enumerate(self.order):
            done[i] += 1
            if self.lanes[i].total(done[i]) in after:
                return index
        return len(self.order)

    def _done(self, count: int) -> dict[int, int]:
        """Updates of each lane among the first so many."""
        return {i: self.order[:count].count(i) for i in range(len(self.lanes))}

    def _mask(self, values: Sequence[fx.Node]) -> int:
        mask = 0
        for node in values:
            mask |= self.flow.ancestors(node)
        return mask

    def _state(self, count: int, until: int | None = None) -> Values:
        """The value of every lane that the rest of the network depends on, after so many updates.

        `until`: the state that the updates up to this one read. None: what the updates so far leave, the last of them
        with its sum.
        """
        done = self._done(count)
        values: Values = {}
        for i, lane in enumerate([*self.lanes, *self.kept]):
            needed = self._needed[i]
            if i < len(self.lanes) and done[i]:
                closed = until is None and i == self.order[count - 1]
                values[i] = lane.total(done[i]) if closed else lane.fork(done[i])
            elif needed is not None and needed < (count if until is None else until):
                values[i if i < len(self.lanes) else lane.first] = lane.first
        mask = self._mask(list(values.values()))
        for i, lane in enumerate(self.lanes):
            if (
                i not in values
                and self._needed[i] is None
                and mask & self.flow.ancestors(lane.first) & (1 << self.flow.place[lane.first])
            ):
                values[i] = lane.first
        seen: set[fx.Node] = set()
        state: Values = {}
        for key in self._in_order(values):
            value = without_views(values[key])
            if value not in seen and self._is_read(values[key], mask):  # two lanes may begin with the same value
                state[key] = values[key]
                seen.add(value)
        return state

    def _in_order(self, values: Values) -> list[Hashable]:
        """Lanes by number, then values that are only kept."""
        lanes = [i for i in range(len(self.lanes)) if i in values]
        return [*lanes, *(key for key in values if key not in lanes)]

    def _is_read(self, node: fx.Node, mask: int) -> bool:
        """Whether a value is read behind a cut, or is the output."""
        if node is self.flow.target or node not in self.flow:
            return node is self.flow.target or any(u in self.flow and not self._within(u, mask) for u in node.users)
        return bool(self._readers[self.flow.place[node]] & ~mask)

    def _within(self, node: fx.Node, mask: int) -> bool:
        return bool(mask >> self.flow.place[node] & 1)

    def _leaking(self, values: Values) -> list[fx.Node]:
        """Floating-point values before a cut, computed from states, that are read behind it and no part of it."""
        mask = self._mask(list(values.values()))
        own = {without_views(node) for node in values.values()}
        return [
            node
            for i, node in enumerate(self.flow)
            if mask >> i & 1
            and self._readers[i] & ~mask
            and self._moves(node)
            and is_floating(node)
            and node in self._carried
            and without_views(node) not in own
            and without_views(node) not in self._held
            and not (self.hold is not None and value_name(node) in self.hold)
        ]

    def leaks(self) -> set[fx.Node]:
        """All that leaks through the cuts behind the updates."""
        counts = range(1, len(self.order) + 1)
        cuts = [self._state(count, until) for count in counts for until in (None, count + 1)]
        return {node for cut in cuts for node in self._leaking(cut)}

    def _cut(self, count: int, until: int | None = None) -> Values | None:
        """The state after so many updates; None where something else passes, unless all that passes is kept."""
        values = self._state(count, until)
        leaking = self._leaking(values)
        if not leaking:
            return values
        if self.hold is None or any(tensor_of(node) is None for node in leaking):
            return None
        roots = {without_views(node): node for node in leaking}
        return values | {root: root for root in roots if tensor_of(root) is not None}

    def steps(self) -> list[Step]:
        """The blocks between clean cuts, each with weights inside; none where one of them reads what passes a cut."""
        clean = [
            count
            for count in range(len(self.order) + 1)
            if self._cut(count, count + 1) is not None and (not count or self._cut(count) is not None)
        ]
        steps = self._all(pairwise(clean))
        ends: list[int] = []
        for step, count in zip(steps, clean[1:]):
            if ends and not self._weighs(step):
                ends.pop()
            ends.append(count)
        begins = clean[:1] + ends[:-1]
        return self._all(zip(begins, ends))

    def _all(self, spans: Iterable[tuple[int, int]]) -> list[Step]:
        steps = [self._step(before, after) for before, after in spans]
        return [step for step in steps if step is not None] if None not in steps else []

    def _step(self, before: int, after: int) -> Step | None:
        forks, totals = self._cut(before, after), self._cut(after)
        if forks is None or totals is None:
            return None
        updates: dict[int, list[Candidate]] = {}
        done = self._done(before)
        for i in self.order[before:after]:
            updates.setdefault(i, []).append(self.lanes[i].blocks[done[i]])
            done[i] += 1
        # A value that is not read any more leaves the state behind the block, not within it: the block is square.
        totals = {key: node for key, node in forks.items() if key not in updates} | totals
        last = self.order[after - 1]
        totals.update((i, self.lanes[i].fork(done[i])) for i in updates)
        totals[last] = self.lanes[last].total(done[last])
        outs: Values = {**totals, last: self.lanes[last].out(done[last])}
        order = self._in_order(totals)
        return Step(forks, {key: totals[key] for key in order}, {key: outs[key] for key in order}, updates)

    def _weighs(self, step: Step) -> bool:
        inside = between(self.flow.graph, list(step.forks.values()), list(step.totals.values()))
        return any(operand in self._weights for node in inside for operand in node.all_input_nodes)
