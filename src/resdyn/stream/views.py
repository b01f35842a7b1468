"""States in one shape: a view between two blocks changes neither their stage nor what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import fx

from resdyn.stream.gates import Join
from resdyn.stream.graph import DataGraph, same_numel, size_of
from resdyn.stream.ops import moves_nothing
from resdyn.stream.rewrite import reshape
from resdyn.stream.sums import without_views

Shape = tuple[int | str, ...]


def in_one_shape(graph: DataGraph, joins: Sequence[Join]) -> list[Join]:
    """The same blocks, all states and sums of a stage in the shape of the stage's first sum.

    Consecutive blocks belong together while nothing but views comes between them and the state keeps its elements. Only
    where shapes differ is the graph rewritten: what reads a state reads it through a view of the state in that shape.
    """
    viewed = _Viewed(graph)
    aligned: list[Join] = []
    shape: Shape = ()
    for index, join in enumerate(joins):
        keeps = same_numel(join.fork, join.total) and same_numel(join.total, join.out)
        if not aligned or not _continues(joins[index - 1], join) or not keeps:
            shape = size_of(join.total)
        fork = viewed(join.fork, shape) if keeps else viewed.known.get(without_views(join.fork), join.fork)
        out = viewed(_trimmed(join.out, join.total), shape)
        skip = None if join.skip is None else viewed.copy(join.skip, join.fork, fork, shape)
        branch = viewed.copy(join.branch, join.fork, fork, shape)
        aligned.append(replace(join, fork=fork, skip=skip, branch=branch, total=viewed(join.total, shape), out=out))
    ends = [*(after.fork for after in aligned[1:]), None]
    return [replace(join, following=None if end is join.out else end) for join, end in zip(aligned, ends, strict=True)]


class _Viewed:
    """States in another shape: each once, however many blocks it is the end and the beginning of."""

    def __init__(self, graph: DataGraph) -> None:
        self._graph = graph.module.graph
        self.known: dict[fx.Node, fx.Node] = {}

    def __call__(self, node: fx.Node, shape: Shape) -> fx.Node:
        """A state in this shape; all that read the node read it through this one."""
        state = without_views(node)
        if state in self.known:
            return self.known[state]
        if size_of(node) == shape:
            self.known[state] = node
            return node
        made = self._reshaped(state, shape)
        back = self._reshaped(made, size_of(state))
        state.replace_all_uses_with(back, delete_user_cb=lambda user: user is not made)
        self.known[state] = made
        return made

    def copy(self, node: fx.Node, fork: fx.Node, viewed: fx.Node, shape: Shape) -> fx.Node:
        """A skip or branch in this shape; one that is the fork itself is the fork as it is read now."""
        node = viewed if node is fork else node
        return node if size_of(node) == shape else self._reshaped(node, shape)

    def _reshaped(self, node: fx.Node, shape: Shape) -> fx.Node:
        with self._graph.inserting_after(node):
            made = self._graph.call_function(reshape, (node, list(shape)))
        made.meta.update(node.meta)
        made.meta["val"] = node.meta["val"].reshape(shape)
        return made


def _continues(before: Join, join: Join) -> bool:
    return without_views(before.out) is without_views(join.fork)


def _trimmed(out: fx.Node, total: fx.Node) -> fx.Node:
    """What a block returns, without the views after it: a flattening belongs to what reads it."""
    while out is not total and moves_nothing(out) and same_numel(out, out.all_input_nodes[0]):
        out = out.all_input_nodes[0]
    return out
