"""Products with d h_end / d h_l for many depths l in one sweep forward through the blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from resdyn._numerics import plain_arithmetic
from resdyn.stream.block import graph_shape, sample_shape
from resdyn.stream.cut import Cut, Evaluation
from resdyn.stream.graph import silence_logs
from resdyn.stream.inputs import usable
from resdyn.stream.linearize import BoundFunction, TracedProduct, linear_map, structure_of
from resdyn.stream.sensitivities import between, has_bypass
from resdyn.stream.states import States
from resdyn.stream.stream import ResidualStream
from resdyn.stream.tail_map import state_nodes

Move = Callable[[Tensor], Tensor]


class ForwardSweep:
    """Changes of the states at some depths -> the changes of h_end that each makes, at one sample.

    What is injected at a depth joins, when the sweep comes by, what earlier depths have become: each block is
    linearised once, not once per depth. Where values computed from a state are read after a later one, the steps do
    not multiply to the derivative, and every depth has products of its own.
    """

    def __init__(self, stream: ResidualStream, depths: Sequence[int], end: int) -> None:
        self.depths, self.end = tuple(depths), end
        self._stream, self._nodes = stream, state_nodes(stream)
        self._steps: dict[int, Cut] = {}
        if not has_bypass(stream):
            pairs = enumerate(zip(self._nodes[:end], self._nodes[1 : end + 1], strict=True))
            self._steps = {depth: Cut(stream._graph, [a], [b]) for depth, (a, b) in pairs}

    def __call__(self, states: States, changes: Sequence[Tensor], block: int) -> list[Tensor]:
        """(B_l, *shape of h_l per sample) for every depth -> (B_l, *shape of h_end), `block` vectors at a time."""
        if not self._steps:
            return [self._alone(states, depth, change) for depth, change in zip(self.depths, changes, strict=True)]
        joined: Tensor | None = None
        given = dict(zip(self.depths, changes, strict=True))
        with torch.no_grad(), plain_arithmetic(), silence_logs():
            evaluation = Evaluation(self._stream._graph, states.inputs)
            for depth in range(min(self.depths), self.end + 1):
                if depth in given:
                    here = given[depth].reshape(-1, *graph_shape(self._nodes[depth]))
                    joined = here if joined is None else torch.cat([joined, here])
                if depth < self.end and joined is not None:
                    move = self._move(depth, states, evaluation)
                    joined = torch.cat([move(some) for some in joined.split(block)])
        assert joined is not None
        order = sorted(given)
        parts = joined.reshape(-1, *sample_shape(self._nodes[self.end])).split([len(given[depth]) for depth in order])
        by_depth = dict(zip(order, parts, strict=True))
        return [by_depth[depth] for depth in self.depths]

    def _move(self, depth: int, states: States, evaluation: Evaluation) -> Move:
        """The derivative of one step at the sample, for many changes at once."""
        cut = self._steps[depth]
        state = usable(states[depth]).reshape(graph_shape(cut.sources[0]))
        function = BoundFunction(_first_of(cut), cut.constants(evaluation))
        structure = structure_of([cut])
        key = None if structure is None else ("step", structure)
        traced = linear_map(function, state, "forward", key) if cut.fixed else None
        product = None if traced is None else traced.at(state, function.constants)
        if product is None or not _agrees(product, state):
            jacobian = between(self._stream, depth, depth + 1, states)
            shape = graph_shape(self._nodes[depth + 1])
            return lambda x: jacobian.matmat(x.flatten(1).T).T.reshape(-1, *shape)
        return product.many

    def _alone(self, states: States, depth: int, change: Tensor) -> Tensor:
        shape = sample_shape(self._nodes[self.end])
        if depth == self.end:
            return change.reshape(-1, *shape)
        jacobian = between(self._stream, depth, self.end, states)
        return jacobian.matmat(change.flatten(1).T).T.reshape(-1, *shape)


def _first_of(cut: Cut) -> Callable[..., Tensor]:
    return lambda h, *leaves: cut(h, *leaves)[0]


def _agrees(product: TracedProduct, state: Tensor) -> bool:
    """Whether products with many vectors are those with each."""
    vectors = torch.randn(2, *state.shape, generator=torch.Generator().manual_seed(0), dtype=state.dtype)
    vectors = vectors.to(state.device)
    try:
        found, expected = product.many(vectors), torch.stack([product(v) for v in vectors])
    except torch.OutOfMemoryError:
        raise
    except Exception:
        return False  # rules for many vectors only save time
    scale = float(expected.abs().max())
    return scale < float("inf") and torch.allclose(found, expected, rtol=1e-4, atol=1e-6 * scale)
