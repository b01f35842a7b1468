"""States in one arrangement: views and permutations between two blocks change neither stage nor measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx

from resdyn.stream.gates import Join
from resdyn.stream.graph import DataGraph, same_numel, size_of
from resdyn.stream.ops import PACKING, PERMUTING, moves_nothing, operation
from resdyn.stream.rewrite import aten, reshape
from resdyn.stream.sums import without_views

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Step:
    """One rearrangement of the elements of a state: a permutation of its dimensions, or none; then another shape."""

    before: Shape
    after: Shape
    dims: tuple[int, ...] = ()

    @property
    def inverse(self) -> Step:
        """What undoes it."""
        dims = tuple(self.dims.index(i) for i in range(len(self.dims)))
        return Step(self.after, self.before, dims)

    def on(self, value: Tensor) -> Tensor:
        """The value in the other arrangement."""
        return value.permute(self.dims) if self.dims else value.reshape(self.after)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Arrangement:
    """How the state of a block is arranged, from the state of its stage: `shape` is that of the stage."""

    shape: Shape
    steps: tuple[Step, ...] = ()

    def then(self, steps: Sequence[Step]) -> Arrangement:
        """The arrangement that further steps lead to; a plain view where they only undo one another."""
        steps = (*self.steps, *steps)
        if not steps or not all(isinstance(size, int) for size in self.shape):
            return Arrangement(self.shape, tuple(steps))
        order = torch.arange(torch.Size(self.shape).numel()).reshape(self.shape)  # type: ignore[arg-type]
        moved = order
        for step in steps:
            moved = step.on(moved.reshape(step.before))  # type: ignore[arg-type]
        if bool((moved.reshape(-1) == order.reshape(-1)).all()):
            return Arrangement(self.shape)
        return Arrangement(self.shape, tuple(steps))


def in_one_shape(graph: DataGraph, joins: Sequence[Join]) -> list[Join]:
    """The same blocks, all states and sums of a stage arranged as the stage's first sum.

    Consecutive blocks belong together while nothing but views and permutations comes between them and the state keeps
    its elements. Only where arrangements differ is the graph rewritten: what reads a state reads it through a view or
    a permutation of the state in that arrangement.
    """
    arranged = _Arranged(graph)
    aligned: list[Join] = []
    now = Arrangement(())
    ways = [None, *(_steps_between(before, join) for before, join in pairwise(joins))]
    for way, join in zip(ways, joins, strict=True):
        keeps = same_numel(join.fork, join.total) and same_numel(join.total, join.out)
        now = now.then(way) if way is not None and keeps else Arrangement(size_of(join.total))
        if way is not None and keeps:
            fork = aligned[-1].out
        elif keeps:
            fork = arranged(join.fork, now)
        else:
            fork = arranged.known.get(without_views(join.fork), join.fork)
        out = arranged(_trimmed(join.out, join.total), now)
        skip = None if join.skip is None else arranged.copy(join.skip, join.fork, fork, now)
        branch = arranged.copy(join.branch, join.fork, fork, now)
        aligned.append(replace(join, fork=fork, skip=skip, branch=branch, total=arranged(join.total, now), out=out))
    ends = [*(after.fork for after in aligned[1:]), None]
    return [replace(join, following=None if end is join.out else end) for join, end in zip(aligned, ends, strict=True)]


class _Arranged:
    """States in another arrangement: each once, however many blocks it is the end and the beginning of."""

    def __init__(self, graph: DataGraph) -> None:
        self._graph = graph.module.graph
        self.known: dict[fx.Node, fx.Node] = {}

    def __call__(self, node: fx.Node, wanted: Arrangement) -> fx.Node:
        """A state as it is arranged in its stage; all that read the node read it through this one."""
        state = without_views(node)
        if state in self.known:
            return self.known[state]
        if not wanted.steps and size_of(node) == wanted.shape:
            self.known[state] = node
            return node
        first, made = self._undone(state, wanted)
        back = made
        for step in wanted.steps:
            back = self._moved(back, step)
        back = self._reshaped(back, size_of(state))
        state.replace_all_uses_with(back, delete_user_cb=lambda user: user is not first)
        self.known[state] = made
        return made

    def copy(self, node: fx.Node, fork: fx.Node, arranged: fx.Node, wanted: Arrangement) -> fx.Node:
        """A skip or branch in this arrangement; one that is the fork itself is the fork as it is read now."""
        node = arranged if node is fork else node
        if node is arranged or (not wanted.steps and size_of(node) == wanted.shape):
            return node if size_of(node) == wanted.shape else self._reshaped(node, wanted.shape)
        return self._undone(node, wanted)[1]

    def _undone(self, node: fx.Node, wanted: Arrangement) -> tuple[fx.Node, fx.Node]:
        """A value of a block as it would be arranged in its stage: the first and the last node on the way."""
        first = made = self._reshaped(node, wanted.steps[-1].after if wanted.steps else wanted.shape)
        for step in reversed(wanted.steps):
            made = self._moved(made, step.inverse)
        return first, made if size_of(made) == wanted.shape else self._reshaped(made, wanted.shape)

    def _moved(self, node: fx.Node, step: Step) -> fx.Node:
        if not step.dims:
            return self._reshaped(node, step.after)
        node = node if size_of(node) == step.before else self._reshaped(node, step.before)
        return self._made(aten.permute.default, (node, list(step.dims)), node)

    def _reshaped(self, node: fx.Node, shape: Shape) -> fx.Node:
        return self._made(reshape, (node, list(shape)), node)

    def _made(self, target: Callable[..., Tensor], args: tuple[Any, ...], node: fx.Node) -> fx.Node:
        with self._graph.inserting_after(node):
            made = self._graph.call_function(target, args)
        made.meta.update(node.meta)
        made.meta[PACKING] = True
        made.meta["val"] = target(node.meta["val"], *args[1:])
        return made


def _steps_between(before: Join, join: Join) -> list[Step] | None:
    """How the state is rearranged between two blocks; None where something else happens to it."""
    start, node = without_views(before.out), join.fork
    steps: list[Step] = []
    while without_views(node) is not start:
        if moves_nothing(node) and same_numel(node, node.all_input_nodes[0]):
            steps.append(Step(size_of(node.all_input_nodes[0]), size_of(node)))
        elif operation(node) in PERMUTING and same_numel(node, node.all_input_nodes[0]):
            steps.append(Step(size_of(node.all_input_nodes[0]), size_of(node), _order(node)))
        else:
            return None
        node = node.all_input_nodes[0]
    return [] if not any(step.dims for step in steps) else [Step(size_of(before.total), size_of(node)), *steps[::-1]]


def _order(node: fx.Node) -> tuple[int, ...]:
    """The dimensions of the operand in the order of the result."""
    rank = len(size_of(node))
    if operation(node) == "permute":
        return tuple(int(dim) % rank for dim in node.args[1])  # type: ignore[union-attr,arg-type]
    order = list(range(rank))
    first, second = (int(dim) % rank for dim in node.args[1:3])  # type: ignore[arg-type]
    order[first], order[second] = second, first
    return tuple(order)


def _trimmed(out: fx.Node, total: fx.Node) -> fx.Node:
    """What a block returns, without the views after it: a flattening belongs to what reads it."""
    while out is not total and moves_nothing(out) and same_numel(out, out.all_input_nodes[0]):
        out = out.all_input_nodes[0]
    return out
