"""A block's Jacobian at a state, as a linear operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from resdyn._numerics import full_precision, plain_arithmetic
from resdyn.linalg.operator import LinearOperator
from resdyn.stream.block import Kind, ResidualBlock
from resdyn.stream.graph import silence_logs
from resdyn.stream.inputs import usable
from resdyn.stream.linearize import BoundFunction, Direction, Product, TracedProduct, plain_product

MEMORY_LIMIT = 1 << 30
SAFETY = 4
# On a CPU, bytes of one state per column: two convolutions of 16 x 32 x 32 take twice as long per column beyond, and
# more than a few columns at once gain nothing.
IN_CACHE = 1 << 20
SMALLEST_CHUNK = 8


@cache
def load_forward_mode() -> None:
    """torch compiles its forward-mode rules at the first dual number, and warns about how it does so."""
    with silence_logs():
        torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))


class JacobianOperator(LinearOperator):
    """The Jacobian ``J = df/dh`` at one state, by forward mode (J X) and reverse mode (J^T Y), never materialised.

    One primal serves all tangents: the derivative is batched over columns, not over copies of the state, so nothing of
    size columns x samples x samples ever exists. Columns are processed in chunks whose intermediate values stay under
    ``memory_limit`` bytes (estimated from the graph as 4 x all intermediate elements x columns).

    Args:
        function: map f of a tensor shaped like ``state``.
        state: the point of linearisation; its dtype and device are the operator's.
        numel_inside: elements of the intermediate values of one evaluation.
        memory_limit: bytes that a chunk of columns may take (default 1 GiB).
        traced: gives a product with one vector, J v ("forward") or J^T u ("reverse"), where a faster way than a plain
            derivative is known (a ``LinearMap``), otherwise None; called when the first such product is wanted.
            Default: always None.
        plain_chunk: columns at once where there is no such product, if fewer (default: as many).

    Attributes:
        shape: (numel of output, numel of state), both flattened in row-major order.
        chunk_size: columns that are processed at once.

    Example:
        >>> J = JacobianOperator(torch.sin, torch.zeros(3), numel_inside=3)
        >>> J @ torch.ones(3)
        tensor([1., 1., 1.])
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        state: Tensor,
        numel_inside: int,
        memory_limit: int = MEMORY_LIMIT,
        traced: Callable[[Direction], Product | None] = lambda _: None,
        plain_chunk: int | None = None,
    ) -> None:
        load_forward_mode()
        self._function = function
        self._state = usable(state)
        with torch.no_grad(), plain_arithmetic():
            self._output_shape = function(self._state).shape
        super().__init__((self._output_shape.numel(), state.numel()), state.dtype, state.device)
        per_column = SAFETY * max(numel_inside, *self.shape) * state.element_size()
        self.chunk_size = max(1, memory_limit // per_column)
        if self.device.type == "cpu":
            fitting = IN_CACHE // (max(self.shape) * self.dtype.itemsize)
            self.chunk_size = min(self.chunk_size, max(SMALLEST_CHUNK, fitting))
        self._traced, self._plain_chunk = traced, plain_chunk
        self._products: dict[Direction, Product] = {}
        self._batches = True

    @full_precision()
    def _matmat(self, X: Tensor) -> Tensor:
        return self._columns(self._product("forward"), usable(X).T.reshape(-1, *self._state.shape), self.shape[0])

    @full_precision()
    def _rmatmat(self, Y: Tensor) -> Tensor:
        return self._columns(self._product("reverse"), usable(Y).T.reshape(-1, *self._output_shape), self.shape[1])

    @full_precision()
    def columns_after_waist(self, most: int) -> Tensor | None:
        """Columns that span the range of the part of J that goes through the hidden layer with the fewest active units.

        With J = S + L D R and D diagonal these are the columns of L where D is not 0. Where everything else is a
        multiple of the identity, as in ``h + W2 relu(W1 h)``, all other eigenvalues of J are that multiple.

        Args:
            most: number of columns at most.

        Returns:
            The columns (m, r). None where no product by elements with zeros is known, or r were larger than ``most``.

        Cost:
            r times a part of a product.
        """
        product = self._product("forward")
        if not isinstance(product, TracedProduct):
            return None
        try:
            return product.columns_after_waist(self._state, most)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError):
            return None  # an operation that cannot be batched; the columns only save time

    def _product(self, direction: Direction) -> Product:
        if direction not in self._products:
            traced = self._traced(direction)
            if traced is None and self._plain_chunk is not None:
                self.chunk_size = min(self.chunk_size, self._plain_chunk)
            self._products[direction] = traced or plain_product(self._function, self._state, direction)
        return self._products[direction]

    def _columns(self, apply: Callable[[Tensor], Tensor], batch: Tensor, size: int) -> Tensor:
        if len(batch) == 1:  # a single column needs no batching, which costs as much as a small product
            return apply(batch[0]).reshape(1, size).detach().T
        parts = [self._chunk(apply, chunk).reshape(-1, size) for chunk in batch.split(self.chunk_size)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).detach().T

    def _chunk(self, apply: Callable[[Tensor], Tensor], chunk: Tensor) -> Tensor:
        """A chunk of columns at once, or one by one once an operation could not be batched."""
        if self._batches:
            try:
                return torch.func.vmap(apply)(chunk)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError):
                self._batches = False
        return torch.stack([apply(column) for column in chunk])


