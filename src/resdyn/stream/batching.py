"""A traced linear map as a map of many vectors at once, with the vectors along the first dimension.

`torch.func.vmap` gives every operation a batch dimension too, but copies a constant that meets a batch once per vector,
and writes every result into new memory. Here the products of all vectors with a matrix are one product, constants meet
a batch as they are, and what nobody else reads is overwritten. Operations without a rule are batched by `vmap` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from resdyn.stream.diagonal import alike
from resdyn.stream.ops import operation

aten = torch.ops.aten
ELEMENTWISE = {"add", "sub", "mul", "div", "neg", "_to_copy", "plain_clone"}
NEW = {"mm", "bmm", "add", "sub", "mul", "div", "neg", "cat", "native_layer_norm_backward", "_softmax_backward_data"}
VIEWS = {"reshape", "transpose", "permute", "getitem"}  # of a new value: nobody else's memory either
OVERWRITES: dict[str, Callable[..., Tensor]] = {"add": Tensor.add_, "mul": Tensor.mul_}
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def batched(linear: fx.GraphModule) -> fx.GraphModule:
    """From f(vector, *constants) to f(vectors, *constants), whose results have the vectors along dimension 0."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    moving: set[fx.Node] = set()
    for node in linear.graph.nodes:
        if node.op == "call_function" and moving.intersection(node.all_input_nodes):
            moving.add(node)
            target, args, kwargs = _rule(node, moving)
            args = tuple(fx.node.map_arg(arg, lambda n: copies[n]) for arg in args)
            copies[node] = graph.call_function(target, args, kwargs)
        else:
            copies[node] = graph.node_copy(node, lambda n: copies[n])
            moving |= {node} if not moving else set()
    root = linear if any(node.op == "get_attr" for node in graph.nodes) else nn.Module()
    return fx.GraphModule(root, graph)


def _rule(node: fx.Node, moving: set[fx.Node]) -> Call:
    """What to call in place of a node that depends on the vector."""
    name, args, same = operation(node), list[Any](node.args), cast("Callable[..., Any]", node.target)
    operands = [n for n in node.all_input_nodes if n in moving]
    first = bool(args) and args[0] in moving
    ranks = {_rank(n) for n in (node, *operands)}
    if name == "getitem" and first:
        return same, tuple(args), {}
    if name == "reshape" and first:
        return reshape, tuple(args), {}
    if name in ("mm", "bmm") and len(operands) == 1:
        return PRODUCTS[name, first], tuple(args), {}
    if name == "native_layer_norm_backward" and operands == [args[0]] and args[-1] == [True, False, False]:
        return layer_norm_pullback, tuple(args[:-1]), {}
    if len(ranks) > 1 or None in ranks:
        return each(node, moving)
    if name in ELEMENTWISE:
        return _elementwise(node)
    if name == "transpose":
        return same, (args[0], *(_later(dim, node) for dim in args[1:])), {}
    if name == "permute":
        return same, (args[0], [0, *(_later(dim, node) for dim in args[1])]), {}
    if name == "cat" and all(part in moving for part in args[0]):
        return same, (args[0], _later(args[1] if len(args) > 1 else 0, node)), {}
    if name == "_softmax_backward_data" and operands == [args[0]] and alike(node, args[1]):
        return softmax_pullback, (args[0], args[1], _later(args[2], node)), {}
    return each(node, moving)


def _elementwise(node: fx.Node) -> Call:
    """The operation itself, into the memory of an operand that nothing else reads."""
    overwrite, operands = OVERWRITES.get(operation(node)), list(node.args)
    if overwrite is not None and len(operands) == 2:
        if not node.kwargs and not _own(operands[0], node):
            operands.reverse()
        if _own(operands[0], node):
            return overwrite, tuple(operands), dict(node.kwargs)
    return cast("Callable[..., Any]", node.target), node.args, dict(node.kwargs)


def _own(value: Any, user: fx.Node) -> bool:
    """Whether a value is shaped like that of its user, which alone reads its memory."""
    if not isinstance(value, fx.Node) or not alike(value, user):
        return False
    while len(value.users) == 1:
        if operation(value) in NEW:
            return True
        if operation(value) not in VIEWS:
            return False
        value = value.all_input_nodes[0]
    return False


