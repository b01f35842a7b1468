"""Elementwise maps between two dense operations of a linear graph, each chain merged into one product.

The derivative of a batch norm, a ReLU, a GELU or a gate multiplies a tangent element by element: a chain of such
operations, whatever its length, is the product with one fixed tensor, which is the chain's value at a tangent of
ones. That value depends on no tangent, so it is computed once at a state and not with every product.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, fx

from resdyn.stream.ops import operation

aten = torch.ops.aten
COMBINING = {"add", "sub", "neg"}  # tangents only
LINEAR_IN_FIRST = {
    "div",
    "masked_fill",
    "threshold_backward",
    "gelu_backward",
    "silu_backward",
    "sigmoid_backward",
    "tanh_backward",
    "mish_backward",
    "elu_backward",
    "leaky_relu_backward",
    "hardtanh_backward",
    "hardswish_backward",
    "hardsigmoid_backward",
    "softplus_backward",
    "log_sigmoid_backward",
}
DIAGONAL = COMBINING | LINEAR_IN_FIRST | {"mul", "where"}


def merge_diagonals(graph: fx.Graph, moving: Iterable[fx.Node]) -> None:
    """Rewrite a linear graph, whose `moving` nodes depend on the tangent, with one `mul` for each elementwise chain."""
    entries = _entries(graph, set(moving))
    merged = {}
    for node, entry in entries.items():
        if entry is node or all(entries.get(user) is entry for user in node.users):
            continue  # not the end of a chain
        if entry in node.args and not operation(node).endswith("_backward"):
            continue  # a single cheap operation is left unchanged
        with graph.inserting_before(node):
            merged[node] = graph.call_function(aten.mul.Tensor, (entry, _at_ones(graph, node, entry, entries)))
        merged[node].meta.update(node.meta)
    for node, product in merged.items():
        node.replace_all_uses_with(product)
    graph.eliminate_dead_code()


def _entries(graph: fx.Graph, moving: set[fx.Node]) -> dict[fx.Node, fx.Node]:
    """For each moving node the one that it is an elementwise multiple of; itself where there is none before it."""
    entries: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node in moving:
            before = {entries[n] for n in node.all_input_nodes if n in moving}
            joined = before.pop() if len(before) == 1 and _is_diagonal(node, moving) else node
            entries[node] = joined if joined is not node and alike(node, joined) else node
    return entries


def _is_diagonal(node: fx.Node, moving: set[fx.Node]) -> bool:
    """Whether each element of the result is a fixed multiple of the same element of the moving operands."""
    name = operation(node)
    operands = [n for n in node.all_input_nodes if n in moving]
    if name not in DIAGONAL or not all(alike(node, n) for n in operands):
        return False
    if name in COMBINING:
        return all(arg in moving for arg in node.args)
    if name == "where":
        return node.args[0] not in moving and all(arg in moving or _is_zeros(arg) for arg in node.args[1:])
    if name == "masked_fill" and node.args[2] != 0:
        return False
    return name == "mul" or (len(operands) == 1 and node.args[0] in moving)


def _is_zeros(arg: object) -> bool:
    if not isinstance(arg, fx.Node):
        return arg == 0
    name = operation(arg)
    return name in ("zeros", "zeros_like") or (name in ("full", "scalar_tensor") and 0 in arg.args)


def _at_ones(graph: fx.Graph, node: fx.Node, entry: fx.Node, entries: dict[fx.Node, fx.Node]) -> fx.Node:
    """A copy of the chain from ``entry`` to ``node``, applied to a tangent of ones."""
    value: Tensor = entry.meta["val"]
    ones = graph.call_function(aten.ones.default, (list(value.shape),), {"dtype": value.dtype, "device": value.device})
    copies = {entry: ones}

    def copy(wanted: fx.Node) -> fx.Node:
        if wanted not in copies and entries.get(wanted) is entry:
            for operand in wanted.all_input_nodes:
                copy(operand)
            copies[wanted] = graph.node_copy(wanted, lambda n: copies.get(n, n))
        return copies.get(wanted, wanted)

    return copy(node)


def alike(a: fx.Node, b: fx.Node) -> bool:
    """Whether two nodes hold tensors of the same shape, dtype and device."""
    x, y = a.meta.get("val"), b.meta.get("val")
    return (
        isinstance(x, Tensor)
        and isinstance(y, Tensor)
        and x.shape == y.shape
        and x.dtype == y.dtype
        and x.device == y.device
    )
