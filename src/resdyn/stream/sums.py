"""Sums of a skip and a branch: where a value returns to what was computed from it.

A sum is a candidate for a residual block when one of its terms leads back, through linear operations alone, to a value
(the fork) that another term is computed from nonlinearly or, where the skip is the fork itself, through weights. This
looks at the sum and what came before it; which candidates form the stream is decided in `chain`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import fx

from resdyn.stream.cells import INNER
from resdyn.stream.cut import between, reach
from resdyn.stream.flow import Flow
from resdyn.stream.graph import DataGraph, same_numel, size_of, tensor_of
from resdyn.stream.ops import (
    NORM,
    PRODUCTS,
    SPLITTING,
    WEIGHTED,
    WRITES,
    is_elementwise,
    is_linear,
    is_neutral,
    moves_nothing,
    operands_of,
    operation,
)

Terms = tuple[tuple[fx.Node, float], ...]
# Skips that depend on nothing but where they lead; of the others a block has one only where it has none of these.
FIRM = {"identity", "scaled", "projection"}


@dataclass(frozen=True)
class Candidate:
    """A sum that may close a residual block: its terms with their coefficients, and which of them is the skip.

    `terms` is empty where the block writes into its state (``where``, ``scatter_add``): the branch is then the total
    less the fork. Of a concatenation the terms are its parts.
    """

    fork: fx.Node
    total: fx.Node
    kind: str
    terms: Terms = ()
    skip: int = 0


@dataclass(frozen=True)
class Path:
    """A linear way back from a term: where it leads, what it passes, and what it is multiplied by on the way."""

    root: fx.Node
    nodes: tuple[fx.Node, ...] = ()
    factors: tuple[fx.Node, ...] = ()


def candidates(flow: Flow, weighted: bool = True, nested: bool = True) -> list[Candidate]:
    """All sums that may close a residual block, in the order of the graph.

    Args:
        flow: The nodes between input and output.
        weighted: Those with weights inside; else those without.
        nested: A sum within a sum is part of it; else each is looked at alone.
    """
    weights = weights_of(flow.graph)
    found: dict[fx.Node, Candidate] = {}
    for node in flow:
        value = tensor_of(node)
        if value is None or value.is_complex() or INNER in node.meta:
            continue
        inner: set[fx.Node] = set()
        options = _options(flow, node, found, inner)
        chosen = next((option for option in options if _computes(flow, option, weights) == weighted), None)
        if chosen is not None and flow.is_wanted(between(flow.graph, [chosen.fork], [node])):
            found[node] = chosen
            for part in inner if nested else ():
                found.pop(part, None)
    return list(found.values())


def _options(flow: Flow, total: fx.Node, found: dict[fx.Node, Candidate], inner: set[fx.Node]) -> Iterator[Candidate]:
    """The ways to see a node as the end of a block, the likeliest first; `inner` receives the sums inside it."""
    name = operation(total)
    if name in {"add", "sub"}:
        terms = tuple(_terms(flow, total, found, inner))
        ways = {i: path for i, _ in enumerate(terms) if (path := _way_back(flow, terms, i)) is not None}
        for i in _skips(flow, total, terms, ways, found):
            if (farther := _pooled(flow, total, ways[i])) is not None:
                yield Candidate(farther.root, total, "projection", terms, i)
            yield Candidate(ways[i].root, total, _kind(flow, ways[i], terms[i][1]), terms, i)
    elif name == "cat":
        yield from _of_cat(flow, total)
    elif name in WRITES:
        yield from _of_write(flow, total)


def weights_of(graph: DataGraph) -> set[fx.Node]:
    """Parameters, buffers, and what is computed from these alone."""
    return reach(graph.parameters, lambda node: node.users) - reach(graph.inputs, lambda node: node.users)


def _computes(flow: Flow, candidate: Candidate, weights: set[fx.Node]) -> bool:
    """Whether a block has weights of its own, if not in the branch then in the norm that its sum goes into."""
    inside = between(flow.graph, [candidate.fork], [candidate.total])
    if any(operand in weights for node in inside for operand in node.all_input_nodes):
        return True
    users = [user for user in candidate.total.users if user in flow]
    followed = all(operation(user) in NORM and any(n in weights for n in user.all_input_nodes) for user in users)
    return bool(users) and followed and not is_activation(flow, candidate)


def is_activation(flow: Flow, block: Candidate) -> bool:
    """Whether each element of a sum depends on the same element of the state alone."""
    return all(is_elementwise(node) for node in between(flow.graph, [block.fork], [block.total]))


def sum_terms(flow: Flow, total: fx.Node) -> Terms:
    """The terms of a sum with their coefficients, those of sums within it that have no other use included."""
    return tuple(_terms(flow, total, {}, set()))


def _terms(
    flow: Flow, total: fx.Node, found: dict[fx.Node, Candidate], inner: set[fx.Node], scale: float = 1.0
) -> Iterator[tuple[fx.Node, float]]:
    """The terms of a nested sum with their coefficients; inner sums must have no other use."""
    sign = -1.0 if operation(total) == "sub" else 1.0
    alpha = total.kwargs.get("alpha", total.args[2] if len(total.args) > 2 else 1.0)
    factors = (scale, scale * sign * float(alpha))  # type: ignore[arg-type]
    operands = total.args[:2]
    for operand, other, factor in zip(operands, reversed(operands), factors):
        if not isinstance(operand, fx.Node):
            continue
        nested = without_neutral(operand, single_use=True)
        if _is_inner(flow, nested, total) and not _is_complete(flow, found.get(nested), other):
            inner.add(nested)
            yield from _terms(flow, nested, found, inner, factor)
        else:
            yield operand, factor


def _is_inner(flow: Flow, node: fx.Node, total: fx.Node) -> bool:
    return operation(node) in {"add", "sub"} and node in flow and len(node.users) == 1 and same_shape(node, total)


def _is_complete(flow: Flow, block: Candidate | None, other: object) -> bool:
    """Whether an inner sum closes a block of its own, to which something is added that does not read its fork.

    In (h + f(h)) + g(h) the whole is one block of parallel branches; in (h + f(h)) + e the block ends before e.
    """
    if block is None or not isinstance(other, fx.Node) or other not in flow:
        return False
    return not flow.precedes(block.fork, other)


def same_shape(a: fx.Node, b: fx.Node) -> bool:
    """Whether two nodes hold tensors of one shape."""
    return tensor_of(a) is not None and tensor_of(b) is not None and size_of(a) == size_of(b)


def without_neutral(node: fx.Node, single_use: bool = False) -> fx.Node:
    """The node whose numbers `node` repeats in the same shape."""
    while is_neutral(node) and tensor_of(node) is not None and tensor_of(node.all_input_nodes[0]) is not None:
        if single_use and len(node.users) > 1:
            break
        node = node.all_input_nodes[0]
    return node


def without_views(node: fx.Node) -> fx.Node:
    """The node whose numbers `node` repeats in the same order, in whatever shape."""
    while moves_nothing(node) and tensor_of(node) is not None and tensor_of(node.all_input_nodes[0]) is not None:
        if not _same_numel(node, node.all_input_nodes[0]):
            break
        node = node.all_input_nodes[0]
    return node


def state_of(flow: Flow, node: fx.Node) -> fx.Node:
    """The value that a node repeats, in the shape in which the network reads it."""
    base = without_views(node)
    while len(base.users) == 1:
        (user,) = base.users
        if user not in flow or not moves_nothing(user) or not _same_numel(user, base):
            break
        base = user
    return base


def _same_numel(a: fx.Node, b: fx.Node) -> bool:
    left, right = tensor_of(a), tensor_of(b)
    return left is not None and right is not None and left.dtype == right.dtype and same_numel(a, b)


def _way_back(flow: Flow, terms: Terms, index: int) -> Path | None:
    """The linear way from a term back to the nearest value that another term is computed from."""
    term = terms[index][0]
    others = [node for i, (node, _) in enumerate(terms) if i != index and node in flow]
    if term not in flow or not others:
        return None
    return _Ways(flow, others).back(term)


class _Ways:
    """Linear ways back from nodes to the nearest value that one of some others is computed from."""

    def __init__(self, flow: Flow, others: Sequence[fx.Node]) -> None:
        self._flow = flow
        self._others = others
        self._known: dict[fx.Node, Path | None] = {}

    def back(self, node: fx.Node) -> Path | None:
        """The way from a node; None where something on it is not linear."""
        if node not in self._known:
            self._known[node] = self._find(node)
        return self._known[node]

    def _find(self, node: fx.Node) -> Path | None:
        base = state_of(self._flow, node)
        if operation(base) in SPLITTING:  # one part of a value is no skip of the whole
            return None
        single = base in self._flow and tensor_of(base) is not None
        if single and any(self._flow.precedes(base, other) for other in self._others):
            return Path(base)
        every = self._flow.operands(node)
        operands = list(dict.fromkeys(every))
        name = operation(node)
        if len(every) == 1 and is_linear(node, set(operands)):
            return self._on(node, operands)
        if name in {"add", "sub", "cat", "stack"}:
            return self._on(node, operands)
        if name in PRODUCTS and len(every) == len(operands) == 2:
            return self._on_product(node, operands)
        return None

    def _on(self, node: fx.Node, operands: Sequence[fx.Node]) -> Path | None:
        """Through an operation that is linear in all its operands, which must lead to one value."""
        paths = [self.back(operand) for operand in operands]
        known = [path for path in paths if path is not None]
        if not known or len(known) < len(paths) or len({path.root for path in known}) > 1:
            return None
        nodes = dict.fromkeys(n for path in known for n in path.nodes)
        return Path(known[0].root, (node, *nodes), tuple(n for path in known for n in path.factors))

    def _on_product(self, node: fx.Node, operands: Sequence[fx.Node]) -> Path | None:
        """Through the operand that leads farther back; the other one is a factor."""
        paths = {n: path for n in operands if (path := self.back(n)) is not None}
        if not paths:
            return None
        taken = min(paths, key=lambda n: self._flow.place[paths[n].root])
        path, factor = paths[taken], next(n for n in operands if n is not taken)
        return Path(path.root, (node, *path.nodes), (factor, *path.factors))


def _skips(
    flow: Flow, total: fx.Node, terms: Terms, ways: dict[int, Path], found: Collection[fx.Node]
) -> Iterator[int]:
    """Which terms may be the skip: those that are the fork itself, the nearest first, then the linear one.

    A farther one comes before a nearer one where no block ends between the two, as in h + norm(h) + f(norm(h)).
    """
    plain = [i for i, path in ways.items() if not path.nodes and same_numel(terms[i][0], total)]
    plain = [i for i in plain if not _centres(flow.graph, ways[i].root, total)]
    plain = sorted(plain, key=lambda i: -flow.place[ways[i].root])
    apart = [_ends_between(flow, ways[b].root, ways[a].root, found) for a, b in pairwise(plain)]
    nearest = apart.index(True) if True in apart else len(apart)
    yield from [*plain[nearest::-1], *plain[nearest + 1 :]]
    linear = [i for i, path in ways.items() if path.nodes and not _is_one_map(flow, terms, i, path)]
    linear = [i for i in linear if not _attends(flow, ways[i])]
    if plain or not linear:
        return
    cost = {i: (sum(operation(n) in WEIGHTED for n in ways[i].nodes), len(ways[i].nodes)) for i in linear}
    best = min(linear, key=lambda i: cost[i])
    # Of two linear paths of equal weight it is undetermined which one is the skip.
    if sum(cost[i][0] == cost[best][0] and ways[i].root is ways[best].root for i in linear) == 1:
        yield best


def _ends_between(flow: Flow, start: fx.Node, end: fx.Node, found: Collection[fx.Node]) -> bool:
    """Whether a block ends on the way from one value to another, or there is no such way."""
    after = [total for total in found if total is not start and flow.precedes(start, total)]
    return not flow.precedes(start, end) or any(flow.precedes(total, end) for total in after)


def _attends(flow: Flow, path: Path) -> bool:
    """Whether a way leads through weights to a product with something computed from the state: attention, no skip."""
    weighs = any(operation(node) in WEIGHTED - PRODUCTS for node in path.nodes)
    return weighs and any(flow.precedes(path.root, factor) for factor in path.factors)


def _pooled(flow: Flow, total: fx.Node, path: Path) -> Path | None:
    """The way on to a value that a fork was pooled from, where the branch reads that value too.

    In pool(h) + f(pool(h), h) the state is h: with pool(h) for the state, h would be held.
    """
    inside = between(flow.graph, [path.root], [total])
    members = {path.root, *inside}
    held = [n for node in inside for n in flow.operands(node) if n not in members]
    if not held or not flow.operands(path.root):
        return None
    farther = _Ways(flow, held).back(path.root)
    if farther is None or any(operation(node) in WEIGHTED for node in farther.nodes):
        return None
    if any(flow.precedes(farther.root, factor) for factor in farther.factors):  # normed, not pooled
        return None
    return farther if all(flow.precedes(farther.root, node) for node in held) else None


def _is_one_map(flow: Flow, terms: Terms, skip: int, path: Path) -> bool:
    """Whether skip and branch are one linear map: both linear in the root, and weights in both or in neither.

    A weight beside its low-rank adapter is one map, and so is a rotation of positions; a convolution beside the state,
    with some of its elements left out, is a block.
    """
    others = [
        node for i, (node, _) in enumerate(terms) if i != skip and node in flow and flow.precedes(path.root, node)
    ]
    nodes = between(flow.graph, [path.root], others)
    inside = {path.root, *nodes}
    if not all(is_linear(node, inside) for node in nodes):
        return False
    weighs = [any(operation(node) in WEIGHTED for node in some) for some in (path.nodes, nodes)]
    return weighs[0] or not weighs[1]


def _centres(graph: DataGraph, fork: fx.Node, total: fx.Node) -> bool:
    """Whether a difference merely subtracts the mean of the fork: the start of a layer norm written out."""
    path = between(graph, [fork], [total])[:-1]
    means = [node for node in path if operation(node) == "mean"]
    return operation(total) == "sub" and bool(means) and all(node in means or moves_nothing(node) for node in path)


def _kind(flow: Flow, path: Path, coefficient: float) -> str:
    """What a skip does to the state: identity, scaled, gated, mixing or projection."""
    active = [node for node in path.nodes if not moves_nothing(node)]
    gated = any(flow.precedes(path.root, factor) for factor in path.factors)
    products = [node for node in active if operation(node) in PRODUCTS and operation(node) != "mul"]
    if all(operation(node) in {"mul", "div", "neg"} for node in active):
        if gated:
            return "gated"
        return "scaled" if active or coefficient != 1 else "identity"
    if products and all(operation(node) in {"mul", "div"} or _from_the_left(flow, node) for node in active):
        return "mixing"
    return "mixing" if gated else "projection"


def _from_the_left(flow: Flow, node: fx.Node) -> bool:
    """Whether a product mixes the rows of the state, M h, and not its features, h W."""
    if operation(node) == "einsum":
        return True
    operands = operands_of(node)
    return operation(node) in {"matmul", "bmm", "mm"} and len(operands) == 2 and operands[0] not in flow


def _of_write(flow: Flow, total: fx.Node) -> Iterator[Candidate]:
    """The block of an operation that writes into its state: h with elements replaced by others computed from it."""
    operands = flow.operands(total)
    bases = {base for node in operands if (base := state_of(flow, node)) in flow and same_shape(node, total)}
    for base in sorted(bases, key=lambda node: -flow.place[node]):
        if any(base is not state_of(flow, node) and flow.precedes(base, node) for node in operands):
            yield Candidate(base, total, "identity")


def _of_cat(flow: Flow, total: fx.Node) -> Iterator[Candidate]:
    """The block of a concatenation of the state with what is computed from it, as in a dense block."""
    parts = [node for node in total.args[0] if isinstance(node, fx.Node)]  # type: ignore[union-attr]
    for i, part in enumerate(parts):
        fork = state_of(flow, part) if part in flow else part
        others = [node for k, node in enumerate(parts) if k != i and node in flow]
        if fork in flow and any(flow.precedes(fork, node) and fork is not state_of(flow, node) for node in others):
            yield Candidate(fork, total, "concat", tuple((node, 1.0) for node in parts), i)
