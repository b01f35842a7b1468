"""Blocks of a network without skips: what lies between values that every path to the output passes."""

from __future__ import annotations

from itertools import pairwise

from torch import fx

from resdyn.stream.cut import between
from resdyn.stream.flow import Flow
from resdyn.stream.gates import Join
from resdyn.stream.graph import size_of
from resdyn.stream.ops import WEIGHTED, operation
from resdyn.stream.sums import weights_of

PLAIN = (
    "no sum in this model leads back to its state, so each block is a layer without a skip, F(h) = block(h): from the "
    "input of one matrix product or convolution with weights to that of the next"
)


def plain_joins(flow: Flow) -> list[Join]:
    """The layers of a network without skips that keep the shape of their input, two at least.

    Every path passes each of their inputs. What comes before the first product and from the last one on is not a block.
    """
    weights = weights_of(flow.graph)

    def weighs(start: fx.Node, end: fx.Node) -> bool:
        inside = between(flow.graph, [start], [end])
        return any(operation(node) in WEIGHTED and weights & set(node.all_input_nodes) for node in inside)

    backbone = list(dict.fromkeys([*flow.sources[:1], *flow.series(None, flow.target)])) if flow.nodes else []
    starts = [a for a, b in pairwise(backbone) if weighs(a, b)]
    layers = [
        (a, b)
        for a, b in pairwise(starts)
        if size_of(a) == size_of(b) and flow.is_wanted(between(flow.graph, [a], [b]))
    ]
    if len(layers) < 2:
        return []
    ends = [*(fork for fork, _ in layers[1:]), None]
    return [
        Join(fork, None, out, out, out, "none", None if out is end else end)
        for (fork, out), end in zip(layers, ends, strict=True)
    ]
