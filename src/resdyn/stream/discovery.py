"""Finding the residual stream of a graph: sums that lead back to their state, the chain they form, gates after them.

Names and classes play no part here. A state need not be all that the rest of the network depends on: what else it
reads of what came before (an embedding that enters every block, values of the first layer, a mask) is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import fx

from resdyn.errors import ComputationError
from resdyn.stream.chain import longest_chain
from resdyn.stream.closing import closed
from resdyn.stream.cut import is_fixed, reach
from resdyn.stream.failures import VALUES
from resdyn.stream.flow import Flow, looked_up, stream_sources
from resdyn.stream.gates import Join, Sum, attach_gates
from resdyn.stream.graph import DataGraph, tensor_of
from resdyn.stream.held import check_held
from resdyn.stream.lanes import steps_but, steps_on_lanes
from resdyn.stream.packing import joins_on_lanes
from resdyn.stream.plain import plain_chain, plain_joins, plain_lane
from resdyn.stream.sums import Candidate, candidates, is_activation, without_views
from resdyn.stream.views import in_one_shape


def find_joins(
    graph: DataGraph, hold: Sequence[str] | None = None, within: str | None = None
) -> tuple[list[Join], fx.Node | None]:
    """The blocks of a graph in order, and the output that they lead to; layers, where no block is residual.

    Of all pairs (input, output) of the model the one with the most blocks is taken: a mask is not an input of the
    stream. Where several outputs have the same number, it is the one computed from the others (logits rather than
    hidden states), else the first. A single number, such as a loss, is an output of the batch and not of a sample.
    Where the state is several values (`lanes`), the graph is rewritten to hold them in one tensor; `hold` names values
    that are no part of it. `within`: the path of the module that all blocks are in.
    """
    targets = _targets(graph)
    flows = [_flow(graph, source, target, within) for source in graph.inputs for target in targets]
    best: tuple[list[Candidate], Flow | None] = ([], None)
    for flow in flows:
        chain = chain_of(flow)
        even = len(chain) == len(best[0]) > 0 and best[1] is not None and _follows(flow.target, best[1].target)
        if len(chain) > len(best[0]) or even:
            best = (chain, flow)
    chain, found = best
    if found is not None:
        steps = steps_on_lanes(found, chain, hold)
        return joins_on_lanes(graph, steps, found.target) if steps else (joins_of(found, chain), found.target)
    return _layers(graph, flows, hold)


def _layers(graph: DataGraph, flows: Sequence[Flow], hold: Sequence[str] | None) -> tuple[list[Join], fx.Node | None]:
    """The layers of a graph without residual blocks, and the output that they lead to."""
    chains = [plain_chain(flow) for flow in flows]
    if not any(chains):
        check_held(hold, [])
        return [], None
    chain, flow = max(zip(chains, flows, strict=True), key=lambda pair: len(pair[0]))
    steps = [] if hold is None else steps_but(flow, [plain_lane(chain)], hold)
    return joins_on_lanes(graph, steps, flow.target) if steps else (plain_joins(chain), flow.target)


def _flow(graph: DataGraph, source: fx.Node, target: fx.Node, within: str | None) -> Flow:
    """What is computed of an input on the way to an output; where only codes of it get there, what follows them."""
    flow = Flow(graph, stream_sources(source), target, within)
    return flow if flow.nodes or tensor_of(source) is None else Flow(graph, looked_up(source), target, within)


def _targets(graph: DataGraph) -> Sequence[fx.Node]:
    """The outputs of samples; those of a batch alone only where there are no others."""
    targets = [node for node in graph.outputs if (value := tensor_of(node)) is not None and value.dim() > 0]
    return targets or graph.outputs


def _follows(later: fx.Node, earlier: fx.Node) -> bool:
    return later is not earlier and later in reach([earlier], lambda node: node.users)


def joins_between(graph: DataGraph, sources: list[fx.Node], target: fx.Node) -> list[Join]:
    """The residual blocks on the way from `sources` to `target`."""
    flow = Flow(graph, sources, target)
    return joins_of(flow, chain_of(flow))


def chain_of(flow: Flow) -> list[Candidate]:
    """The residual blocks of a flow: those with weights; where there are none, those that follow without a gap.

    Concatenations with the state are blocks only where they are all there is, as in a dense network, and not the last
    step of another: two of them at least.
    An activation such as x - tanh(x) is a sum as well, and no block: between two of them there are weights. With
    weights of its own, as x + sin(a x)^2 / a, it is one only where no other sum mixes elements of the state.
    """
    found = candidates(flow)
    sums = [block for block in found if block.kind != "concat"]
    mixing = [block for block in sums if not is_activation(flow, block)]
    if chain := longest_chain(flow, mixing) or longest_chain(flow, sums):
        return chain
    if len(chain := longest_chain(flow, found)) > 1:
        return chain
    chain = longest_chain(flow, candidates(flow, weighted=False))
    closed_up = all(without_views(a.total) is without_views(b.fork) for a, b in pairwise(chain))
    return chain if len(chain) > 1 and closed_up else []


def joins_of(flow: Flow, chain: list[Candidate]) -> list[Join]:
    """The blocks of a chain with their gates."""
    if not chain:
        return []
    shapes = [value.shape for block in chain for n in (block.fork, block.total) if (value := tensor_of(n)) is not None]
    if not all(map(is_fixed, shapes)):
        raise ComputationError(
            f"{type(flow.graph.model).__name__} has states whose size is counted as it runs: {VALUES}"
        )
    sums = [closed(flow.graph, block) for block in chain]
    return in_one_shape(flow.graph, attach_gates(flow.graph, sums, backbone(flow, sums)))


def backbone(flow: Flow, sums: list[Sum]) -> list[fx.Node]:
    """The tensors in series before the first block, between the blocks and after the last, with forks and sums."""
    first, last = sums[0], sums[-1]
    nodes = [*flow.sources[:1], *flow.series(None, first.fork), first.fork, first.total]
    for before, after in pairwise(sums):
        nodes += [*flow.series(before.total, after.fork), after.fork, after.total]
    return list(dict.fromkeys([*nodes, *flow.series(last.total, flow.target), flow.target]))
