"""Where the linear graph of a derivative passes through few units: v -> S v + L (d * (R v)), d with zeros.

The units of a hidden layer that a ReLU switches off pass nothing on, so the columns of L that belong to the others span
the range of everything that goes through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from resdyn.stream.ops import operation

_TOGETHER = 64  # columns


def columns_after_waist(graph: fx.Graph, constants: Sequence[Any], vector: Tensor, most: int) -> Tensor | None:
    """The columns (m, r) of L for the product in the graph whose d has the fewest nonzeros; None where r > ``most``.

    Args:
        graph: of a linear map; its first placeholder is the vector, the others are the ``constants``.
        constants: what does not depend on the vector.
        vector: one that the map takes.
        most: columns at most.
    """
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    values = dict(zip(placeholders[1:], constants))
    waists = [(int(d.count_nonzero()), node, d) for node, d in _diagonals(graph, values)]
    count, node, d = min(waists, key=lambda waist: waist[0], default=(0, None, None))
    if node is None or d is None or not 0 < count <= most or any(n.op == "get_attr" for n in graph.nodes):
        return None
    after = _after(graph, values | {placeholders[0]: torch.zeros_like(vector)}, node)
    kept = d.reshape(-1).nonzero()[:, 0]
    columns = []
    for part in kept.split(_TOGETHER):
        units = torch.zeros(len(part), d.numel(), dtype=vector.dtype, device=vector.device)
        units[torch.arange(len(part)), part] = 1
        columns.append(torch.func.vmap(after)(units.reshape(-1, *d.shape)).reshape(len(part), -1))
    return torch.cat(columns).T


def _diagonals(graph: fx.Graph, values: dict[fx.Node, Any]) -> list[tuple[fx.Node, Tensor]]:
    """Products by elements with a constant that holds zeros, but for one that gives the result."""
    found = []
    for node in graph.nodes:
        if operation(node) == "mul" and all(user.op != "output" for user in node.users):
            constants = [values[n] for n in node.all_input_nodes if n in values]
            if len(constants) == 1 and isinstance(constants[0], Tensor) and bool((constants[0] == 0).any()):
                shape = node.meta["val"].shape if "val" in node.meta else constants[0].shape
                found.append((node, constants[0].expand(shape)))
    return found


def _after(graph: fx.Graph, inputs: dict[fx.Node, Any], waist: fx.Node) -> Callable[[Tensor], Tensor]:
    """The graph's result as a function of the value at one of its nodes, everything else at the given inputs."""

    def run(value: Tensor) -> Tensor:
        known: dict[fx.Node, Any] = dict(inputs) | {waist: value}
        for node in graph.nodes:
            if node.op == "call_function" and node not in known:
                args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
                known[node] = node.target(*args, **kwargs)
            elif node.op == "output":
                result: Tensor = known[node.args[0]]
        return result

    return run
