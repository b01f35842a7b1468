"""Blocks of a network without skips: what lies between values that every path to the output passes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import fx

from resdyn.stream.cut import between
from resdyn.stream.flow import Flow
from resdyn.stream.gates import Join
from resdyn.stream.graph import size_of
from resdyn.stream.ops import WEIGHTED, operation
from resdyn.stream.state_cuts import Lane
from resdyn.stream.sums import Candidate, weights_of

PLAIN = (
    "no sum in this model leads back to its state through floating-point values, so each block is a layer without a "
    "skip, F(h) = block(h): from the input of one matrix product or convolution with weights to that of the next"
)


def plain_chain(flow: Flow) -> list[Candidate]:
    """The layers of a network without skips that keep the shape of their input, two at least.

    Every path passes each of their inputs, but for those that lead past them into a concatenation, as in a U-Net. What
    comes before the first product and from the last one on is not a block.
    """
    weighs = _Weighs(flow)
    starts = [a for a, b in pairwise(_backbone(flow, weighs)) if weighs(a, b)]
    layers = [
        Candidate(a, b, "none")
        for a, b in pairwise(starts)
        if size_of(a) == size_of(b) and flow.is_wanted(between(flow.graph, [a], [b]))
    ]
    return layers if len(layers) > 1 else []


def plain_joins(chain: Sequence[Candidate]) -> list[Join]:
    """The blocks of layers without skips, of which every other value is held."""
    ends = [*(block.fork for block in chain[1:]), None]
    return [
        Join(block.fork, None, block.total, block.total, block.total, "none", None if block.total is end else end)
        for block, end in zip(chain, ends, strict=True)
    ]


def plain_lane(chain: Sequence[Candidate]) -> Lane:
    """The values of layers without skips; no gate follows them."""
    return Lane(chain[0].fork, tuple(chain), tuple(block.total for block in chain))


class _Weighs:
    """Whether there is a product with weights between two values."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._weights = weights_of(flow.graph)

    def __call__(self, start: fx.Node, end: fx.Node) -> bool:
        inside = between(self._flow.graph, [start], [end])
        return any(operation(node) in WEIGHTED and self._weights & set(node.all_input_nodes) for node in inside)


def _backbone(flow: Flow, weighs: _Weighs) -> list[fx.Node]:
    """The values in series from the input to the output, those on the one way with weights into a concatenation too."""
    if not flow.nodes:
        return []
    pending = list(dict.fromkeys([*flow.sources[:1], *flow.series(None, flow.target)]))[::-1]
    found: list[fx.Node] = []
    while pending:
        node = pending.pop()
        if found and (inner := _into_concatenation(flow, weighs, found[-1], node)):
            pending += [node, *inner[::-1]]
        else:
            found.append(node)
    return found


def _into_concatenation(flow: Flow, weighs: _Weighs, start: fx.Node, end: fx.Node) -> list[fx.Node]:
    """The values in series on the way to the part of a concatenation that alone is computed with weights."""
    if operation(end) != "cat":
        return []
    parts = list(dict.fromkeys(flow.operands(end)))
    weighing = [part for part in parts if part is not start and flow.precedes(start, part) and weighs(start, part)]
    return flow.series(start, weighing[0]) if len(weighing) == 1 < len(parts) else []
