"""How much of a model lies inside its blocks: shares of its parameters and of its floating-point operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from torch import Tensor, fx

from resdyn._format import percent
from resdyn.stream.cut import between, reach
from resdyn.stream.gates import Join
from resdyn.stream.graph import DataGraph, tensor_of
from resdyn.stream.ops import PACKING, node_modules, operation

# Where an operation lies, seen from the chain of blocks.
INSIDE, BEFORE, BETWEEN, AFTER, BESIDE = "in the blocks", "before them", "between them", "after them", "beside them"
PLACES = (INSIDE, BEFORE, BETWEEN, AFTER, BESIDE)
ENOUGH = 0.8  # share of the operations below which a note says what lies outside
NUM_NAMED = 3  # modules named per place


@dataclass(frozen=True)
class Coverage:
    """What share of a model lies inside the blocks of its stream.

    Attributes:
        parameters: Share of the model's parameters that the blocks read, 0 to 1.
        operations: Share of the floating-point operations of one sample, 0 to 1: two per multiplication and addition of
            a matrix product or convolution, one per element of any other result.
        outside: Shares of the operations elsewhere, by place: "before them", "between them" (transitions), "after
            them", "beside them" (what blocks read as held values).
        modules: The modules of most operations in each of these places.

    Example:
        >>> import torch, resdyn
        >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
        >>> coverage = resdyn.find_stream(model, torch.zeros(1, 3)).coverage
        >>> 0 < coverage.operations < 1
        True
    """

    parameters: float
    operations: float
    outside: dict[str, float]
    modules: dict[str, tuple[str, ...]]

    def __str__(self) -> str:
        return f"{percent(self.parameters)} of the parameters and {percent(self.operations)} of the operations"

    @property
    def notes(self) -> tuple[str, ...]:
        """What lies outside, where that is more than a fifth of the operations; otherwise nothing."""
        if self.operations >= ENOUGH:
            return ()
        parts = [
            f"{percent(share)} {place}" + (f" ({', '.join(self.modules[place])})" if self.modules[place] else "")
            for place, share in self.outside.items()
            if share >= 0.005
        ]
        held = f"the blocks hold {percent(self.operations)} of the model's operations"
        return (f"{held}; elsewhere are {'; '.join(parts)}",)


def coverage(graph: DataGraph, joins: Sequence[Join], target: fx.Node) -> Coverage:
    """The shares of the blocks of a stream that leads to `target`."""
    place = _places(graph, joins, target)
    work: Counter[str] = Counter()
    modules: dict[str, Counter[str]] = {name: Counter() for name in PLACES}
    for node, where in place.items():
        cost = operations(node)
        work[where] += cost
        modules[where][_module(graph, node)] += cost
    total = max(1, sum(work.values()))
    return Coverage(
        _parameters(graph, place),
        work[INSIDE] / total,
        {name: work[name] / total for name in PLACES[1:]},
        {name: tuple(m for m, _ in modules[name].most_common(NUM_NAMED) if m) for name in PLACES[1:]},
    )


def _places(graph: DataGraph, joins: Sequence[Join], target: fx.Node) -> dict[fx.Node, str]:
    """Where each operation lies that the output depends on and that depends on the model's inputs."""
    dynamic = reach(graph.inputs, lambda node: node.users)
    needed = reach([target], lambda node: node.all_input_nodes)
    inside = {node for join in joins for node in between(graph, [join.fork], [join.out])}
    ends = [(join.out, after.fork) for join, after in pairwise(joins)]
    transitions = {node for out, fork in ends for node in between(graph, [out], [fork])}
    before = reach([joins[0].fork], lambda node: node.all_input_nodes)
    after = reach([joins[-1].out], lambda node: node.users)

    def place(node: fx.Node) -> str:
        sets = ((INSIDE, inside), (BETWEEN, transitions), (BEFORE, before), (AFTER, after))
        return next((name for name, nodes in sets if node in nodes), BESIDE)

    order = [n for n in graph.module.graph.nodes if n.op == "call_function" and n in dynamic and n in needed]
    return {node: place(node) for node in order}


def _parameters(graph: DataGraph, place: dict[fx.Node, str]) -> float:
    """The share of the parameters that are read, each counted once, inside a block."""
    learned = dict(graph.model.named_parameters(remove_duplicate=False))
    read = {n for node, where in place.items() if where == INSIDE for n in node.all_input_nodes if n not in place}
    sources = reach(read - set(graph.inputs), lambda node: [n for n in node.all_input_nodes if n not in place])
    held = {learned[name] for node, name in graph.parameters.items() if node in sources and name in learned}
    total = sum(p.numel() for p in graph.model.parameters())
    return sum(p.numel() for p in held) / total if total else 0.0


def _module(graph: DataGraph, node: fx.Node) -> str:
    """The outermost module of a node that is not the model, and not a container around everything."""
    paths = [path.split("@")[0] for path in node_modules(node) if path.split("@")[0]]
    return ".".join(paths[-1].split(".")[:2]) if paths else ""


def operations(node: fx.Node) -> int:
    """Floating-point operations of one node, from the shapes that export recorded."""
    if PACKING in node.meta:
        return 0
    value = node.meta.get("val")
    results = [v for v in (value if isinstance(value, tuple | list) else [value]) if isinstance(v, Tensor)]
    size = sum(prod(_sizes(v)) for v in results)
    shapes = [_sizes(t) if (t := tensor_of(n)) is not None else () for n in node.all_input_nodes]
    name = operation(node)
    if name in {"linear", "convolution", "conv1d", "conv2d", "conv3d"} and len(shapes) > 1:
        return 2 * size * prod(shapes[1][1:])
    if name in {"addmm", "mm", "bmm", "matmul"} and shapes:
        return 2 * size * shapes[-2 if name != "addmm" else 1][-1]
    if name == "einsum" and shapes:
        return 2 * max(prod(s) for s in shapes) * max(1, size // max(1, min(prod(s) for s in shapes)))
    if "attention" in name and len(shapes) > 1:
        return 4 * prod(shapes[0]) * shapes[1][-2]
    return size


def _sizes(value: Tensor) -> tuple[int, ...]:
    """The sizes of a tensor, 1 for those that are counted as the model runs."""
    return tuple(int(size) if isinstance(size, int) else 1 for size in value.shape)
