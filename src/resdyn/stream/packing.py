"""Several values as one tensor: the graph is rewritten so that each cut of a stream on lanes is a single state.

Behind a cut everything reads its values out of one tensor that holds them side by side, so that states, Jacobians and
whatever is measured on them need not know of how many values a state consists.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise

from torch import fx

from resdyn.errors import InputError
from resdyn.stream.closing import closed
from resdyn.stream.cut import reach
from resdyn.stream.gates import Join
from resdyn.stream.graph import DataGraph, tensor_of
from resdyn.stream.held import value_name
from resdyn.stream.layout import Layout, Packed
from resdyn.stream.ops import PACKING
from resdyn.stream.rewrite import aten
from resdyn.stream.state_cuts import Step, Values
from resdyn.stream.sums import Candidate, same_shape


def joins_on_lanes(graph: DataGraph, steps: Sequence[Step], target: fx.Node) -> tuple[list[Join], fx.Node]:
    """The blocks of a stream whose states are several values, and the output; the graph reads states as one tensor."""
    packing = _Packing(graph)
    joins: list[Join] = []
    several = any(len(values) > 1 for step in steps for values in (step.forks, step.outs))
    for earlier, step in zip([None, *steps], steps):
        fork, before = packing.state(step.forks), dict(packing.now)
        total = packing.state(step.totals)
        if step.is_plain:
            skip, branch, kind = None, total, "none"
        else:
            skip, branch, kind = packing.terms(step, before)
        out = packing.state(step.outs)
        packed = packing.described(step, earlier) if several else None
        joins.append(Join(fork, skip, branch, total, out, kind, packed=packed))
    packing.sort()
    forks = [*(join.fork for join in joins[1:]), None]
    joins = [replace(join, following=None if end is join.out else end) for join, end in zip(joins, forks, strict=True)]
    return joins, packing.now.get(target, target)


class _Packing:
    """States of a graph, each packed once, and by which node each value is read behind the last of them."""

    def __init__(self, graph: DataGraph) -> None:
        self.graph = graph
        self.now: dict[fx.Node, fx.Node] = {}
        self.names: dict[Hashable, str] = {}
        self._parts: dict[fx.Node, tuple[fx.Node, ...]] = {}  # of a packed state, what it is read by
        self._made: set[fx.Node] = set()

    def layout(self, values: Values) -> Layout:
        """How the values of a state lie in it, each with the name of what computed the first one in its place."""
        names = [self.names.setdefault(key, value_name(node)) for key, node in values.items()]
        return _layout(list(values.values()), names)

    def described(self, step: Step, earlier: Step | None) -> Packed:
        """The values of the states of a step, and which of them are those of the step before."""
        returned = [] if earlier is None else list(earlier.outs.values())
        keys, nodes = list(step.forks), list(step.forks.values())
        fresh = {key for key, node in step.totals.items() if key not in step.forks and node not in nodes}
        computed = {key: node for key, node in step.totals.items() if key in step.updates or key in fresh}
        upstream = {key: reach([node], lambda n: n.all_input_nodes) for key, node in computed.items()}
        read = {key: any(node in upstream[k] for k in computed if k != key) for key, node in computed.items()}
        return Packed(
            self.layout(step.forks),
            self.layout(step.outs),
            tuple(
                None if key in computed else keys.index(key) if key in keys else nodes.index(node)
                for key, node in step.outs.items()
            ),
            tuple(read.get(key, False) for key in step.outs),
            tuple(returned.index(node) if node in returned else None for node in nodes),
        )

    def state(self, values: Values) -> fx.Node:
        """One node that holds the values; all that is computed behind them reads them out of it."""
        self.layout(values)
        sources = tuple(self.now.get(node, node) for node in values.values())
        if len(sources) == 1:
            return sources[0]
        known = next((state for state, parts in self._parts.items() if parts == sources), None)
        if known is not None:
            return known
        before = reach(sources, lambda node: node.all_input_nodes)
        packed = self.pack(sources, sources[0])
        layout, start = _layout(sources), 0
        parts = []
        for source, shape, length in zip(sources, layout.shapes, layout.lengths, strict=True):
            part = self._call(aten.slice.Tensor, (packed, layout.dim or 1, start, start + length), source)
            if layout.dim is None:
                part = self._call(aten.reshape.default, (part, list(shape)), source)
            parts.append(part)
            start += length
        for (value, source), part in zip(zip(values.values(), sources), parts):
            for user in list(source.users):
                if user not in before and user not in self._made:
                    user.replace_input_with(source, part)
            self.now[value] = self.now[source] = part
        self._parts[packed] = tuple(parts)
        return packed

    def pack(self, nodes: Sequence[fx.Node], like: fx.Node) -> fx.Node:
        """Nodes side by side; one alone as it is."""
        if len(nodes) == 1:
            return nodes[0]
        layout = _layout(nodes)
        if len({_value(node).dtype for node in nodes}) > 1:
            raise InputError(
                "the values that make up a state are of different dtypes, so they cannot be one tensor; name the "
                "values to hold with hold="
            )
        if layout.dim is None:
            nodes = [
                self._call(aten.reshape.default, (node, [1, length]), node)
                for node, length in zip(nodes, layout.lengths)
            ]
        return self._call(aten.cat.default, (list(nodes), layout.dim or 1), like)

    def terms(self, step: Step, before: dict[fx.Node, fx.Node]) -> tuple[fx.Node, fx.Node, str]:
        """Skip and branch of a step on all values, and the kind of skip; `before`: what the step reads values by."""
        skips, branches, kinds = [], [], []
        for key, total in step.totals.items():
            fork = step.forks.get(key, self._shared(step, key, total))
            skip, branch, kind = self._term(total, None if fork is None else before.get(fork, fork), step, key, before)
            skips.append(skip)
            branches.append(branch)
            kinds.append(kind)
        same = step.totals.keys() == step.forks.keys()
        like = next((branch for branch, kind in zip(branches, kinds) if kind), branches[0])
        kind = _kind([kind for kind in kinds if kind], same)
        return self.pack(skips, like), self.pack(branches, like), kind

    def _shared(self, step: Step, key: Hashable, total: fx.Node) -> fx.Node | None:
        """The value that a lane begins with, where it is that of another lane: from here on both are kept."""
        updates = step.updates.get(key, []) if isinstance(key, int) else []
        first = updates[0].fork if updates else total
        return first if first in step.forks.values() else None

    def _term(
        self, total: fx.Node, fork: fx.Node | None, step: Step, key: Hashable, before: dict[fx.Node, fx.Node]
    ) -> tuple[fx.Node, fx.Node, str]:
        updates = step.updates.get(key, []) if isinstance(key, int) else []
        if fork is None:
            return self._zero(total), total, ""
        if not updates:
            return fork, self._zero(fork), ""
        if len(updates) == 1 and updates[0].total is total:
            block = closed(self.graph, _reading(updates[0], before))
            return block.skip, block.branch, block.skip_kind
        if not same_shape(fork, total):
            return self._zero(total), total, "projection"
        return fork, self._call(aten.sub.Tensor, (total, fork), total), "identity"

    def _zero(self, node: fx.Node) -> fx.Node:
        return self._call(aten.mul.Tensor, (node, 0.0), node)

    def _call(self, target: object, args: tuple[object, ...], like: fx.Node) -> fx.Node:
        """A node at the end of the graph, which is sorted when all are made."""
        (output,) = (node for node in reversed(self.graph.module.graph.nodes) if node.op == "output")
        with self.graph.module.graph.inserting_before(output):
            made = self.graph.module.graph.call_function(target, args)  # type: ignore[arg-type]
        made.meta.update(like.meta)
        made.meta[PACKING] = True
        values = fx.node.map_arg(args, _value)  # type: ignore[type-var]
        made.meta["val"] = target(*values)  # type: ignore[operator]
        self._made.add(made)
        return made

    def sort(self) -> None:
        """Put every node behind its operands, and otherwise leave the order as it is."""
        graph = self.graph.module.graph
        order: dict[fx.Node, None] = {}
        for node in graph.nodes:
            pending = [node]
            while pending:
                missing = [n for n in pending[-1].all_input_nodes if n not in order]
                if missing:
                    pending += missing
                else:
                    order[pending.pop()] = None
        first, *rest = order
        for before, node in pairwise([first, *rest]):
            before.append(node)


def _layout(nodes: Sequence[fx.Node], names: Sequence[str] = ()) -> Layout:
    return Layout.of(names, [tuple(int(size) for size in _value(node).shape) for node in nodes])


def _reading(block: Candidate, before: dict[fx.Node, fx.Node]) -> Candidate:
    """A candidate whose terms and fork are the nodes by which its step reads them."""
    terms = tuple((before.get(node, node), factor) for node, factor in block.terms)
    return replace(block, fork=before.get(block.fork, block.fork), terms=terms)


def _kind(kinds: Sequence[str], same: bool) -> str:
    """The kind of skip of a step whose updates have these; of values that come or go, a linear map at most."""
    order = ("gated", "projection", "mixing", "scaled", "identity")
    kind = min(kinds, key=order.index) if kinds else "identity"
    return kind if same or kind == "gated" else "projection"


def _value(node: fx.Node):  # type: ignore[no-untyped-def]
    value = tensor_of(node)
    assert value is not None
    return value
