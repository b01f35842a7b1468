"""The skip and the branch of a block as nodes of the graph, each in the shape and precision of their sum."""

from __future__ import annotations

from torch import fx

from resdyn.stream.gates import Sum
from resdyn.stream.graph import DataGraph, tensor_of
from resdyn.stream.rewrite import aten
from resdyn.stream.sums import Candidate


def closed(graph: DataGraph, block: Candidate) -> Sum:
    """A candidate with its skip and its branch as nodes, each in the shape and precision of the sum."""
    if not block.terms:
        with graph.module.graph.inserting_after(block.total):
            skip = matched_to_sum(graph, block.fork, block.total)
            branch = graph.module.graph.call_function(aten.sub.Tensor, (block.total, skip))
        branch.meta.update(block.total.meta)
        return Sum(block.fork, skip, branch, block.total, block.kind)
    if block.kind == "concat":
        skip, branch = (_part_of_cat(graph, block, own) for own in (True, False))
        return Sum(block.fork, skip, branch, block.total, block.kind)
    taken, rest = block.terms[block.skip], [t for i, t in enumerate(block.terms) if i != block.skip]
    skip = matched_to_sum(graph, branch_node(graph, [taken], block.total), block.total)
    branch = matched_to_sum(graph, branch_node(graph, rest, block.total), block.total)
    return Sum(block.fork, skip, branch, block.total, block.kind)


def _part_of_cat(graph: DataGraph, block: Candidate, skipped: bool) -> fx.Node:
    """A concatenation with zeros in place of all parts but the skip, or of the skip."""
    dim = block.total.args[1] if len(block.total.args) > 1 else 0
    with graph.module.graph.inserting_before(block.total):
        parts = [
            part if (i == block.skip) == skipped else _insert(graph, aten.mul.Tensor, (part, 0.0), part)
            for i, (part, _) in enumerate(block.terms)
        ]
        return _insert(graph, aten.cat.default, (parts, dim), block.total)


def matched_to_sum(graph: DataGraph, node: fx.Node, total: fx.Node) -> fx.Node:
    """A term in the shape and precision of its sum, which may have broadcast or promoted it."""
    value, total_value = tensor_of(node), tensor_of(total)
    assert value is not None
    assert total_value is not None
    with graph.module.graph.inserting_before(total):
        if value.dtype != total_value.dtype:
            node = graph.module.graph.call_function(aten._to_copy.default, (node,), {"dtype": total_value.dtype})
            node.meta.update(total.meta)
        if value.shape != total_value.shape:
            node = _insert(graph, aten.expand.default, (node, list(total_value.shape)), total)
    return node


def branch_node(graph: DataGraph, terms: list[tuple[fx.Node, float]], total: fx.Node) -> fx.Node:
    """A node whose value is the sum of `terms`; inserted beside ``total`` unless there is only one term."""
    if len(terms) == 1 and terms[0][1] == 1:
        return terms[0][0]
    with graph.module.graph.inserting_before(total):
        result: fx.Node | None = None
        for node, scale in terms:
            scaled = node if scale == 1 else _insert(graph, aten.mul.Tensor, (node, scale), node)
            result = scaled if result is None else _insert(graph, aten.add.Tensor, (result, scaled), total)
    assert result is not None
    return result


def _insert(graph: DataGraph, target: object, args: tuple[object, ...], like: fx.Node) -> fx.Node:
    node = graph.module.graph.call_function(target, args)  # type: ignore[arg-type]
    node.meta.update(like.meta)
    return node