def block_jacobian(
    block: ResidualBlock,
    kind: Kind,
    state: Tensor,
    inputs: Sequence[Any] | None = None,
    memory_limit: int = MEMORY_LIMIT,
    trace: bool = True,
) -> JacobianOperator:
    """The Jacobian of one kind of a block at a state in the graph's own shape."""
    return _operator(block, block.function(kind, state, inputs), state, memory_limit, trace)


def skip_jacobian(
    block: ResidualBlock, state: Tensor, inputs: Sequence[Any] | None = None, memory_limit: int = MEMORY_LIMIT
) -> JacobianOperator:
    """The linear part of a block's skip, at a state in the graph's own shape."""
    return _operator(block, block.skip_function(inputs), state, memory_limit, trace=True)


@dataclass(frozen=True)
class _OneToken:
    """A map of states (1, tokens, width) as one from a token `of` to a token `to`, the others as they are."""

    function: Callable[..., Tensor]
    to: int
    of: int

    @property
    def __name__(self) -> str:
        return f"{self.function.__name__} from {self.of} to {self.to}"

    def __call__(self, x: Tensor, h: Tensor, *constants: Any) -> Tensor:
        whole = torch.cat([h[:, : self.of], x[:, None], h[:, self.of + 1 :]], 1)
        return self.function(whole, *constants)[:, self.to]


def token_jacobian(
    block: ResidualBlock, whole: JacobianOperator, to: int, of: int, memory_limit: int = MEMORY_LIMIT
) -> LinearOperator:
    """The part of a block's Jacobian from token `of` to token `to`, without what only other tokens need."""
    (tokens, width), (_, width_out) = block.shape_in, block.shape_out
    state, function = whole._state, whole._function
    plain = whole._state.shape == (1, tokens, width) and whole._output_shape == (1, tokens, width_out)
    if not plain or not isinstance(function, BoundFunction):
        return whole.restricted(slice(to * width_out, (to + 1) * width_out), slice(of * width, (of + 1) * width))
    alone = BoundFunction(_OneToken(function.function, to, of), (state, *function.constants), windowed=True)
    return _operator(block, alone, state[:, of].clone(), memory_limit, True, whole.chunk_size)


def _operator(
    block: ResidualBlock,
    function: BoundFunction,
    state: Tensor,
    memory_limit: int,
    trace: bool,
    plain_chunk: int | None = None,
) -> JacobianOperator:
    def traced(direction: Direction) -> Product | None:
        linear = block.linear_map(function, state, direction) if trace else None
        return None if linear is None else linear.at(state, function.constants)

    return JacobianOperator(function, state, block.numel_inside, memory_limit, traced, plain_chunk)
