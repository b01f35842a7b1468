"""Products with weights of a traced linear map in a narrower dtype, for machines that multiply it faster."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx

from resdyn.stream.ops import operation

PRODUCTS = {"mm"}  # with weights: products of a head's small matrices gain nothing
convert = torch.ops.aten._to_copy.default


class RoundedProducts:
    """A linear map (tangent, *constants) of which the factors of products with matrices (`mm`) are rounded.

    Each product is made from rounded factors and its result widened again; everything between keeps its dtype. A
    constant that only products read is rounded once, beforehand.
    """

    def __init__(self, linear: fx.GraphModule, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.module = fx.GraphModule(linear, deepcopy(linear.graph))
        graph = self.module.graph
        places = [node for node in graph.nodes if node.op == "placeholder"]
        products = [n for n in graph.nodes if n.op == "call_function" and operation(n) in PRODUCTS]
        self._early = [node in places[1:] and all(user in products for user in node.users) for node in places]
        early = {node for node, once in zip(places, self._early, strict=True) if once}
        for node in products:
            self._round(graph, node, early)
        graph.lint()
        self.module.recompile()

    def constants(self, values: Sequence[Any]) -> list[Any]:
        """The constants of a sample, those rounded that only products read."""
        return [value.to(self.dtype) if once else value for value, once in zip(values, self._early[1:], strict=True)]

    def _round(self, graph: fx.Graph, node: fx.Node, early: set[fx.Node]) -> None:
        with graph.inserting_before(node):
            factors = [
                a if a in early else graph.call_function(convert, (a,), {"dtype": self.dtype}) for a in node.args
            ]
        wide = node.meta["val"].dtype if isinstance(node.meta.get("val"), Tensor) else torch.float32
        with graph.inserting_after(node):
            widened = graph.call_function(convert, (node,), {"dtype": wide})
        node.replace_all_uses_with(widened, delete_user_cb=lambda user: user is not widened)
        node.args = tuple(factors)
