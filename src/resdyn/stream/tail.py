"""The rest of a network after a state, and its derivative there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from resdyn.errors import InputError
from resdyn.stream.block import graph_shape, numel
from resdyn.stream.cut import Cut, Evaluation
from resdyn.stream.jacobian import MEMORY_LIMIT, JacobianOperator
from resdyn.stream.lookup import block_index
from resdyn.stream.states import States
from resdyn.stream.stream import ResidualStream


def tail_jacobian(
    stream: ResidualStream, i: int | str, states: States, *, memory_limit: int = MEMORY_LIMIT
) -> tuple[JacobianOperator, tuple[int, ...]]:
    """The derivatives at state h_i of what blocks i .. L-1 return and of the model's output, stacked.

    Args:
        stream: of L blocks.
        i: depth of the state.
        states: of one sample (``states.sample(n)``).
        memory_limit: bytes (default 1 GiB) that the intermediate values of one chunk of products may take.

    Returns:
        The operator of shape (sum of sizes, numel of h_i) and the sizes, those of the output of each block from ``i``
        on, in order, and of the model's output.

    Raises:
        InputError: states of more than one sample.

    Cost:
        One pass through the rest of the network per product J_{i,j} v, for all j together.
    """
    if states.num_samples != 1:
        raise InputError(f"a Jacobian belongs to one sample, got States of {states.num_samples}; pass states.sample(n)")
    i = block_index(stream.blocks, i)
    stream._renew_at(states)
    source = stream.blocks[i].join.fork
    targets = [block.join.out for block in stream.blocks[i:]] + [stream._target]
    cut = Cut(stream._graph, [source], list(dict.fromkeys(targets)))
    run = cut.bind(Evaluation(stream._graph, states.inputs))
    order = [cut.targets.index(target) for target in targets]

    def stacked(h: Tensor) -> Tensor:
        values = run(h)
        return torch.cat([values[k].reshape(-1) for k in order])

    state = states[i].reshape(graph_shape(source))
    operator = JacobianOperator(stacked, state, cut.numel, memory_limit)
    return operator, tuple(numel(graph_shape(target)) for target in targets)


def rows_of(sizes: Sequence[int]) -> list[slice]:
    """The rows that each part has in ``tail_jacobian``."""
    ends = torch.tensor(list(sizes)).cumsum(0).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
