"""Stages of a network, and the linear map that ends it."""

from __future__ import annotations

from torch import fx

from resdyn.stream.block import graph_shape, sample_shape
from resdyn.stream.gates import Join
from resdyn.stream.graph import DataGraph, tensor_of
from resdyn.stream.ops import is_neutral, operation


def state_stages(joins: list[Join]) -> tuple[int, ...]:
    """Stage of each state h_0..h_L, incremented wherever the shape changes or there is a transition."""
    stages = [0]
    for join in joins:
        same = sample_shape(join.fork) == sample_shape(join.out) and join.following is None
        stages.append(stages[-1] if same else stages[-1] + 1)
    return tuple(stages)


def block_stage(joins: list[Join], stages: tuple[int, ...], index: int) -> int:
    """The stage that a block works in: of its input if it keeps the shape, otherwise of its output."""
    keeps = sample_shape(joins[index].fork) == sample_shape(joins[index].out)
    return stages[index] if keeps else stages[index + 1]


def final_linear(graph: DataGraph, target: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node | None] | None:
    """(input, weight, bias) of the linear map of one feature vector per sample that ends the graph."""
    node = target
    while is_neutral(node) and tensor_of(node.all_input_nodes[0]) is not None:
        node = node.all_input_nodes[0]
    shape = graph_shape(node)
    if operation(node) != "linear" or len(shape) != 2 or shape[0] != 1:
        return None
    features, weight, *rest = node.args
    if not isinstance(weight, fx.Node) or weight not in graph.parameters or not isinstance(features, fx.Node):
        return None
    bias = rest[0] if rest and isinstance(rest[0], fx.Node) else None
    return features, weight, bias
