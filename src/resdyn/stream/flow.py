"""What a network computes from one of its inputs: the nodes on the way to an output, and which come before which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import networkx as nx
from torch import fx

from resdyn.stream.cut import between, reach
from resdyn.stream.graph import DataGraph, is_floating, tensor_of
from resdyn.stream.ops import is_flow, node_modules, operands_of, operation

ROOT = "input"


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


def looked_up(source: fx.Node) -> list[fx.Node]:
    """Where the flow begins again behind whole numbers that are computed from an input, such as codes of a codebook."""
    integers = [node for node in reach([source], lambda node: node.users) if not is_floating(node)]
    return list(dict.fromkeys(user for node in integers for user in node.users if is_flow(user) and is_floating(user)))


def _is_within(node: fx.Node, module: str) -> bool:
    paths = [path.split("@")[0] for path in node_modules(node)]
    return any(path == module or path.startswith(f"{module}.") for path in paths)


class Flow:
    """The nodes between some sources and a target, in the order of the graph, each with its ancestors among them.

    The ancestors of a node, itself included, are the bits of one whole number, so that `precedes` costs nothing.
    `within` is the path of the module whose blocks are looked for; None: the whole model's.
    """

    def __init__(
        self, graph: DataGraph, sources: Iterable[fx.Node], target: fx.Node, within: str | None = None
    ) -> None:
        sources = list(sources)
        self.within = within
        upstream = reach([target], lambda node: node.all_input_nodes, stop=set(sources) if len(sources) == 1 else set())
        moving = reach(
            [node for node in sources if node in upstream],
            lambda node: [user for user in node.users if user in upstream and is_flow(user)],
        )
        self.graph = graph
        self.target = target
        self.sources = [node for node in sources if node in moving]
        self.nodes = [node for node in graph.module.graph.nodes if node in moving] if target in moving else []
        self.place = {node: i for i, node in enumerate(self.nodes)}
        self._ancestors: list[int] = []
        for i, node in enumerate(self.nodes):
            bits = 1 << i
            for operand in node.all_input_nodes:
                if operand in self.place:
                    bits |= self._ancestors[self.place[operand]]
            self._ancestors.append(bits)

    def __contains__(self, node: object) -> bool:
        return node in self.place

    def __iter__(self) -> Iterator[fx.Node]:
        return iter(self.nodes)

    def precedes(self, a: fx.Node, b: fx.Node) -> bool:
        """Whether b is computed from a, or is a."""
        return bool(self._ancestors[self.place[b]] >> self.place[a] & 1)

    def is_wanted(self, block: Iterable[fx.Node]) -> bool:
        """Whether a block computes with weights of the module whose blocks are looked for, and of no other."""
        if self.within is None:
            return True
        weighing = [node for node in block if any(n in self.graph.parameters for n in node.all_input_nodes)]
        return bool(weighing) and all(_is_within(node, self.within) for node in weighing)

    def ancestors(self, node: fx.Node) -> int:
        """The ancestors of a node and itself, as the bits of a number; 0 for a node that is not part of the flow."""
        return self._ancestors[self.place[node]] if node in self.place else 0

    def operands(self, node: fx.Node) -> list[fx.Node]:
        """The operands that are part of the flow, each as often as it occurs."""
        return [operand for operand in operands_of(node) if operand in self.place]

    def series(self, start: fx.Node | None, end: fx.Node) -> list[fx.Node]:
        """The tensors that every path from `start` (None: the sources) to `end` passes, `end` included."""
        begins = self.sources if start is None else [start]
        if start is end:
            return []
        inside = {node for node in [*between(self.graph, begins, [end]), *begins] if node in self.place}
        edges = nx.DiGraph((node, user) for node in inside for user in node.users if user in inside)
        edges.add_edges_from((ROOT, node) for node in begins if node in inside)
        if end not in edges:
            return []
        parents = nx.immediate_dominators(edges, ROOT)
        chain = [end]
        while isinstance(above := parents.get(chain[-1]), fx.Node):
            chain.append(above)
        return [node for node in reversed(chain) if node is not start and tensor_of(node) is not None]
