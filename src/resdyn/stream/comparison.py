"""Whether the derivatives of a stream's steps agree with autograd in the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from resdyn._numerics import plain_arithmetic
from resdyn._torch import pytree
from resdyn.errors import ComputationError
from resdyn.stream.autograd import Comparison, Expected, Point, Step, Transposed, first_line, without_backward_hooks
from resdyn.stream.block import graph_shape
from resdyn.stream.cut import Cut, Evaluation
from resdyn.stream.graph import LEAF, frozen, tensors_of
from resdyn.stream.inputs import copies
from resdyn.stream.layout import Layout
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
    stream: ResidualStream,
    states: States,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    same: float,
    products: Sequence[Transposed],
) -> tuple[str, ...]:
    """Notes on steps that could not be compared, or run a custom `autograd.Function` with another backward.

    Each step from state to state, and from the last to the output, at the example (whose states are given, and J^T u
    of every block there) and at a random point near it, where there is one: tokens have none. Where only one of them
    deviates a third decides: rounding may put a unit on the other side of its kink. Raises ComputationError for a step
    that deviates otherwise.
    """
    comparison = _Points(stream, min(same, SAME))
    first = comparison.at(args, kwargs, states, products)
    second = comparison.at(*_nudged(args, kwargs, 1), quietly=True) if _has_neighbours(args, kwargs) else first
    suspects = [k for k in comparison.names if comparison.deviates(first, k) or comparison.deviates(second, k)]
    uncertain = [k for k in suspects if k in second and comparison.deviates(first, k) != comparison.deviates(second, k)]
    if uncertain:
        third = comparison.at(*_nudged(args, kwargs, 2), quietly=True)
        suspects = [k for k in suspects if k not in uncertain or k not in third or comparison.deviates(third, k)]
    if suspects and comparison.packed and _ends_agree(stream, args, kwargs, same):
        names = list(dict.fromkeys(comparison.names[k] for k in suspects))
        return (
            f"{', '.join(names)}: the derivative could not be compared with autograd of the model by itself, for other "
            "tensors hold the same values; that of the output with respect to the first state agrees",
        )
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


def _ends_agree(stream: ResidualStream, args: tuple[Any, ...], kwargs: dict[str, Any], same: float) -> bool:
    """Whether the derivative of the output with respect to the first state is that of autograd, at two inputs."""
    ends = _Points(stream, min(same, SAME), ends=True)
    passes = [ends.at(*inputs) for inputs in ((args, kwargs), _nudged(args, kwargs, 1))]
    return all(k in steps and not ends.deviates(steps, k) for steps in passes for k in ends.names)


@dataclass(frozen=True)
class _State:
    """A state in the graph, the values that it consists of, and the points that these are."""

    node: fx.Node
    layout: Layout | None
    points: tuple[int, ...]

    def parts(self, state: Tensor) -> list[Tensor]:
        """The values that it holds."""
        return [state] if self.layout is None else self.layout.split(state.reshape(graph_shape(self.node)))

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """The state that holds these values."""
        return parts[0].reshape(graph_shape(self.node)) if self.layout is None else self.layout.pack(parts)

    def only(self, part: int, value: Tensor) -> Tensor:
        """The state with this value in one place and zeros elsewhere."""
        if self.layout is None:
            return self.whole([value])
        return self.whole([value if i == part else value.new_zeros(s) for i, s in enumerate(self.layout.shapes)])


@dataclass(frozen=True)
class _Place:
    """Where a point lies: which value of which state; the state before it, and whether a value beside it reads it."""

    state: _State
    part: int = 0
    before: _State | None = None
    read: bool = False
    block: int | None = None


class _Points:
    """The states of a stream as points to compare at: each state, or each of the values that it consists of."""

    def __init__(self, stream: ResidualStream, same: float, ends: bool = False) -> None:
        """`ends`: only the first state and the output."""
        self.stream, self.same, self.agrees = stream, same, deviation(stream._trace.precision)
        self.names: dict[int, str] = {}
        self.places: list[_Place] = []
        self.trouble = ""
        self.packed = any(block.join.packed for block in stream.blocks)
        first = stream.blocks[0].join
        layout = first.packed.before if first.packed else None
        state = _State(first.fork, layout, tuple(range(len(layout.shapes) if layout else 1)))
        self.places = [_Place(state, part) for part in state.points]
        for block in () if ends else stream.blocks:
            join, packed = block.join, block.join.packed
            name = f"block {block.index} ({block.path})"
            if packed:
                state = self._add(name, state, join.out, packed.after, packed.origin, packed.read)
            else:
                state = self._add(name, state, join.out, block=block.index)
            if join.following is not None:
                after = stream.blocks[block.index + 1].join.packed
                name, entry = f"the transition after block {block.index}", after.entry if after else None
                state = self._add(name, state, join.following, after.before if after else None, entry)
        self._add("the path from the last state to the output", state, stream._target)

    def _add(
        self,
        name: str,
        before: _State,
        node: fx.Node,
        layout: Layout | None = None,
        origin: Sequence[int | None] | None = None,
        read: Sequence[bool] | None = None,
        block: int | None = None,
    ) -> _State:
        """The state that follows on another, its values new points but for those that are unchanged."""
        if node is before.node or node.meta.get(ASSEMBLED):
            return before
        count = 1 if layout is None else len(layout.shapes)
        origin, read = origin or (None,) * count, read or (False,) * count
        start, points = len(self.places), list[int]()
        for source in origin:
            points.append(start + sum(p >= start for p in points) if source is None else before.points[source])
        state = _State(node, layout, tuple(points))
        for part, point in enumerate(points):
            if point >= start:
                self.names[point] = name
                self.places.append(_Place(state, part, before if self.packed else None, read[part], block))
        return state

    def values(self, states: States) -> list[Tensor]:
        """The values of each point."""
        values = {self.stream._target: states.output[0]}
        for block in self.stream.blocks:
            values |= {block.join.fork: states[block.index][0], block.join.out: states.outputs[block.index][0]}
        return [place.state.parts(values[place.state.node])[place.part] for place in self.places]

    def at(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        states: States | None = None,
        products: Sequence[Transposed] | None = None,
        quietly: bool = False,
    ) -> Steps:
        """The steps that one eager pass at these inputs shows; none where it fails."""
        stream = self.stream
        try:
            states = stream.states(*args, **kwargs) if states is None else states
            points = [
                Point(
                    value.reshape(-1),
                    self._starts(place),
                    None if products is None or place.block is None else products[place.block],
                    place.state.layout is not None,
                    place.read,
                )
                for place, value in zip(self.places, self.values(states), strict=True)
            ]
            expected = self._expected(states)
            watch = _run(stream.model, lambda: Comparison(points, expected, self.same, self.agrees), args, kwargs)
        except (RuntimeError, ValueError, NotImplementedError, torch.OutOfMemoryError) as error:
            self.trouble = self.trouble if quietly else first_line(error)
            return {}
        self.trouble = self.trouble if quietly else watch.trouble
        return {k: point.step for k, point in enumerate(watch.points) if point.step is not None}

    def _starts(self, place: _Place) -> tuple[int, ...] | None:
        """The points to differentiate with respect to; None: the last state that was seen."""
        if not self.packed:
            return None
        return place.before.points if place.before else ()

    def _expected(self, states: States) -> Expected:
        graph = self.stream._graph
        evaluation = Evaluation(graph, states.inputs)

        def products(start: int, k: int, values: Sequence[Tensor], u: Tensor) -> list[Tensor]:
            place = self.places[k]
            before = place.before or self.places[start].state
            function = Cut(graph, [before.node], [place.state.node]).bind(evaluation)
            with torch.no_grad():
                product = plain_product(lambda x: function(x)[0], before.whole(values), "reverse")
                return before.parts(product(place.state.only(place.part, u)))

        return products

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
        rounding = "" if step.stopped else "; a norm that subtracts a large mean may round as much: try model.double()"
        raise ComputationError(
            f"{where} could not be verified: its derivative in the exported graph is not that of autograd in the model "
            f"({reason}); torch.no_grad(), inference_mode, a detach, or a write through .data inside forward is the "
            f"usual reason: take it out, or find the stream of the part of the model that it encloses{rounding}"
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
        given, named = pytree.tree_map_only(Tensor, lambda x: watch.look(_tracked(x)), copies((args, kwargs)))
        with watch:
            returned = model(*given, **named)
        for value in tensors_of(returned):
            watch.look(value)
    return watch


def _tracked(value: Tensor) -> Tensor:
    """An input whose gradient is recorded, so that frozen weights do not hide what is computed in place."""
    return value.requires_grad_().clone() if value.is_floating_point() else value


def _has_neighbours(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether any input is a tensor of real numbers, which has points near it."""
    leaves = pytree.tree_leaves((args, kwargs))
    return any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves)


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
