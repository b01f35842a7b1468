"""Residual joins counted without resdyn: from a configuration, and in autograd's own graph of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from zoo import Inputs, fed

Node = Any  # a node of autograd's graph

VIEWS = (
    "View",
    "UnsafeView",
    "Transpose",
    "T",
    "Permute",
    "Clone",
    "Alias",
    "ToCopy",
    "Unsqueeze",
    "Squeeze",
    "Expand",
)
VIEWS += ("ReshapeAlias", "Slice", "Select", "AsStrided", "Roll", "ConstantPadNd", "Copy")
SCALES = ("Mul", "Div")
PROJECTIONS = ("Convolution", "Addmm", "Mm", "MkldnnLinear", "Bmm")
LINEAR = (*PROJECTIONS, "NativeBatchNorm", "AvgPool2D", "UpsampleNearest2D")
ELEMENTWISE = ("View", "Add", "Sub", "Mul", "Div", "Pow", "Neg", "Reciprocal", "Exp", "Sin", "Cos", "Tanh", "Sigmoid")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "depth")
DECODER_LAYERS = ("decoder_layers", "num_decoder_layers", "num_hidden_layers", "num_layers")


def layers_of(config: Any, inputs: dict[str, Tensor]) -> tuple[str, int] | None:
    """The kind of the stack that these inputs reach, and its layers; None where it is not one stack."""
    values = part(config, inputs)
    if values is None or "depths" in values:
        return None
    decoder = "decoder_input_ids" in inputs
    names = DECODER_LAYERS if decoder else LAYERS
    layers = next((values[name] for name in names if isinstance(values.get(name), int)), None)
    return None if layers is None else ("decoder with cross-attention" if decoder else "stack", layers)


def part(config: Any, inputs: dict[str, Tensor]) -> dict[str, Any] | None:
    """The numbers of the configuration, or of the nested one that is meant for these inputs."""
    if "input_ids" in inputs and any(name.startswith("pixel") for name in inputs):
        return None
    name = "text_config" if "input_ids" in inputs else "vision_config" if "pixel_values" in inputs else "audio_config"
    return vars(getattr(config, name, None) or config)


def joins_of_autograd(model: nn.Module, inputs: Inputs) -> tuple[int, int]:
    """Sums in autograd's graph with a term from which weights compute the other term: the longest chain, and all.

    That term may be scaled, reshaped or linearly projected. Sums that no output depends on are not seen.
    """
    outputs = fed(model.requires_grad_(), with_gradients(inputs))
    ends = [tensor.grad_fn for tensor in tensors(outputs) if tensor.grad_fn is not None]
    order = topological(ends)
    dynamic = depending_on_inputs(order)
    joins = {n: found for n in order if kind_of(n) == "Add" and (found := join_of(n, dynamic)) is not None}
    return longest_chain(order, dynamic, joins), len(joins)


def with_gradients(inputs: Inputs) -> Inputs:
    def one(x: Tensor) -> Tensor:
        return x.detach().requires_grad_().clone() if x.is_floating_point() else x

    return {name: one(x) for name, x in inputs.items()} if isinstance(inputs, dict) else one(inputs)


def tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        for value in outputs.values():
            yield from tensors(value)
    elif isinstance(outputs, list | tuple):
        for value in outputs:
            yield from tensors(value)


def kind_of(node: Node) -> str:
    return type(node).__name__.split("Backward")[0]


def before(node: Node) -> list[Node]:
    return [source for source, _ in node.next_functions if source is not None]


def topological(ends: list[Node]) -> list[Node]:
    """All nodes, sources first."""
    order, seen, stack = [], set(), [(end, False) for end in ends]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack += [(node, True), *((source, False) for source in before(node))]
    return order


def depending_on_inputs(order: list[Node]) -> set[Node]:
    """Nodes computed from the model's input: from embeddings of it, or from the copy of a leaf that is no weight."""
    dynamic: set[Node] = set()
    for node in order:
        leaf = marked_leaf(node)
        marked = kind_of(node) == "Clone" and leaf is not None and not isinstance(leaf, nn.Parameter)
        if kind_of(node) == "Embedding" or marked or any(source in dynamic for source in before(node)):
            dynamic.add(node)
    return dynamic


def marked_leaf(node: Node) -> Tensor | None:
    """The leaf that a node reads alone, if it does."""
    leaves = [getattr(source, "variable", None) for source in before(node)]
    return leaves[0] if len(leaves) == 1 else None


