"""The derivative of one value of the network with respect to the states at many depths, from one backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from resdyn._numerics import plain_arithmetic
from resdyn._torch import make_fx, pytree
from resdyn.errors import InputError
from resdyn.stream.batching import batched
from resdyn.stream.block import graph_shape, sample_shape
from resdyn.stream.cut import Cut, Evaluation, is_fixed
from resdyn.stream.graph import silence_logs, tensor_of
from resdyn.stream.inputs import usable
from resdyn.stream.linearize import linear_parts
from resdyn.stream.rounded import RoundedProducts
from resdyn.stream.states import States
from resdyn.stream.stream import ResidualStream

Target = int | str  # a depth, or "logits"
SHARES = (1.0, -0.5, 0.25)  # of the vectors that a trace is checked with
AGREES = 1e-3  # largest deviation of a traced product from a plain one, relative, in single precision


class TailMap:
    """The network from its states at some depths to a later value, as a linear map at each sample.

    What a cotangent at the target is at every depth, its product with d target / d h_l, comes from one backward pass
    through the graph for all depths; the graph itself is evaluated once per sample, however many cotangents follow.
    With `trace` the pass is traced once into its linear operations, with those that only scale merged into one, which
    costs as much as some dozens of passes. With `products` the factors of its matrix products are rounded to that
    dtype; sums, and all that is no matrix product, stay as they are, and so does a pass that cannot be traced.
    """

    def __init__(
        self,
        stream: ResidualStream,
        depths: Sequence[int],
        target: Target = -1,
        trace: bool = True,
        products: torch.dtype | None = None,
    ) -> None:
        nodes = state_nodes(stream)
        last = len(nodes) - 1
        end = last if isinstance(target, str) else target % len(nodes)
        self.depths = tuple(depths)
        if not self.depths or not all(0 <= depth <= end for depth in self.depths):
            raise InputError(f"got depths={list(depths)} and the target h_{end}, expected depths from 0 to {end}")
        self.stream = stream
        self.target = _logits(stream) if isinstance(target, str) else nodes[end]
        self._sources = [nodes[depth] for depth in self.depths]
        self._first = min(self.depths)
        later = [node for node in self._sources if node is not nodes[self._first]]
        self._cut = Cut(stream._graph, [nodes[self._first]], list(dict.fromkeys([*later, self.target])))
        self._trace: LinearPass | None = None
        self._traceable = (trace or products is not None) and self._cut.fixed
        self._products = products

    @property
    def source_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the states, per sample."""
        return [sample_shape(node) for node in self._sources]

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of the target, per sample."""
        return sample_shape(self.target)

    @property
    def largest(self) -> int:
        """Elements of the largest value between the first depth and the target."""
        shapes = [t.shape for node in (*self._cut.sources, *self._cut.nodes) if (t := tensor_of(node)) is not None]
        return max(shape.numel() for shape in shapes if is_fixed(shape))

    def at(self, states: States) -> Pullback:
        """The map at one sample.

        A trace is compared with a plain derivative at a random cotangent at every sample, which costs as much as one
        row; where it differs, the plain one serves.
        """
        if states.num_samples != 1:
            raise InputError(f"a derivative belongs to one sample, got States of {states.num_samples}")
        start = usable(states[self._first]).reshape(graph_shape(self._cut.sources[0])).clone()
        with plain_arithmetic():
            leaves = self._cut.constants(Evaluation(self.stream._graph, states.inputs))
            plain = PlainPass(*self._values(start, *leaves))
            linear = self._traced(start, leaves, plain)
        return Pullback(plain if linear is None else linear, plain.target, self.source_shapes)

    def _values(self, start: Tensor, *leaves: Any) -> tuple[Tensor, list[Tensor]]:
        """Target and sources, with gradients recorded from `start` on."""
        with torch.enable_grad():
            start = start.detach().requires_grad_()
            values = {self._cut.sources[0]: start}
            values |= dict(zip(self._cut.targets, self._cut(start, *leaves), strict=True))
        return values[self.target], [values[node] for node in self._sources]

    def _traced(self, start: Tensor, leaves: tuple[Any, ...], plain: PlainPass) -> Product | None:
        """The traced pass at this sample if it agrees with the plain one, otherwise None."""
        if not self._traceable or not plain.target.requires_grad:
            return None
        generator = torch.Generator().manual_seed(0)
        cotangents = torch.randn(len(SHARES), *plain.target.shape, generator=generator).to(plain.target)
        try:
            if self._trace is None:
                self._trace = LinearPass(self._values, start, cotangents[0], leaves, self._products)
            linear, served = self._trace.at(start, leaves)
            found = linear(cotangents)
        except torch.OutOfMemoryError:
            raise
        except Exception:
            # Tracing only saves time: what it does not support, a plain derivative does.
            self._traceable = False
            return None
        limit = AGREES if self._cut.precision != torch.float64 else AGREES**3
        return served if all(map(partial(_close, limit), map(_mixed, found), plain.one(_mixed(cotangents)))) else None


Product = Callable[[Tensor], list[Tensor]]


class PlainPass:
    """Cotangents -> their products at every source, by autograd of one recorded evaluation."""

    def __init__(self, target: Tensor, sources: list[Tensor]) -> None:
        self.target = target
        self._sources = sources
        self._batches = True

    def __call__(self, cotangents: Tensor) -> list[Tensor]:
        if self._batches:
            try:
                return self._gradients(cotangents, batched=True)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError):
                self._batches = False  # an operation that cannot be batched
        return [torch.stack(column) for column in zip(*map(self.one, cotangents), strict=True)]

    def one(self, cotangent: Tensor) -> list[Tensor]:
        """The products of one cotangent, shaped like the sources."""
        return self._gradients(cotangent, batched=False)

    def _gradients(self, cotangents: Tensor, batched: bool) -> list[Tensor]:
        if not self.target.requires_grad:  # all that leads to it is stopped
            return [source.new_zeros(*cotangents.shape[: int(batched)], *source.shape) for source in self._sources]
        return _gradients(self.target, self._sources, cotangents, retain_graph=True, is_grads_batched=batched)


class LinearPass:
    """The same pass from one trace at an example, for any sample."""

    def __init__(
        self,
        values: Callable[..., tuple[Tensor, list[Tensor]]],
        start: Tensor,
        cotangent: Tensor,
        leaves: tuple[Any, ...],
        products: torch.dtype | None = None,
    ) -> None:
        flat, structure = pytree.tree_flatten(leaves)

        def pulled(h: Tensor, u: Tensor, *constants: Any) -> list[Tensor]:
            return _gradients(*values(h, *pytree.tree_unflatten(list(constants), structure)), u)

        with silence_logs(), plain_arithmetic(), torch.enable_grad():
            traced = make_fx(pulled)(start, cotangent, *flat)
        self._primal, linear = linear_parts(traced)
        self._linear = batched(linear)
        self._rounded = None if products is None else RoundedProducts(linear, products)

    def at(self, start: Tensor, leaves: tuple[Any, ...]) -> tuple[Product, Product]:
        """The pass at a sample, and the one that serves: the same, or with rounded products."""
        with torch.no_grad(), plain_arithmetic():
            constants = self._primal(start, *pytree.tree_leaves(leaves))
            exact = partial(_product, self._linear, constants)
            if self._rounded is None:
                return exact, exact
            return exact, partial(_product, self._rounded.module, self._rounded.constants(constants))


def _product(linear: Callable[..., Any], constants: Sequence[Any], cotangents: Tensor) -> list[Tensor]:
    with torch.no_grad(), plain_arithmetic():
        return list(linear(cotangents, *constants))


class Pullback:
    """Cotangents at the target -> their products with d target / d h_l at every depth, at one sample."""

    def __init__(self, product: Product, target: Tensor, shapes: list[tuple[int, ...]]) -> None:
        self.dtype = target.dtype
        self._product = product
        self._target_shape = target.shape
        self._shapes = shapes

    def __call__(self, cotangents: Tensor) -> list[Tensor]:
        """(B, *target shape per sample) -> for every depth (B, *shape of its state)."""
        with plain_arithmetic(), silence_logs():
            found = self._product(cotangents.reshape(-1, *self._target_shape))
        return [value.reshape(len(cotangents), *shape) for value, shape in zip(found, self._shapes, strict=True)]


def _gradients(target: Tensor, sources: list[Tensor], cotangents: Tensor, **options: Any) -> list[Tensor]:
    found = torch.autograd.grad([target], sources, [cotangents], allow_unused=True, materialize_grads=True, **options)
    return list(found)


def _mixed(values: Tensor) -> Tensor:
    """A sum of vectors, each with a share of its own: one product with it checks those with all of them."""
    mixed: Tensor = torch.tensordot(torch.tensor(SHARES).to(values), values, 1)
    return mixed


def _close(limit: float, found: Tensor, expected: Tensor) -> bool:
    gap = float((found.reshape(expected.shape) - expected).double().norm())
    return gap <= limit * float(expected.double().norm())


def state_nodes(stream: ResidualStream) -> list[fx.Node]:
    """The states h_0..h_L in the graph; each must be one tensor.

    Raises:
        InputError: For a state of several tensors.
    """
    nodes = [block.join.fork for block in stream.blocks] + [stream.blocks[-1].join.out]
    for depth, node in enumerate(nodes):
        if not isinstance(node, fx.Node) or tensor_of(node) is None:
            raise InputError(f"the state at depth {depth} is not one tensor; transport needs one tensor per depth")
    return nodes


def _logits(stream: ResidualStream) -> fx.Node:
    return stream._target if stream.readout.logits is None else stream.readout.logits


def head(
    stream: ResidualStream, depth: int, inputs: Sequence[Any], target: Target = "logits"
) -> Callable[[Tensor], Tensor]:
    """The network from the state h_depth to its logits or a later state, at one sample's flat inputs.

    A function of one state, shaped as per sample, as its result is.
    """
    nodes = state_nodes(stream)
    source, end = nodes[depth], _logits(stream) if isinstance(target, str) else nodes[target]
    if source is end:
        return lambda h: h
    run = Cut(stream._graph, [source], [end]).bind(Evaluation(stream._graph, inputs))

    def later(h: Tensor) -> Tensor:
        with torch.no_grad(), plain_arithmetic():
            return run(h.reshape(graph_shape(source)))[0].reshape(sample_shape(end))

    return later
