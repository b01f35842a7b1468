"""Whether the derivatives of a stream's steps agree with autograd in the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from resdyn._numerics import plain_arithmetic
from resdyn._torch import pytree
from resdyn.errors import ComputationError
from resdyn.stream.autograd import Comparison, Step, first_line, without_backward_hooks
from resdyn.stream.block import graph_shape
from resdyn.stream.cut import Cut, Evaluation
from resdyn.stream.graph import LEAF, frozen, tensors_of
from resdyn.stream.inputs import copies
from resdyn.stream.linearize import plain_product
from resdyn.stream.preserve import preserve_state
from resdyn.stream.rewrite import ASSEMBLED

if TYPE_CHECKING:
    from resdyn.stream.states import States
    from resdyn.stream.stream import ResidualStream

Steps = dict[int, Step]
SAME = 1e-2  # largest deviation of a tensor from a state that it holds


def deviation(dtype: torch.dtype) -> float:
    """Relative deviation of a product that rounding can explain: eps^(1/3) (5e-3 in float32, 6e-6 in float64).

    Larger than for a value: a unit that rounding puts on the other side of its kink changes its whole derivative.
    """
    return math.pow(torch.finfo(dtype).eps, 1 / 3)


def compared_with_autograd(
    stream: ResidualStream, args: tuple[Any, ...], kwargs: dict[str, Any], same: float
) -> tuple[str, ...]:
    """Notes on steps that could not be compared, or run a custom `autograd.Function` with another backward.

    Each step from state to state, and from the last to the output, at the example and at a random point near it. Where
    only one of them deviates a third decides: rounding may put a unit on the other side of its kink. Raises
    ComputationError for a step that deviates otherwise.
    """
    comparison = _Points(stream, min(same, SAME))
    first = comparison.at(args, kwargs)
    second = comparison.at(*_nudged(args, kwargs, 1), quietly=True)
    suspects = [k for k in comparison.names if comparison.deviates(first, k) or comparison.deviates(second, k)]
    uncertain = [k for k in suspects if k in second and comparison.deviates(first, k) != comparison.deviates(second, k)]
    if uncertain:
        third = comparison.at(*_nudged(args, kwargs, 2), quietly=True)
        suspects = [k for k in suspects if k not in uncertain or k not in third or comparison.deviates(third, k)]
    seen = {
        k: max((steps[k] for steps in (first, second) if k in steps), key=lambda step: step.error) for k in suspects
    }
    notes = [comparison.note(k, step) for k, step in seen.items()]
    unseen = [name for k, name in comparison.names.items() if not any(s.start < k <= j for j, s in first.items())]
    if unseen:
        which = unseen[0] if len(unseen) == 1 else f"{unseen[0]} and {len(unseen) - 1} more"
        reason = f" ({comparison.trouble})" if comparison.trouble else ""
        notes.append(
            f"{which} could not be compared with autograd of the model{reason}; the derivatives there are those of its "
            "exported graph"
        )
    return tuple(notes)


class _Points:
    """The states of a stream as points to compare at."""

    def __init__(self, stream: ResidualStream, same: float) -> None:
        self.stream, self.same, self.agrees = stream, same, deviation(stream._trace.precision)
        self.nodes = [stream.blocks[0].join.fork]
        self.names: dict[int, str] = {}
        self.trouble = ""
        for block in stream.blocks:
            self._add(block.join.out, f"block {block.index} ({block.path})")
            if block.join.following is not None:
                self._add(block.join.following, f"the transition after block {block.index}")
        self._add(stream._target, "the path from the last state to the output")

    def _add(self, node: Any, name: str) -> None:
        if node is not self.nodes[-1] and not node.meta.get(ASSEMBLED):
            self.names[len(self.nodes)] = name
            self.nodes.append(node)

    def values(self, states: States) -> list[Tensor]:
        """The values of each point."""
        values = {self.stream._target: states.output[0]}
        for block in self.stream.blocks:
            values |= {block.join.fork: states[block.index][0], block.join.out: states.outputs[block.index][0]}
        return [values[node] for node in self.nodes]

    def at(self, args: tuple[Any, ...], kwargs: dict[str, Any], quietly: bool = False) -> Steps:
        """The steps that one eager pass at these inputs shows; none where it fails."""
        stream = self.stream
        try:
            states = stream.states(*args, **kwargs)
            values, expected = self.values(states), self._expected(states)
            watch = _run(stream.model, lambda: Comparison(values, expected, self.same, self.agrees), args, kwargs)
        except (RuntimeError, ValueError, NotImplementedError, torch.OutOfMemoryError) as error:
            self.trouble = self.trouble if quietly else first_line(error)
            return {}
        self.trouble = self.trouble if quietly else watch.trouble
        return {k: point.step for k, point in enumerate(watch.points) if point.step is not None}

    def _expected(self, states: States) -> Callable[[int, int, Tensor, Tensor], Tensor]:
        graph = self.stream._graph
        evaluation = Evaluation(graph, states.inputs)

        def product(k: int, j: int, h: Tensor, u: Tensor) -> Tensor:
            cut = Cut(graph, [self.nodes[k]], [self.nodes[j]])
            function = cut.bind(evaluation)
            at, along = h.reshape(graph_shape(self.nodes[k])), u.reshape(graph_shape(self.nodes[j]))
            with torch.no_grad():
                return plain_product(lambda x: function(x)[0], at, "reverse")(along)

        return product

    def deviates(self, steps: Steps, k: int) -> bool:
        """Whether a step was seen and deviates."""
        return k in steps and steps[k].error > self.agrees

    def note(self, k: int, step: Step) -> str:
        """The note on a step that deviates; an error where nothing explains it."""
        where = self.names[k] if step.start == k - 1 else f"the path from state {step.start} to {self.names[k]}"
        if step.functions:
            return (
                f"{where} runs the autograd.Function {', '.join(step.functions)}, whose backward is not the derivative "
                f"of its forward (by {step.error:.1e}); what is measured is the derivative of the forward"
            )
        reason = "nothing there records a gradient" if step.stopped else f"they differ by {step.error:.1e}"
        raise ComputationError(
            f"{where} could not be verified: its derivative in the exported graph is not that of autograd in the model "
            f"({reason}); torch.no_grad(), inference_mode, a detach, or a write through .data inside forward is the "
            "usual reason: take it out, or find the stream of the part of the model that it encloses"
        )


def _run(
    model: torch.nn.Module, watching: Callable[[], Comparison], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Comparison:
    """One pass with gradients recorded; with frozen weights where the model writes into them."""
    try:
        return _passed(model, watching(), args, kwargs)
    except RuntimeError as error:
        if LEAF not in str(error):
            raise
    with frozen(model):
        return _passed(model, watching(), args, kwargs)


def _passed(model: torch.nn.Module, watch: Comparison, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Comparison:
    with preserve_state(model), without_backward_hooks(model), torch.enable_grad(), plain_arithmetic():
        given, named = pytree.tree_map_only(Tensor, watch.look, copies((args, kwargs)))
        with watch:
            returned = model(*given, **named)
        for value in tensors_of(returned):
            watch.look(value)
    return watch


def _nudged(args: tuple[Any, ...], kwargs: dict[str, Any], seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs near the given ones: floating-point tensors by a tenth of their standard deviation."""
    generator = torch.Generator().manual_seed(seed)

    def nudged(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        noise = torch.randn(value.shape, generator=generator).to(value)
        spread = float(value.double().std()) if value.numel() > 1 else 0.0
        return value + 0.1 * noise * (spread if 0 < spread < math.inf else 1.0)

    result: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_map_only(Tensor, nudged, (args, kwargs))
    return result
