"""The derivative of a block and its transpose, traced once and shared by all states.

A product with a Jacobian in forward mode recomputes the primal values each time, and carries dual numbers through
every operation; one in reverse mode runs each operation's backward, however many of them only scale. Here a product
is traced into a graph once; at a state, what does not depend on the vector is computed once; a product then consists
of its linear operations alone, with those that only scale merged into one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from resdyn._numerics import plain_arithmetic
from resdyn._torch import make_fx, pytree
from resdyn.stream.batching import batched
from resdyn.stream.cut import Cut, reach
from resdyn.stream.diagonal import alike, merge_diagonals
from resdyn.stream.graph import silence_logs
from resdyn.stream.ops import operation
from resdyn.stream.rewrite import rewrite
from resdyn.stream.waist import columns_after_waist
from resdyn.stream.windows import Windows

ZERO_MAKERS = {"zeros", "zeros_like", "new_zeros", "_efficientzerotensor"}
KEEP_ZERO = {
    "expand",
    "alias",
    "_to_copy",
    "clone",
    "plain_clone",
    "view",
    "reshape",
    "permute",
    "t",
    "transpose",
    "neg",
    "unsqueeze",
    "squeeze",
    "detach",
}
ZERO_IF_ANY = {"mul", "mm", "bmm", "matmul"}
Direction = Literal["forward", "reverse"]
Product = Callable[[Tensor], Tensor]
COPIES = {"alias", "expand", "_to_copy", "clone", "plain_clone", "detach"}


@dataclass(frozen=True)
class BoundFunction:
    """`function(x, *constants)` with its constants in place; the same `function` serves every state."""

    function: Callable[..., Tensor]
    constants: tuple[Any, ...]
    windowed: bool = False  # whether most of what it computes is thrown away, see `windows`

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x, *self.constants)


class LinearMap:
    """v -> df(h) v, or u -> df(h)^T u, for any h, from one trace at an example."""

    def __init__(self, function: BoundFunction, state: Tensor, direction: Direction) -> None:
        flat, structure = pytree.tree_flatten(function.constants)

        def product(h: Tensor, v: Tensor, *values: Any) -> Tensor:
            constants = pytree.tree_unflatten(list(values), structure)
            return plain_product(lambda x: function.function(x, *constants), h, direction)(v)

        with silence_logs(), plain_arithmetic(), torch.no_grad():
            v = torch.zeros_like(state if direction == "forward" else function(state))
            traced = make_fx(product)(state, v, *flat)
        self._primal, self._linear = linear_parts(traced, function.windowed)

    def at(self, state: Tensor, constants: Sequence[Any]) -> TracedProduct:
        """The linear map at one state, primal values computed now."""
        with torch.no_grad(), plain_arithmetic():
            values = [_dense(value) for value in self._primal(state, *pytree.tree_leaves(tuple(constants)))]
        return TracedProduct(self._linear, values, self)

    @cached_property
    def batched(self) -> fx.GraphModule:
        """The linear operations for many vectors at once."""
        return batched(self._linear)


class TracedProduct:
    """A linear map at one state."""

    def __init__(self, linear: fx.GraphModule, values: Sequence[Any], of: LinearMap) -> None:
        self._linear, self._values, self._of = linear, values, of
        self._forward = linear.forward  # past the hooks of modules, which take a tenth of a small product

    def __call__(self, v: Tensor) -> Tensor:
        result: Tensor = self._forward(v, *self._values)
        return result

    def many(self, vectors: Tensor) -> Tensor:
        """Products with some vectors (B, *shape of one)."""
        result: Tensor = self._of.batched(vectors, *self._values)
        return result

    def columns_after_waist(self, v: Tensor, most: int) -> Tensor | None:
        """What goes through the layer with the fewest active units, see `waist`; ``v`` is a vector that this takes."""
        with torch.no_grad(), plain_arithmetic():
            return columns_after_waist(self._linear.graph, self._values, v, most)


def plain_product(function: Callable[[Tensor], Tensor], state: Tensor, direction: Direction) -> Product:
    """The same without a trace, by forward or reverse mode."""
    if direction == "reverse":
        with plain_arithmetic():
            pullback = torch.func.vjp(function, state)[1]
        return lambda u: pullback(u)[0]

    def pushforward(v: Tensor) -> Tensor:
        with plain_arithmetic():
            result: Tensor = torch.func.jvp(function, (state,), (v,))[1]
        return result

    return pushforward


def _dense(value: Any) -> Any:
    """Real zeros for the symbolic ones of forward mode, which later operations would not accept."""
    if isinstance(value, Tensor) and value._is_zerotensor():
        return torch.zeros(value.shape, dtype=value.dtype, device=value.device)
    return value


_TRACES: OrderedDict[Hashable, LinearMap] = OrderedDict()
_MOST_TRACES = 128
_PLAIN = (int, float, str, type(None), torch.dtype, torch.device)  # what an equal text means to be equal


def linear_map(
    function: BoundFunction, state: Tensor, direction: Direction, structure: Hashable | None = None
) -> LinearMap | None:
    """The traced map if it agrees with the plain one at a random vector, otherwise None.

    Blocks of one ``structure`` (see `structure_of`) share a trace, for it takes hundreds of times as long as a product;
    each checks that it agrees.
    """
    generator = torch.Generator().manual_seed(0)
    with plain_arithmetic(), torch.no_grad():
        like = state if direction == "forward" else function(state)
        v = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
        expected = plain_product(function, state, direction)(v)
        key = None if structure is None else (structure, direction, _form(state, function.constants))
        shared = _TRACES.get(key)
        if shared is not None and _agrees(shared, function, state, v, expected):
            _TRACES.move_to_end(key)
            return shared
        try:
            traced = LinearMap(function, state, direction)
        except Exception:
            # Tracing only saves time: what it does not support, a plain derivative does.
            return None
        if not _agrees(traced, function, state, v, expected):
            return None
    if key is not None and shared is None:
        _TRACES[key] = traced
        if len(_TRACES) > _MOST_TRACES:
            _TRACES.popitem(last=False)
    return traced


def _agrees(traced: LinearMap, function: BoundFunction, state: Tensor, v: Tensor, expected: Tensor) -> bool:
    """Whether a traced map gives what the plain derivative does, also when it is batched."""
    try:
        product = torch.func.vmap(traced.at(state, function.constants))(v[None])[0]
    except Exception:
        return False
    scale = float(expected.abs().max())
    return scale < float("inf") and torch.allclose(product, expected, rtol=1e-4, atol=1e-6 * scale)


def structure_of(cuts: Sequence[Cut]) -> Hashable | None:
    """What the operations of some cuts are, whatever the values that they read; None where that cannot be compared."""
    description = []
    for cut in cuts:
        place = {node: index for index, node in enumerate((*cut.sources, *cut.leaves, *cut.nodes))}
        operations = [(node.target, _plain((node.args, node.kwargs), place)) for node in cut.nodes]
        description.append((len(cut.sources), len(cut.leaves), *operations, tuple(place[n] for n in cut.targets)))
    try:
        hash(tuple(description))
    except TypeError:
        return None
    return tuple(description)


def _plain(value: Any, place: dict[fx.Node, int]) -> Any:
    """Arguments of a node with nodes by their place; types beside values, for 1 == 1.0 == True."""
    if isinstance(value, fx.Node):
        return "node", place[value]
    if isinstance(value, list | tuple):
        return tuple(_plain(item, place) for item in value)
    if isinstance(value, dict):
        return tuple((key, _plain(item, place)) for key, item in value.items())
    if isinstance(value, slice):
        return "slice", _plain((value.start, value.stop, value.step), place)
    return type(value), value


def _form(state: Tensor, constants: tuple[Any, ...]) -> Hashable:
    """What a trace depends on in its inputs: forms of tensors, which of them are one, and all other values."""
    leaves, structure = pytree.tree_flatten((state, constants))
    first: dict[int, int] = {}
    forms = [
        (value.shape, value.stride(), value.dtype, value.device, first.setdefault(id(value), index))
        if isinstance(value, Tensor)
        else (type(value), repr(value) if isinstance(value, _PLAIN) else object())
        for index, value in enumerate(leaves)
    ]
    return tuple(forms), repr(structure)


def _drop_zeros(graph: fx.Graph) -> set[fx.Node]:
    """Remove additions of zero and copies: forward mode gives every constant a tangent of zeros; return the zeros."""
    zeros: set[fx.Node] = set()
    for node in list(graph.nodes):
        if _is_zero(node, zeros):
            zeros.add(node)
        elif operation(node) in COPIES and alike(node, node.all_input_nodes[0]):
            node.replace_all_uses_with(node.all_input_nodes[0])
        elif operation(node) == "add" and len(node.args) == 2 and not node.kwargs:
            rest = [n for n in node.all_input_nodes if n not in zeros]
            if len(node.all_input_nodes) == 2 and len(rest) == 1 and alike(node, rest[0]):
                node.replace_all_uses_with(rest[0])
    graph.eliminate_dead_code()
    return zeros


def _is_zero(node: fx.Node, zeros: set[fx.Node]) -> bool:
    name, operands = operation(node), [n for n in node.all_input_nodes if n in zeros]
    if name in ZERO_MAKERS:
        return not any(operation(user).endswith("_") for user in node.users)
    if not operands:
        return False
    if name == "convolution":
        unbiased = node.args[2] is None or node.args[2] in zeros
        return unbiased and (node.args[0] in zeros or node.args[1] in zeros)
    return name in ZERO_IF_ANY or name in KEEP_ZERO


def linear_parts(traced: fx.GraphModule, windowed: bool = False) -> tuple[fx.GraphModule, fx.GraphModule]:
    """What a traced product (state, tangent, *constants) computes of the state alone, and its linear rest."""
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    rewrite(traced.graph, inputs)
    zeros = _drop_zeros(traced.graph)
    merge_diagonals(traced.graph, reach([inputs[1]], lambda node: node.users))
    if windowed:
        Windows(traced.graph, reach([inputs[1]], lambda node: node.users), zeros).rewrite()
    return _split(traced)


def _split(traced: fx.GraphModule) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The part that no tangent reaches, and the linear rest as a function of the tangent and that part's values."""
    state, tangent, *constants = [node for node in traced.graph.nodes if node.op == "placeholder"]
    (output,) = [node for node in traced.graph.nodes if node.op == "output"]
    moving = reach([tangent], lambda node: node.users)
    needed = list(
        dict.fromkeys(
            n for node in traced.graph.nodes if node in moving for n in node.all_input_nodes if n not in moving
        )
    )
    primal = _extract(traced, [state, *constants], lambda node: node not in moving, tuple(needed))
    linear = _extract(traced, [tangent, *needed], lambda node: node in moving, output.args[0])
    return primal, linear


def _extract(
    traced: fx.GraphModule, inputs: list[fx.Node], keep: Callable[[fx.Node], bool], result: Any
) -> fx.GraphModule:
    graph, copies = fx.Graph(), {}
    for index, node in enumerate(inputs):
        copies[node] = graph.placeholder(f"value_{index}")
        copies[node].meta.update(node.meta)
    for node in traced.graph.nodes:
        if keep(node) and node not in copies and node.op in ("call_function", "get_attr"):
            copies[node] = graph.node_copy(node, lambda n: copies[n])
    graph.output(fx.node.map_arg(result, lambda n: copies[n]))
    graph.eliminate_dead_code()
    root = traced if any(node.op == "get_attr" for node in graph.nodes) else nn.Module()
    return fx.GraphModule(root, graph)
