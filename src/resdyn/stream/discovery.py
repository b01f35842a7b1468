"""Finding the residual stream of a graph: dominators of the output, joins between them, gates after them.

Every path from the input to the output passes through each dominator of the output: they are the states
that a network cannot avoid. Between two consecutive dominators a -> b, where b is a sum of which one term is
a itself (or a linear projection of a), there is a residual block. Names and classes play no part here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import networkx as nx
from torch import fx

from resdyn.stream.cut import between, reach
from resdyn.stream.gates import Join, Sum, attach_gates
from resdyn.stream.graph import DataGraph, is_floating, tensor_of
from resdyn.stream.ops import WEIGHTED, is_elementwise, is_flow, is_linear, is_neutral, moves_nothing, operation
from resdyn.stream.rewrite import aten

ROOT = "input"


def find_joins(graph: DataGraph) -> tuple[list[Join], fx.Node | None]:
    """The residual blocks of a graph in order, and the output that they lead to.

    Of all pairs (input, output) of the model the one with the most blocks is taken: a mask is not an input of the
    stream. Where several outputs have the same number, it is the one computed from the others (logits rather than
    hidden states), else the first. A single number, such as a loss, is an output of the batch and not of a sample.
    """
    best: tuple[list[Join], fx.Node | None] = ([], None)
    targets = [node for node in graph.outputs if (value := tensor_of(node)) is not None and value.dim() > 0]
    for source in graph.inputs:
        for target in targets or graph.outputs:
            joins = joins_between(graph, stream_sources(source), target)
            if len(joins) > len(best[0]) or (len(joins) == len(best[0]) and _follows(target, best[1])):
                best = (joins, target)
    return best


def _follows(later: fx.Node, earlier: fx.Node | None) -> bool:
    return earlier is not None and later is not earlier and later in reach([earlier], lambda node: node.users)


def stream_sources(source: fx.Node) -> list[fx.Node]:
    """Where the floating-point flow from an input begins: the input itself, or the embeddings of its tokens."""
    if is_floating(source):
        return [source]
    if tensor_of(source) is None:
        return []
    integers = reach([source], lambda node: [user for user in node.users if not is_floating(user)])
    first = [user for node in integers for user in node.users if is_flow(user)]
    embedded = [node for node in first if operation(node) == "embedding"]
    return list(dict.fromkeys(embedded or first))


def joins_between(graph: DataGraph, sources: list[fx.Node], target: fx.Node) -> list[Join]:
    """The residual blocks on the way from `sources` to `target`."""
    chain, flow = dominator_chain(sources, target)
    sums = [s for a, b in pairwise(chain) if (s := residual_sum(graph, a, b, flow)) is not None]
    blocks = [s for s in sums if not _is_activation(graph, s)] or sums
    return attach_gates(graph, blocks, chain) if blocks else []


def _is_activation(graph: DataGraph, block: Sum) -> bool:
    """Whether a sum is part of an activation such as x - tanh(x): elementwise, and without weights."""
    cut = between(graph, [block.fork], [block.total])
    weights = any(n in graph.parameters for node in cut for n in node.all_input_nodes)
    return not weights and all(is_elementwise(node) for node in cut)


def dominator_chain(sources: list[fx.Node], target: fx.Node) -> tuple[list[fx.Node], set[fx.Node]]:
    """Tensors that every path from the sources to the target passes, in order; and all nodes on such paths."""
    upstream = reach([target], lambda node: node.all_input_nodes, stop=set(sources) if len(sources) == 1 else set())
    flow = reach(
        [node for node in sources if node in upstream],
        lambda node: [user for user in node.users if user in upstream and is_flow(user)],
    )
    if target not in flow:
        return [], set()
    directed = nx.DiGraph((node, user) for node in flow for user in node.users if user in flow)
    directed.add_edges_from((ROOT, node) for node in sources if node in flow)
    parents = nx.immediate_dominators(directed, ROOT)
    chain = [target]
    while isinstance(above := parents.get(chain[-1]), fx.Node):
        chain.append(above)
    return [node for node in reversed(chain) if tensor_of(node) is not None], flow


def residual_sum(graph: DataGraph, fork: fx.Node, total: fx.Node, flow: set[fx.Node]) -> Sum | None:
    """The block between consecutive dominators, if `total` adds the fork (or a projection of it) to a branch."""
    value = tensor_of(total)
    if operation(total) not in {"add", "sub"} or value is None or value.is_complex():
        return None
    terms = list(sum_terms(total, flow))
    moving = [i for i, (node, _) in enumerate(terms) if node in flow]
    candidates = [i for i in moving if terms[i][1] == 1]
    if len(moving) < 2:
        return None
    identity = [i for i in candidates if without_neutral(terms[i][0]) is without_neutral(fork)]
    if identity and _centres(graph, fork, total):
        return None
    if identity:
        return _close(graph, fork, total, terms, identity[0], "identity")
    linear = [i for i in candidates if _weight(graph, fork, terms[i][0], flow) is not None]
    if not linear or _only_rearranges(graph, fork, total, flow):
        return None
    weights = {i: _weight(graph, fork, terms[i][0], flow) or (0, 0) for i in linear}
    shortest = min(linear, key=lambda i: weights[i])
    if sum(weight[0] == weights[shortest][0] for weight in weights.values()) > 1:
        return None  # two linear paths of equal weight: which of them is the skip is undetermined
    return _close(graph, fork, total, terms, shortest, "projection")


def sum_terms(total: fx.Node, flow: set[fx.Node], scale: float = 1.0) -> Iterator[tuple[fx.Node, float]]:
    """The terms of a nested sum with their coefficients; inner sums must have no other use."""
    sign = -1.0 if operation(total) == "sub" else 1.0
    alpha = total.kwargs.get("alpha", total.args[2] if len(total.args) > 2 else 1.0)
    for operand, factor in ((total.args[0], scale), (total.args[1], scale * sign * float(alpha))):  # type: ignore[arg-type]
        if not isinstance(operand, fx.Node):
            continue
        inner = without_neutral(operand, single_use=True)
        if operation(inner) in {"add", "sub"} and inner in flow and len(inner.users) == 1 and _same_shape(inner, total):
            yield from sum_terms(inner, flow, factor)
        else:
            yield operand, factor


def _same_shape(a: fx.Node, b: fx.Node) -> bool:
    left, right = tensor_of(a), tensor_of(b)
    return left is not None and right is not None and left.shape == right.shape


def without_neutral(node: fx.Node, single_use: bool = False) -> fx.Node:
    """The node whose numbers `node` repeats."""
    while is_neutral(node) and tensor_of(node) is not None and tensor_of(node.all_input_nodes[0]) is not None:
        if single_use and len(node.users) > 1:
            break
        node = node.all_input_nodes[0]
    return node


def _weight(graph: DataGraph, fork: fx.Node, term: fx.Node, flow: set[fx.Node]) -> tuple[int, int] | None:
    """(weighted operations, operations) on the way from the fork to a term if all are linear, otherwise None."""
    path = between(graph, [fork], [term])
    inside = flow & ({fork} | set(path))
    if not path or not all(is_linear(node, inside) for node in path):
        return None
    return sum(operation(node) in WEIGHTED for node in path), len(path)


def _only_rearranges(graph: DataGraph, fork: fx.Node, total: fx.Node, flow: set[fx.Node]) -> bool:
    """Whether a sum merely rearranges pieces of the fork: no weight and no nonlinearity on any path."""
    path = between(graph, [fork], [total])
    return all(is_linear(node, flow) and operation(node) not in WEIGHTED for node in path)


def _centres(graph: DataGraph, fork: fx.Node, total: fx.Node) -> bool:
    """Whether a difference merely subtracts the mean of the fork: the start of a layer norm written out."""
    path = between(graph, [fork], [total])[:-1]
    means = [node for node in path if operation(node) == "mean"]
    return operation(total) == "sub" and bool(means) and all(node in means or moves_nothing(node) for node in path)


def _close(
    graph: DataGraph, fork: fx.Node, total: fx.Node, terms: list[tuple[fx.Node, float]], skip: int, kind: str
) -> Sum:
    rest = [term for i, term in enumerate(terms) if i != skip]
    branch = matched_to_sum(graph, branch_node(graph, rest, total), total)
    return Sum(fork, matched_to_sum(graph, terms[skip][0], total), branch, total, kind)


def matched_to_sum(graph: DataGraph, node: fx.Node, total: fx.Node) -> fx.Node:
    """A term in the shape and precision of its sum, which may have broadcast or promoted it."""
    value, total_value = tensor_of(node), tensor_of(total)
    assert value is not None
    assert total_value is not None
    with graph.module.graph.inserting_before(total):
        if value.dtype != total_value.dtype:
            node = graph.module.graph.call_function(aten._to_copy.default, (node,), {"dtype": total_value.dtype})
            node.meta.update(total.meta)
        if value.shape != total_value.shape:
            node = _insert(graph, aten.expand.default, (node, list(total_value.shape)), total)
    return node


def branch_node(graph: DataGraph, terms: list[tuple[fx.Node, float]], total: fx.Node) -> fx.Node:
    """A node whose value is the sum of `terms`; inserted beside ``total`` unless there is only one term."""
    if len(terms) == 1 and terms[0][1] == 1:
        return terms[0][0]
    with graph.module.graph.inserting_before(total):
        result: fx.Node | None = None
        for node, scale in terms:
            scaled = node if scale == 1 else _insert(graph, aten.mul.Tensor, (node, scale), node)
            result = scaled if result is None else _insert(graph, aten.add.Tensor, (result, scaled), total)
    assert result is not None
    return result


def _insert(graph: DataGraph, target: object, args: tuple[object, ...], like: fx.Node) -> fx.Node:
    node = graph.module.graph.call_function(target, args)  # type: ignore[arg-type]
    node.meta.update(like.meta)
    return node
