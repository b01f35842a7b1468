"""The weighted layers inside the branches of a stream: the input of each and the product with its weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from resdyn.stream.block import ResidualBlock
from resdyn.stream.cut import Cut, Evaluation
from resdyn.stream.ops import operation
from resdyn.stream.states import States
from resdyn.stream.stream import ResidualStream
from resdyn.stream.sums import without_neutral

# Operations on a value and a weight, and the positions of both among the arguments.
LAYERS = {
    "conv1d": (0, 1),
    "conv2d": (0, 1),
    "conv3d": (0, 1),
    "convolution": (0, 1),
    "linear": (0, 1),
    "addmm": (1, 2),
    "mm": (0, 1),
    "matmul": (0, 1),
}
PRODUCTS = {"addmm", "mm", "matmul"}  # without further arguments: x W


@dataclass(frozen=True)
class BranchLayer:
    """One convolution or linear layer of a branch; ``whole`` if it reads the state itself and is the entire branch."""

    node: fx.Node
    whole: bool

    @property
    def weight(self) -> fx.Node:
        return operand(self.node, LAYERS[operation(self.node)][1])

    @property
    def input(self) -> fx.Node:
        return operand(self.node, LAYERS[operation(self.node)][0])


def branch_layers(block: ResidualBlock) -> list[BranchLayer]:
    """The layers of a block's branch in the order of the graph; a product of two computed values is not a layer."""
    inside = set(block.branch_nodes) | {block.join.fork}
    layers = []
    for node in block.branch_nodes:
        if operation(node) not in LAYERS:
            continue
        layer = BranchLayer(node, whole=False)
        if layer.input in inside and layer.weight not in inside:
            reads = without_neutral(layer.input) is without_neutral(block.join.fork)
            layers.append(replace(layer, whole=reads and without_neutral(block.join.branch) is node))
    return layers


def operand(node: fx.Node, position: int) -> fx.Node:
    """The argument of a node at a position, which is a node."""
    argument = node.args[position]
    assert isinstance(argument, fx.Node)
    return argument


@dataclass(frozen=True)
class LayerValue:
    """A layer at one sample: its input x, its weight, and ``applied``: the product of any weight with x, no bias."""

    x: Tensor
    weight: Tensor
    applied: Callable[[Tensor], Tensor]

    @property
    def product(self) -> Tensor:
        """A x, without bias."""
        return self.applied(self.weight)


def layer_values(
    stream: ResidualStream, block: ResidualBlock, layers: list[BranchLayer], states: States
) -> list[LayerValue]:
    """Each of a block's layers at one sample."""
    evaluation = Evaluation(stream._graph, states.inputs)
    cut = Cut(stream._graph, [block.join.fork], list(dict.fromkeys(layer.input for layer in layers)))
    state = states[block.index].reshape(block.graph_shape_in)
    with torch.no_grad():
        inputs = dict(zip(cut.targets, cut.bind(evaluation)(state), strict=True))
    return [_value(layer, inputs[layer.input], evaluation) for layer in layers]


def _value(layer: BranchLayer, x: Tensor, evaluation: Evaluation) -> LayerValue:
    rest, function = layer.node.args[3:], layer.node.target
    is_product = operation(layer.node) in PRODUCTS

    def applied(weight: Tensor) -> Tensor:
        with torch.no_grad():
            product: Tensor = x @ weight if is_product else function(x, weight, None, *rest)  # type: ignore[operator]
        return product

    return LayerValue(x, evaluation(layer.weight), applied)
