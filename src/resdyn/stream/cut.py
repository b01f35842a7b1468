"""The part of a graph between two values, as a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from resdyn._numerics import plain_arithmetic
from resdyn.errors import InputError
from resdyn.stream.graph import DataGraph, tensor_of


class Evaluation:
    """Values of the nodes that do not depend on the cut point, each computed once and only when asked for."""

    def __init__(self, graph: DataGraph, inputs: Sequence[Any] | None) -> None:
        self._graph = graph
        self._values: dict[fx.Node, Any] = {}
        if inputs is not None:
            self._values.update(zip(graph.inputs, inputs, strict=True))

    def __call__(self, node: fx.Node) -> Any:
        pending = [node]
        while pending:
            current = pending[-1]
            missing = [n for n in current.all_input_nodes if n not in self._values and current not in self._values]
            if missing:
                pending.extend(missing)
            else:
                pending.pop()
                if current not in self._values:
                    self._values[current] = self._compute(current)
        return self._values[node]

    def _compute(self, node: fx.Node) -> Any:
        if node.op != "call_function":
            if node in self._graph.inputs:
                raise InputError(
                    f"this block also takes the model's input {node.name!r}, so it cannot be evaluated from its "
                    "state alone; pass the States that stream.states(...) returned instead of a bare tensor"
                )
            return self._graph.leaf(node)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: self._values[n])
        with torch.no_grad(), plain_arithmetic():
            return node.target(*args, **kwargs)  # type: ignore[operator]


class Cut:
    """The part of a graph between `sources` and `targets`, as a function of the values of the sources.

    What the targets need and the sources do not reach (weights, masks, rotary tables) is a leaf;
    `bind` computes the leaves once and returns the function with them in place.
    """

    def __init__(self, graph: DataGraph, sources: Sequence[fx.Node], targets: Sequence[fx.Node]) -> None:
        self.graph = graph
        self.sources = tuple(sources)
        self.targets = tuple(targets)
        self.nodes = between(graph, sources, targets)
        inside = set(self.nodes) | set(sources)
        operands = [n for node in self.nodes for n in node.all_input_nodes] + list(targets)
        self.leaves = tuple(dict.fromkeys(n for n in operands if n not in inside))

    @cached_property
    def _function(self) -> fx.GraphModule:
        graph = fx.Graph()  # written and compiled when it is first called, for many cuts never are
        copies: dict[fx.Node, fx.Node] = {}
        for index, node in enumerate((*self.sources, *self.leaves)):
            copies[node] = graph.placeholder(f"value_{index}")
        for node in self.nodes:
            copies[node] = graph.node_copy(node, lambda n: copies[n])
        graph.output(tuple(copies[target] for target in self.targets))
        return fx.GraphModule(nn.Module(), graph)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Dotted names of the model's parameters and buffers that the cut reads, as they are or computed with.

        Not those before a value that depends on the model's inputs: an encoder is not part of the block that reads it.
        """
        moving = reach(self.graph.inputs, lambda node: node.users)
        upstream = reach([leaf for leaf in self.leaves if leaf not in moving], lambda node: node.all_input_nodes)
        return tuple(name for node, name in self.graph.parameters.items() if node in upstream)

    @property
    def numel(self) -> int:
        """Elements of all values inside: a bound on what one evaluation keeps for a derivative.

        A value whose size depends on the data counts as the largest of the others.
        """
        shapes = [t.shape for node in self.nodes if (t := tensor_of(node)) is not None]
        sizes = [shape.numel() for shape in shapes if is_fixed(shape)]
        return sum(sizes) + (len(shapes) - len(sizes)) * max(sizes, default=0)

    @property
    def fixed(self) -> bool:
        """Whether every value inside has one size whatever the data; with routing to experts it may not."""
        return all(is_fixed(t.shape) for node in self.nodes if (t := tensor_of(node)) is not None)

    @property
    def precision(self) -> torch.dtype:
        """The coarsest floating-point dtype among all values: a norm in float32 rounds a float64 state."""
        values = [tensor_of(node) for node in (*self.sources, *self.nodes)]
        dtypes = [value.dtype for value in values if value is not None and value.is_floating_point()]
        return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)

    def constants(self, evaluation: Evaluation) -> tuple[Any, ...]:
        """Values of the leaves."""
        return tuple(evaluation(leaf) for leaf in self.leaves)

    def __call__(self, *values: Any) -> tuple[Tensor, ...]:
        """Values of the targets from those of the sources and, after them, of the leaves."""
        result: tuple[Tensor, ...] = self._function(*values)
        return result

    def bind(self, evaluation: Evaluation) -> Callable[..., tuple[Tensor, ...]]:
        """The cut as a function of its sources alone, leaves evaluated now."""
        leaves = self.constants(evaluation)
        return lambda *values: self(*values, *leaves)


def is_fixed(shape: torch.Size) -> bool:
    """Whether a recorded shape consists of numbers only."""
    return all(isinstance(size, int) for size in shape)


def between(graph: DataGraph, sources: Sequence[fx.Node], targets: Sequence[fx.Node]) -> list[fx.Node]:
    """Nodes on a path from the sources to the targets, in graph order, without the sources."""
    downstream = reach(sources, lambda node: node.users)
    upstream = reach(targets, lambda node: node.all_input_nodes, stop=set(sources))
    inside = (downstream & upstream) - set(sources)
    return [node for node in graph.module.graph.nodes if node in inside and node.op == "call_function"]


def reach(
    start: Iterable[fx.Node],
    neighbours: Callable[[fx.Node], Iterable[fx.Node]],
    stop: set[fx.Node] | frozenset[fx.Node] = frozenset(),
) -> set[fx.Node]:
    """All nodes that can be reached from `start`; paths end at `stop`."""
    seen = set(start)
    pending = list(seen)
    while pending:
        node = pending.pop()
        if node in stop:
            continue
        for neighbour in neighbours(node):
            if neighbour not in seen:
                seen.add(neighbour)
                pending.append(neighbour)
    return seen