def each(node: fx.Node, moving: set[fx.Node]) -> Call:
    """The operation on one vector after the other, as `vmap` sees it."""
    operands = node.all_input_nodes
    places = tuple(0 if n in moving else None for n in operands)

    def each_vector(*values: Any) -> Any:
        kept: list[Any] = []

        def one(*inner: Any) -> tuple[Tensor, ...]:
            given = dict(zip(operands, inner, strict=True))
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: given[n])
            result = node.target(*args, **kwargs)  # type: ignore[operator]
            parts = result if isinstance(result, tuple | list) else (result,)
            kept[:] = [isinstance(part, Tensor) for part in parts] if isinstance(result, tuple | list) else []
            return tuple(part for part in parts if isinstance(part, Tensor))

        found = iter(torch.func.vmap(one, places)(*values))
        return tuple(next(found) if is_tensor else None for is_tensor in kept) if kept else next(found)

    return each_vector, tuple(operands), {}


def _rank(value: Any) -> int | None:
    """Dimensions of a node's value for one vector, where they are known."""
    known = value.meta.get("val") if isinstance(value, fx.Node) else None
    return known.dim() if isinstance(known, Tensor) else None


def _later(dim: Any, node: fx.Node) -> int:
    """A dimension of one vector's value among those of all vectors."""
    return int(dim) + 1 if dim >= 0 else int(dim)


def reshape(x: Tensor, shape: Any) -> Tensor:
    return x.reshape(len(x), *shape)


def rows_by_matrix(x: Tensor, matrix: Tensor) -> Tensor:
    """(B, n, k) (k, m): one product of B n rows."""
    return (x.reshape(-1, len(matrix)) @ matrix).reshape(*x.shape[:-1], matrix.shape[1])


def rows_by_matrices(x: Tensor, matrices: Tensor) -> Tensor:
    """(B, h, n, k) (h, k, m): h products of B n rows."""
    B, h, n, k = x.shape
    rows = x.transpose(0, 1).reshape(h, B * n, k)
    return (rows @ matrices).reshape(h, B, n, -1).transpose(0, 1)


def matrices_by_columns(matrices: Tensor, x: Tensor) -> Tensor:
    """(h, n, k) (B, h, k, m): h products of B m columns, or h B products where the matrices are the smaller ones."""
    B, h, k, m = x.shape
    n = matrices.shape[1]
    if m <= n:
        columns = x.permute(1, 2, 0, 3).reshape(h, k, B * m)
        return (matrices @ columns).reshape(h, n, B, m).permute(2, 0, 1, 3)
    repeated = matrices[:, None].expand(h, B, n, k).reshape(h * B, n, k)
    return (repeated @ x.transpose(0, 1).reshape(h * B, k, m)).reshape(h, B, n, m).transpose(0, 1)


PRODUCTS: dict[tuple[str, bool], Callable[..., Tensor]] = {
    ("mm", True): rows_by_matrix,
    ("mm", False): torch.matmul,
    ("bmm", True): rows_by_matrices,
    ("bmm", False): matrices_by_columns,
}


def softmax_pullback(cotangents: Tensor, probabilities: Tensor, dim: int) -> Tensor:
    """P (g - sum of P g along a dimension), for probabilities P."""
    weighted = cotangents * probabilities
    return weighted.addcmul_(probabilities, weighted.sum(dim, keepdim=True), value=-1)


def layer_norm_pullback(
    cotangents: Tensor, x: Tensor, shape: list[int], mean: Tensor, scale: Tensor, weight: Any, bias: Any
) -> tuple[Tensor]:
    """One call for all vectors, which takes as many inputs as cotangents; the kernel reads these as contiguous."""
    x, mean, scale = (value.expand(len(cotangents), *value.shape).contiguous() for value in (x, mean, scale))
    found = aten.native_layer_norm_backward(cotangents, x, shape, mean, scale, weight, bias, [True, False, False])
    return (found[0],)
