"""Matrix products of a traced linear map in a narrower dtype, for machines that multiply it faster."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx

from resdyn.stream.batching import batched
from resdyn.stream.ops import PERMUTING, RENAMING, operation

PRODUCTS = {"mm", "bmm"}
MOVES = PERMUTING | RENAMING | {"cat"}  # what rounding before or after makes no difference to
convert = torch.ops.aten._to_copy.default


class RoundedProducts:
    """A linear map (tangent, *constants), batched, of which the factors of products with matrices are rounded.

    Each product is made from rounded factors and its result widened again; everything between keeps its dtype. A
    constant that only products read is rounded once, beforehand; a product that only reaches another one by being
    moved about stays as it is in between.
    """

    def __init__(self, linear: fx.GraphModule, dtype: torch.dtype) -> None:
        self.dtype = dtype
        rounded = fx.GraphModule(linear, deepcopy(linear.graph))
        graph = rounded.graph
        places = [node for node in graph.nodes if node.op == "placeholder"]
        products = [n for n in graph.nodes if n.op == "call_function" and operation(n) in PRODUCTS]
        self._early = [node in places[1:] and all(user in products for user in node.users) for node in places]
        self._narrow = {node: node for node, once in zip(places, self._early, strict=True) if once}
        for node in list(graph.nodes):
            if node in products:
                self._round(graph, node)
            elif node.op == "call_function":
                self._move(graph, node)
        graph.eliminate_dead_code()
        graph.lint()
        self.module = batched(rounded)

    def constants(self, values: Sequence[Any]) -> list[Any]:
        """The constants of a sample, those rounded that only products read."""
        return [value.to(self.dtype) if once else value for value, once in zip(values, self._early[1:], strict=True)]

    def _round(self, graph: fx.Graph, node: fx.Node) -> None:
        """The product of rounded factors, widened."""
        wide = known.dtype if isinstance(known := node.meta.get("val"), Tensor) else torch.float32
        with graph.inserting_before(node):
            factors = [
                self._narrow.get(a) or _converted(graph, a, self.dtype) for a in node.args if isinstance(a, fx.Node)
            ]
        with graph.inserting_after(node):
            widened = _converted(graph, node, wide)
        node.replace_all_uses_with(widened, delete_user_cb=lambda user: user is not widened)
        node.args = tuple(factors)
        self._narrow[widened] = node

    def _move(self, graph: fx.Graph, node: fx.Node) -> None:
        """A twin in the narrow dtype of what only moves the entries of products, or scales them by a number."""
        scales = operation(node) == "mul" and isinstance(node.args[1], int | float)
        if (operation(node) in MOVES or scales) and all(n in self._narrow for n in node.all_input_nodes):
            with graph.inserting_after(node):
                self._narrow[node] = graph.node_copy(node, lambda n: self._narrow[n])
            _set_dtype(self._narrow[node], self.dtype)


def _converted(graph: fx.Graph, node: fx.Node, dtype: torch.dtype) -> fx.Node:
    made = graph.call_function(convert, (node,), {"dtype": dtype})
    made.meta.update(node.meta)
    _set_dtype(made, dtype)
    return made


def _set_dtype(node: fx.Node, dtype: torch.dtype) -> None:
    if isinstance(known := node.meta.get("val"), Tensor):
        node.meta["val"] = known.to(dtype)
