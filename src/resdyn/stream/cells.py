"""The cell of a GRU as the sum that it is, with a gated skip.

That of an LSTM stays fused: its two results come from one operation, so that no derivative of the one with respect to
the other could be compared with autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten
Call = Callable[..., fx.Node]
INNER = "resdyn_inner"  # marks what is computed inside a cell: no block ends there


def write_out_cells(graph: fx.Graph) -> None:
    """Replace fused cells by plain operations, in which the skip can be seen."""
    for node in list(graph.nodes):
        if node.target is aten.gru_cell.default:
            with graph.inserting_before(node):
                new = _gru(_caller(graph, node), *node.args)
            del new.meta[INNER]
            node.replace_all_uses_with(new)
            graph.erase_node(node)


def _gru(call: Call, x: Any, h: Any, *weights: Any) -> fx.Node:
    """h' = z h + (1 - z) n; Cho et al. (2014), equations 5 to 8, in the form of cuDNN (r behind the product)."""
    (x_r, x_z, x_n), (h_r, h_z, h_n) = _products(call, x, h, *weights)
    r, z = (call(aten.sigmoid.default, call(aten.add.Tensor, a, b)) for a, b in ((x_r, h_r), (x_z, h_z)))
    n = call(aten.tanh.default, call(aten.add.Tensor, x_n, call(aten.mul.Tensor, r, h_n)))
    new = call(aten.mul.Tensor, call(aten.rsub.Scalar, z, 1), n)
    return call(aten.add.Tensor, call(aten.mul.Tensor, z, h), new)


def _products(
    call: Call, x: Any, h: Any, of_x: Any, of_h: Any, bias_x: Any = None, bias_h: Any = None
) -> list[list[fx.Node]]:
    """The three parts of W_x x + b_x and of W_h h + b_h: of r, z and n."""
    whole = [call(aten.linear.default, *operands) for operands in ((x, of_x, bias_x), (h, of_h, bias_h))]
    width = whole[0].meta["val"].shape[-1] // 3
    return [[call(aten.slice.Tensor, product, -1, k * width, (k + 1) * width) for k in range(3)] for product in whole]


def _caller(graph: fx.Graph, like: fx.Node) -> Call:
    def call(target: Any, *args: Any) -> fx.Node:
        made = graph.call_function(target, args)
        made.meta[INNER] = True
        made.meta["nn_module_stack"] = like.meta.get("nn_module_stack", {})
        values: Any = fx.node.map_arg(args, lambda node: node.meta["val"])
        made.meta["val"] = target(*values)
        assert isinstance(made.meta["val"], Tensor)
        return made

    return call
