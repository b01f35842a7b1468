"""The chain of residual blocks: of all candidates those that follow one another, as many as there are."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from resdyn.stream.coverage import operations
from resdyn.stream.cut import between, reach
from resdyn.stream.flow import Flow
from resdyn.stream.sums import FIRM, Candidate

# Firm blocks, others, operations inside them: chains are compared in this order.
Length = tuple[int, int, int]


@dataclass(frozen=True)
class _Chain:
    """The longest chain that ends in a candidate."""

    length: Length
    last: Candidate
    before: _Chain | None = None

    def blocks(self) -> list[Candidate]:
        found, chain = [], self
        while chain is not None:
            found.append(chain.last)
            chain = chain.before  # type: ignore[assignment]
        return found[::-1]


def longest_chain(flow: Flow, found: Sequence[Candidate]) -> list[Candidate]:
    """The chain of most blocks, each computed from the one before.

    A block that encloses a longer chain in its branch gives way to it: the value that it skips is then held while the
    inner blocks are measured. Of chains of equal length the one is taken whose blocks hold more of the network.
    Blocks of a small part of another one's branch, as in the attention beside a convolution, are no finer reading of
    it: inside a block several count if their number times the share of its operations that they hold is at least one.
    """
    inputs = _Inputs(flow, found)
    aside = {block for outer in found for block in _aside(flow, outer, found, inputs)}
    return _longest(flow, [block for block in found if block not in aside], inputs)


def _aside(flow: Flow, outer: Candidate, found: Sequence[Candidate], inputs: _Inputs) -> Sequence[Candidate]:
    """The blocks inside another one, where they hold too little of it to replace it."""
    first, last = flow.place[outer.fork], flow.place[outer.total]
    near = [block for block in found if first <= flow.place[block.fork] and flow.place[block.total] < last]
    inner = [b for b in near if flow.precedes(outer.fork, b.fork) and flow.precedes(b.total, outer.total)]
    if len(inner) < 2 or len(chain := _longest(flow, inner, inputs)) < 2:
        return []
    held = {node for block in chain for node in between(flow.graph, [block.fork], [block.total])}
    work, whole = (sum(map(operations, nodes)) for nodes in (held, between(flow.graph, [outer.fork], [outer.total])))
    return inner if len(chain) * work < whole else []


def _longest(flow: Flow, found: Sequence[Candidate], inputs: _Inputs) -> list[Candidate]:
    ends: list[_Chain] = []  # the longest first
    for block in sorted(found, key=lambda candidate: flow.place[candidate.total]):
        own = (int(block.kind in FIRM), int(block.kind not in FIRM), _size(flow, block))
        best = next(
            (
                chain
                for chain in ends
                if flow.precedes(chain.last.total, block.fork) and inputs.may_follow(chain.last.total, block.fork)
            ),
            None,
        )
        insort(ends, _Chain(own if best is None else _sum(best.length, own), block, best), key=_shortness)
    return ends[0].blocks() if ends else []


def _shortness(chain: _Chain) -> Length:
    return -chain.length[0], -chain.length[1], -chain.length[2]


def _sum(a: Length, b: Length) -> Length:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _size(flow: Flow, block: Candidate) -> int:
    return len(between(flow.graph, [block.fork], [block.total]))


class _Inputs:
    """Which of the model's inputs a value depends on, to tell an encoder from the decoder that reads it."""

    def __init__(self, flow: Flow, found: Sequence[Candidate]) -> None:
        self._flow = flow
        self._totals = {block.total for block in found}
        self._reached = [reach([node], lambda n: n.users) for node in flow.graph.inputs]

    def may_follow(self, total: fx.Node, fork: fx.Node) -> bool:
        """Whether a state continues the stream of another.

        A decoder's state depends on an input of its own, and the encoder's is read again after it, or blocks of the
        decoder lie between the two: two streams.
        """
        if total is fork or all(total in reached for reached in self._reached if fork in reached):
            return True
        way = [total, *(node for node in between(self._flow.graph, [total], [fork]) if node is not fork)]
        alone = all(self._flow.precedes(user, fork) for node in way for user in node.users if user in self._flow)
        return alone and self._totals.isdisjoint(way[1:])
