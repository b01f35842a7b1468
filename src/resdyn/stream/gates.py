"""Residual blocks as nodes of a graph, and their gates: what follows a sum and belongs to its block."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import fx

from resdyn.stream.cut import between
from resdyn.stream.graph import DataGraph, same_numel, tensor_of
from resdyn.stream.layout import Packed
from resdyn.stream.ops import PERMUTING, is_pointwise, moves_nothing, node_modules, operation

Operations = tuple[str, ...]


@dataclass(frozen=True)
class Join:
    """One residual block in the graph, as nodes: fork -> (skip, branch) -> sum -> out.

    ``fork`` carries the state h_i, ``skip`` the skipped value, ``branch`` the value of F_i(h_i), ``total`` their sum
    and ``out`` the value after the gate. ``following`` is the next fork when a transition comes between. ``path`` names
    the module that the block is, where its branch does not identify it. ``parts`` are the blocks of a layer that is
    treated as one block, where its branch is not the sum of theirs. ``packed`` says of which values the states
    consist, where these are several.
    """

    fork: fx.Node
    skip: fx.Node | None
    branch: fx.Node
    total: fx.Node
    out: fx.Node
    skip_kind: str
    following: fx.Node | None = None
    path: str | None = None
    parts: tuple[Join, ...] = ()
    packed: Packed | None = None


@dataclass(frozen=True)
class Sum:
    """A fork and the sum that closes it, before gates are known."""

    fork: fx.Node
    skip: fx.Node
    branch: fx.Node
    total: fx.Node
    skip_kind: str


def attach_gates(graph: DataGraph, sums: list[Sum], chain: list[fx.Node]) -> list[Join]:
    """Give every block the gate after its sum, and leave the rest to transitions."""
    forks = [s.fork for s in sums[1:]] + [chain[-1]]
    ends = [_before_turning(block.total, fork) for block, fork in zip(sums, forks, strict=True)]
    unsure = [s.skip_kind == "projection" for s in sums[1:]] + [True]
    complete = [is_gate(graph, block.total, end) for block, end in zip(sums, ends, strict=True)]
    observed = [
        (branch_operations(graph, block), signature(graph, block.total, end))
        for block, end, gated, open_ended in zip(sums, ends, complete, unsure, strict=True)
        if gated and not open_ended
    ]
    joins = []
    for index, (block, end, fork) in enumerate(zip(sums, ends, forks, strict=True)):
        out = end
        if unsure[index] or not complete[index]:
            expected = expected_gate(graph, block, sums[0].fork, observed, chain)
            out = gate_end(graph, block.total, end, chain, expected)
        following = None if index == len(sums) - 1 or out is fork else fork
        joins.append(Join(block.fork, block.skip, block.branch, block.total, out, block.skip_kind, following))
    return joins


def _before_turning(total: fx.Node, end: fx.Node) -> fx.Node:
    """What is only viewed or permuted on its way to the next fork: that is neither gate nor transition."""
    node, turned = end, False
    while node is not total and (moves_nothing(node) or operation(node) in PERMUTING):
        if not same_numel(node, node.all_input_nodes[0]):  # one of several results
            break
        turned = turned or operation(node) in PERMUTING
        node = node.all_input_nodes[0]
    return node if turned else end


def expected_gate(
    graph: DataGraph, block: Sum, first: fx.Node, observed: list[tuple[Operations, Operations]], chain: list[fx.Node]
) -> set[Operations]:
    """The gates to expect where the graph alone does not determine them: after the last block and before a new stage.

    Blocks whose sum leads straight into the next identity block reveal their gate. The most common among those with the
    same branch is expected; without any of these, what follows the sum within its own module; otherwise the most common
    of all; where no block reveals one, a stem that ends as the blocks do (with a ReLU, a layer norm).
    """
    alike = [gate for branch, gate in observed if branch == branch_operations(graph, block)]
    if alike:
        return {Counter(alike).most_common(1)[0][0]}
    if own := gate_within(graph, block.total, chain):
        return {own}
    if observed:
        return {Counter(gate for _, gate in observed).most_common(1)[0][0]}
    return {signature(graph, node, first) for node in chain[: chain.index(first)] if is_gate(graph, node, first)}


def branch_operations(graph: DataGraph, block: Sum) -> Operations:
    """The operations of a branch, in order."""
    return signature(graph, block.fork, block.branch)


def gate_within(graph: DataGraph, total: fx.Node, chain: list[fx.Node]) -> Operations:
    """The operations that follow a sum within the call of its own module, if they act as a gate."""
    home = node_modules(total)
    gate: Operations = ()
    for node in chain[chain.index(total) + 1 :]:
        if len(home) < 2 or node_modules(node)[: len(home)] != home or not is_gate(graph, total, node):
            break
        gate = signature(graph, total, node)
    return gate


def is_gate(graph: DataGraph, start: fx.Node, end: fx.Node) -> bool:
    """Whether everything between keeps all elements and acts elementwise or as a normalisation.

    A cast to another precision begins something new (a final norm in float32) and belongs to no gate.
    """
    before, after = tensor_of(start), tensor_of(end)
    if before is None or after is None or before.dtype != after.dtype or not same_numel(start, end):
        return False
    return all(is_pointwise(node) for node in between(graph, [start], [end]))


def gate_end(
    graph: DataGraph, start: fx.Node, end: fx.Node, chain: list[fx.Node], reference: set[Operations]
) -> fx.Node:
    """The farthest value after `start` that an expected gate explains; `start` itself without one."""
    best = start
    for node in chain[chain.index(start) : chain.index(end) + 1]:
        if is_gate(graph, start, node) and (node is start or signature(graph, start, node) in reference):
            best = node
    return best


def signature(graph: DataGraph, start: fx.Node, end: fx.Node) -> Operations:
    """The operations between two values, in order."""
    return tuple(operation(node) for node in between(graph, [start], [end]) if not moves_nothing(node))