def join_of(node: Node, dynamic: set[Node]) -> tuple[Node, Node] | None:
    """The state that a sum adds to and the term that weights compute from it, if it is such a sum.

    Two linear maps side by side, as of two heads or of convolutions of several sizes, are one linear map and no sum of
    a state and a branch, unless one of the two is the state itself, scaled or in another shape.
    """
    terms = [source for source in before(node) if source in dynamic]
    if len(terms) != 2:
        return None
    for start, other in (terms, terms[::-1]):
        weighted, sources = made_by_weights(other, dynamic)
        x = way_back(start, weighted, sources, dynamic)
        if x is None or is_elementwise(other, x, dynamic):
            continue
        if not (is_map_of(start, x, dynamic, PROJECTIONS) and is_map_of(other, x, dynamic, ())):
            return x, other
    return None


def is_elementwise(node: Node, x: Node, dynamic: set[Node]) -> bool:
    """Whether a term is an activation of x, with weights of its own perhaps, which mixes no elements."""
    seen, stack = {x}, [node]
    while stack:
        if (at := stack.pop()) not in seen:
            seen.add(at)
            if kind_of(at) not in ELEMENTWISE:
                return False
            stack += [source for source in before(at) if source in dynamic]
    return True


def is_map_of(node: Node, x: Node, dynamic: set[Node], within: tuple[str, ...]) -> bool:
    """Whether a term is computed from x by linear operations alone, with all of its ways through one of `within`."""
    seen: set[tuple[Node, bool]] = set()
    stack = [(node, not within)]
    while stack:
        at, projected = state = stack.pop()
        if at is x and not projected:
            return False
        if at is x or state in seen:
            continue
        seen.add(state)
        into = [source for source in before(at) if source in dynamic]
        if kind_of(at) != "Add" and (len(into) != 1 or kind_of(at) not in (*VIEWS, *SCALES, *LINEAR)):
            return False
        stack += [(source, projected or kind_of(at) in within) for source in into]
    return True


def longest_chain(order: list[Node], dynamic: set[Node], joins: dict[Node, tuple[Node, Node]]) -> int:
    """The most joins in a row, each of whose states every path from the inputs reaches through the join before."""
    above = dominators(order, dynamic)
    length: dict[Node, int] = {}
    for node in order:
        if node in joins:
            passed = joins[node][0]
            while passed is not None and passed not in joins:
                passed = above[passed]
            length[node] = 1 + (length[passed] if passed is not None else 0)
    return max(length.values(), default=0)


def dominators(order: list[Node], dynamic: set[Node]) -> dict[Node, Node | None]:
    """For each node the last other one that every path to it from the inputs passes; None for the inputs."""
    above: dict[Node, Node | None] = {}
    depth: dict[Node | None, int] = {None: 0}
    for node in (node for node in order if node in dynamic):
        sources = [source for source in before(node) if source in dynamic]
        common: Node | None = sources[0] if sources else None
        for other in sources[1:]:
            while common is not other:
                if depth[common] >= depth[other]:
                    common = above[common]
                else:
                    other = above[other]
        above[node], depth[node] = common, depth[common] + 1
    return above


def way_back(node: Node, weighted: set[Node], sources: set[Node], dynamic: set[Node]) -> Node | None:
    """What a term is a view, a multiple, a projection or a sum of, if weights compute the other term from it.

    The nearest common source decides: two halves of a rotation have one without weights.
    """
    stack, seen = [node], set()
    while stack:
        node = stack.pop()
        if node in sources:
            if node in weighted:
                return node
        elif node not in seen:
            seen.add(node)
            into = [source for source in before(node) if source in dynamic]
            if kind_of(node) == "Add" or (len(into) == 1 and kind_of(node) in (*VIEWS, *SCALES, *LINEAR)):
                stack += into
    return None


def made_by_weights(node: Node, dynamic: set[Node]) -> tuple[set[Node], set[Node]]:
    """The nodes from which this one is computed with weights on the way, and all from which it is computed."""
    seen: set[tuple[Node, bool]] = set()
    stack = [(node, False)]
    while stack:
        state = node, weighted = stack.pop()
        if state in seen:
            continue
        seen.add(state)
        sources = before(node)
        weighted = weighted or any(source not in dynamic for source in sources)
        stack += [(source, weighted) for source in sources if source in dynamic]
    return {node for node, weighted in seen if weighted}, {node for node, _ in seen}
