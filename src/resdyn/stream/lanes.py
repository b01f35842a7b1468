"""States of several values: lanes of values that are updated in turn, and the cuts of the graph between the updates.

In a reversible network (a + f(b), then b + g(a)), in one with momentum, and where two streams read each other, no
single tensor is the state. Each value that is updated again and again is a lane; a cut is a set of values, one of each
lane, through which everything passes that the rest of the network depends on. Between two cuts there is a step: a block
on all lanes at once, most of which it may leave as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import fx

from resdyn.errors import InputError
from resdyn.stream.chain import longest_chain
from resdyn.stream.cut import is_fixed
from resdyn.stream.flow import Flow
from resdyn.stream.gates import Join, Sum, attach_gates
from resdyn.stream.graph import tensor_of
from resdyn.stream.held import check_held, held_among, value_name
from resdyn.stream.ops import is_neutral, operation
from resdyn.stream.state_cuts import Lane, StateCuts, Step, leaves_of
from resdyn.stream.sums import Candidate, candidates, same_shape, sum_terms, without_views

MAX_LANES = 4
# A chain on several lanes may have one block less than that on one: an initial value of zero is no value to begin with.
FEWER = 1


def steps_on_lanes(flow: Flow, chain: Sequence[Candidate], hold: Sequence[str] | None) -> list[Step]:
    """The blocks of a stream whose state is several values; none where one value is the state, and others are held.

    Args:
        flow: The nodes between input and output.
        chain: The longest chain of blocks on one value.
        hold: Names of the values to hold; of all others that blocks read, each is part of the state. None: a value is
            part of the state where it is updated in turn with the others and is more than a factor or an argument of
            their updates.
    """
    if any(block.kind == "concat" for block in chain):
        check_held(hold, [])
        return []
    lanes = _lanes(flow, chain)
    steered = all(_only_steers(flow, lane, lanes[0]) for lane in lanes[1:])
    outside = [lane.first for lane in lanes if lane.first not in flow]
    flow = Flow(flow.graph, [*flow.sources, *outside], flow.target, flow.within) if outside else flow
    steps = _coupled(flow, lanes)
    if hold is None:
        return [] if steered else steps
    return steps_but(flow, lanes if steps else [_lane(flow, chain)], hold)


def _lanes(flow: Flow, chain: Sequence[Candidate]) -> list[Lane]:
    """The chain, and those chains beside it that it cannot be cut without."""
    lanes = [_lane(flow, chain)]
    while (leaks := StateCuts(flow, lanes, None).leaks()) and len(lanes) < MAX_LANES:
        found = _next_lane(flow, lanes, leaks)
        if found is None:
            break
        lanes.append(found)
    return [_from_the_start(flow, lane, lanes) for lane in lanes]


def _coupled(flow: Flow, lanes: Sequence[Lane]) -> list[Step]:
    """The blocks of lanes that are updated in turn; none where one of them alone can be cut, or others pass by all."""
    if len(lanes) == 1 or any(len(lane.blocks) < 2 for lane in lanes):
        return []
    steps = StateCuts(flow, lanes, None).steps()
    coupled = all(len(step.forks) > 1 for i, step in enumerate(steps[:-1]) if i and _is_begun(steps, i))
    return steps if len(steps) >= max(2, len(lanes[0].blocks) - FEWER) and coupled else []


def steps_but(flow: Flow, lanes: Sequence[Lane], hold: Sequence[str]) -> list[Step]:
    """The blocks whose state is everything that is not to be held; none where that is a single value as it is."""
    read = [held_among(flow.graph, leaves_of(flow, block)) for block in lanes[0].blocks]
    passed = held_among(flow.graph, StateCuts(flow, lanes, None).leaks())  # that transitions read among them
    check_held(hold, [[lane.name for lane in lanes], *([*map(value_name, nodes)] for nodes in (*read, passed))])
    kept = [lane for lane in lanes if lane.name not in hold]
    if not kept:
        raise InputError(f"got hold={list(hold)!r}, which holds every value that could be the state; leave one out")
    held = {value for lane in lanes if lane not in kept for value in lane.values}
    cuts = StateCuts(flow, kept, hold, held)
    alone = len(kept) == 1 and kept[0] is lanes[0] and not cuts.kept and not cuts.leaks()
    return [] if alone else cuts.steps()


def _only_steers(flow: Flow, lane: Lane, main: Lane) -> bool:
    """Whether a lane is made from the main one and never added to it, as the state of a router that sets a gate.

    Momentum is made from the state too, and added to it; one half of a reversible state is not made from the other.
    """
    if lane.first in flow:
        made = main.first in flow and flow.precedes(main.first, lane.first)
    else:
        made = lane.first not in flow.graph.parameters  # zeros, for instance
    terms = [node for block in main.blocks for node, _ in block.terms]
    return made and not any(_scaled(flow, node, lane.first) in lane.values for node in terms)


def _is_begun(steps: Sequence[Step], index: int) -> bool:
    """Whether a second lane has been updated before this step, and will be again."""
    others = [i for i, step in enumerate(steps) if any(lane != 0 for lane in step.updates)]
    return bool(others) and others[0] < index <= others[-1]


def _lane(flow: Flow, chain: Sequence[Candidate]) -> Lane:
    """A chain of blocks with what each returns, gates included."""
    sums = [Sum(block.fork, *_terms(block), block.total, block.kind) for block in chain]
    ends = [flow.sources[:1], [sums[0].fork, sums[0].total]]
    for before, after in pairwise(sums):
        ends += [flow.series(before.total, after.fork), [after.fork, after.total]]
    ends += [flow.series(sums[-1].total, flow.target), [flow.target]]
    backbone = list(dict.fromkeys(node for nodes in ends for node in nodes))
    joins: list[Join] = attach_gates(flow.graph, sums, backbone)
    return Lane(chain[0].fork, tuple(chain), tuple(join.out for join in joins))


def _terms(block: Candidate) -> tuple[fx.Node, fx.Node]:
    """Skip and branch, as far as gates are recognised by them."""
    if not block.terms:
        return block.fork, block.total
    return block.terms[block.skip][0], next(node for i, (node, _) in enumerate(block.terms) if i != block.skip)


def _next_lane(flow: Flow, lanes: Sequence[Lane], leaks: set[fx.Node]) -> Lane | None:
    """The longest other chain of blocks that follow one another closely and have a value among the leaks."""
    taken = {block.total for lane in lanes for block in lane.blocks}
    found = {block.total: block for block in candidates(flow, nested=False)} | {b.total: b for b in candidates(flow)}
    free = [block for total, block in found.items() if total not in taken and block.kind != "concat"]
    chain = longest_chain(flow, free)
    while chain and _begins_before(flow, chain[0], lanes[0]):
        chain = chain[1:]
    if not chain or any(block.kind == "projection" for block in chain):
        return None
    lane = _lane(flow, chain)
    closely = all(without_views(out) is without_views(after.fork) for out, after in zip(lane.outs, chain[1:]))
    apart = not any(lane.values & other.values for other in lanes)
    leaks_there = bool(lane.values & {without_views(node) for node in leaks})
    return lane if closely and apart and leaks_there and _fits(lane.first, lanes[0].first) else None


def _fits(value: fx.Node, beside: fx.Node) -> bool:
    """Whether two values can lie in one tensor: of fixed sizes and one dtype, unlike a router in float32."""
    a, b = tensor_of(value), tensor_of(beside)
    return a is not None and b is not None and a.dtype == b.dtype and is_fixed(a.shape) and is_fixed(b.shape)


def _begins_before(flow: Flow, block: Candidate, lane: Lane) -> bool:
    """Whether the first value of another lane is computed from what a block skips."""
    return block.fork is not lane.first and flow.precedes(block.fork, lane.first)


def _from_the_start(flow: Flow, lane: Lane, lanes: Sequence[Lane]) -> Lane:
    """The lane with its first update, whose branch is computed from another lane alone: a_1 = a_0 + f(b_0)."""
    total = without_views(lane.first)
    if operation(total) not in {"add", "sub"} or not lane.blocks:
        return lane
    others = [other.first for other in lanes if other is not lane]
    terms = sum_terms(flow, total)

    def follows(node: fx.Node) -> bool:
        return node in flow and any(other in flow and flow.precedes(other, node) for other in others)

    skips = [i for i, (node, _) in enumerate(terms) if not follows(node) and _scaled(flow, node, total) is not None]
    if len(skips) != 1 or not any(follows(node) for node, _ in terms):
        return lane
    (skip,) = skips
    node, factor = terms[skip]
    root = _scaled(flow, node, total)
    assert root is not None
    kind = "identity" if root is without_views(node) and factor == 1 else "scaled"
    update = Candidate(root, total, kind, terms, skip)
    return Lane(root, (update, *lane.blocks), (lane.first, *lane.outs))


def _scaled(flow: Flow, node: fx.Node, like: fx.Node) -> fx.Node | None:
    """The tensor that a term is a fixed multiple of, if it has the shape of the sum and is no weight."""
    while is_neutral(node) or operation(node) in {"mul", "div", "neg"}:
        tensors = [n for n in node.all_input_nodes if tensor_of(n) is not None and same_shape(n, like)]
        if len(tensors) != 1 or (operation(node) == "div" and node.args[0] is not tensors[0]):
            break
        (node,) = tensors
    node = without_views(node)
    return node if same_shape(node, like) and node not in flow.graph.parameters else None
