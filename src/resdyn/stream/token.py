"""The stream of one token: what a block does to one position of the state, or from one position to another."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from torch import Tensor

from resdyn.errors import InputError
from resdyn.linalg.operator import LinearOperator
from resdyn.stream.block import Kind, ResidualBlock
from resdyn.stream.jacobian import MEMORY_LIMIT, token_jacobian
from resdyn.stream.lookup import pick
from resdyn.stream.readout import Readout
from resdyn.stream.states import States
from resdyn.stream.table import stream_table

if TYPE_CHECKING:
    from resdyn.stream.stream import ResidualStream

Position = int | tuple[int, int]


class TokenStates(States):
    """The states of one token, each (N, width), of N samples, made by `TokenStream.states`.

    Attributes:
        whole: The states of all tokens.
        output: The token's row where the model has an output for every token, else the model's output.
        logits: Likewise.
    """

    def __init__(self, whole: States, token: int) -> None:
        """Internal: made by `TokenStream.states`.

        Args:
            whole: The states of all tokens, each (N, tokens, width).
            token: Index of the token, from 0.
        """

        def row(value: Tensor) -> Tensor:
            return value[:, token]

        every_token = whole.output.dim() == 3 and whole.output.shape[1] == whole[0].shape[1]
        super().__init__(
            [row(h) for h in whole],
            [row(h) for h in whole.outputs],
            row(whole.output) if every_token else whole.output,
            whole.features,
            whole.inputs,
            whole.batched,
            row(whole.logits) if every_token else whole.logits,
        )
        self.whole = whole
        self._token = token

    def sample(self, n: int) -> TokenStates:
        """The states of one sample alone (N = 1).

        Args:
            n: Index of the sample, from 0.

        Returns:
            The same token's states, each (1, width).
        """
        return TokenStates(self.whole.sample(n), self._token)


@dataclass(frozen=True)
class TokenBlock:
    """A block of the stream of one token: as `ResidualBlock`, with the shapes of one token."""

    whole: ResidualBlock
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]

    @property
    def index(self) -> int:
        """Its place in the stream, from 0."""
        return self.whole.index

    @property
    def path(self) -> str:
        """The module that holds the branch."""
        return self.whole.path

    @property
    def branch_modules(self) -> tuple[str, ...]:
        """The parts of the branch, in order."""
        return self.whole.branch_modules

    @property
    def skip_kind(self) -> str:
        """That of the whole block."""
        return self.whole.skip_kind

    @property
    def gate_kind(self) -> str:
        """That of the whole block."""
        return self.whole.gate_kind

    @property
    def square(self) -> bool:
        """Whether input and output have the same number of elements."""
        return self.whole.square

    @property
    def stage(self) -> int:
        """The stage that the block belongs to."""
        return self.whole.stage

    @property
    def has_transition(self) -> bool:
        """Whether something that is neither block nor gate comes before the next block."""
        return self.whole.has_transition

    @property
    def num_parameters(self) -> int:
        """Parameters of the whole block."""
        return self.whole.num_parameters

    def describe(self) -> dict[str, Any]:
        """What the block is, as plain data."""
        return self.whole.describe() | {"shape_in": list(self.shape_in), "shape_out": list(self.shape_out)}


class TokenStream:
    """The residual stream at one position of states of shape (tokens, width); made by `stream.at(position)`.

    All readings of the Jacobian (`kind`) mean what they mean for the whole; the skip of token p onto token q != p is
    zero. Cost: a product with a token's Jacobian computes what that token needs alone where the operations of the block
    keep tokens apart or are attention, and otherwise is one with that of the whole block.

    Args:
        whole: The stream of all tokens.
        position: p: states are h_i[p], Jacobians d h_{i+1}[p] / d h_i[p], of one token onto itself with all other
            tokens held. (q, p): Jacobians d h_{i+1}[q] / d h_i[p], of token p onto token q; the states are those of q.
            Positions count from the end where negative.

    Raises:
        InputError: For states that are not (tokens, width) with the same number of tokens throughout.
    """

    def __init__(self, whole: ResidualStream, position: Position) -> None:
        """Internal: made by `ResidualStream.at`.

        Args:
            whole: The stream of all tokens.
            position: p or (q, p), as for the class.
        """
        tokens = _tokens(whole)
        self.whole = whole
        self.position = plain_position(position)
        self._to, self._of = _checked(self.position, tokens)
        self.model, self.signature = whole.model, whole.signature
        self.named, self.granularity, self.notes = whole.named, whole.granularity, whole.notes
        self.blocks = [TokenBlock(block, block.shape_in[1:], block.shape_out[1:]) for block in whole]

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[TokenBlock]:
        return iter(self.blocks)

    @overload
    def __getitem__(self, key: int | str) -> TokenBlock: ...
    @overload
    def __getitem__(self, key: slice) -> list[TokenBlock]: ...
    def __getitem__(self, key: int | str | slice) -> TokenBlock | list[TokenBlock]:
        """A block by its index or by its module's path, or a list of blocks by a slice."""
        blocks: TokenBlock | list[TokenBlock] = pick(self.blocks, key)
        return blocks

    def __str__(self) -> str:
        return f"{self.whole}\nat position {self.position}"

    def __repr__(self) -> str:
        return f"TokenStream({type(self.model).__name__}, {len(self)} blocks, position={self.position})"

    def _repr_html_(self) -> str:
        title = f"{type(self.model).__name__} at position {self.position}"
        return stream_table(title, self.describe(), self.num_parameters, self.notes, self.whole.coverage).html(
            max_lines=None
        )

    @property
    def num_parameters(self) -> int:
        """Parameters of the whole model."""
        return self.whole.num_parameters

    @property
    def stage_of_depth(self) -> tuple[int, ...]:
        """As of the whole stream."""
        return self.whole.stage_of_depth

    def describe(self) -> list[dict[str, Any]]:
        """The blocks as plain data, one dict each."""
        return [block.describe() for block in self.blocks]

    def fingerprint(self) -> str:
        """That of the whole stream."""
        return self.whole.fingerprint()

    @property
    def readout(self) -> Readout:
        """That of the whole stream."""
        return self.whole.readout

    def classifier(self) -> tuple[Tensor, Tensor | None] | None:
        """That of the whole stream."""
        return self.whole.classifier()

    def states(self, *args: Any, **kwargs: Any) -> TokenStates:
        """The token's states h_0..h_L, each (N, width), cloned and detached; see `ResidualStream.states`.

        Args:
            *args: Arguments of the model, as `find_stream` was given, for any number of samples.
            **kwargs: Arguments of the model by name.

        Returns:
            The states of the token whose output is read (q of a pair).

        Raises:
            InputError: If an input does not fit the example's shape or dtype.
            ComputationError: If the blocks are no longer the same.
        """
        return TokenStates(self.whole.states(*args, **kwargs), self._to)

    def jacobian(
        self, i: int | str, state: States, kind: Kind = "gated", *, memory_limit: int = MEMORY_LIMIT
    ) -> LinearOperator:
        """The Jacobian of block `i` from one token to one token, (width out, width in), at one sample's States.

        Args:
            i: The block, by its index or by its module's path.
            state: What `states` returned for one sample, or the States of all its tokens.
            kind: See `ResidualStream.jacobian`.
            memory_limit: See `ResidualStream.jacobian`.

        Returns:
            An operator for products with J and J^T.

        Raises:
            InputError: For a single state: a token's Jacobian depends on all tokens.
        """
        jacobian = self.whole.jacobian(i, _whole(state), kind, memory_limit=memory_limit)
        return token_jacobian(self[i].whole, jacobian, self._to, self._of, memory_limit)

    def skip_jacobian(self, i: int | str, state: States, *, memory_limit: int = MEMORY_LIMIT) -> LinearOperator:
        """The linear part of the skip of block `i` from one token to one token; zero between two.

        Args:
            i: As for `jacobian`.
            state: As for `jacobian`.
            memory_limit: As for `jacobian`.

        Returns:
            An operator (width out, width in).

        Raises:
            InputError: For a block without a skip, or a single state.
        """
        skip = self.whole.skip_jacobian(i, _whole(state), memory_limit=memory_limit)
        return token_jacobian(self[i].whole, skip, self._to, self._of, memory_limit)


def _whole(state: States) -> States:
    if isinstance(state, TokenStates):
        return state.whole
    if isinstance(state, States):
        return state
    raise InputError(
        f"the Jacobian of one token depends on all tokens: pass the States that states(...) returned, "
        f"not a {type(state).__name__}"
    )


def _tokens(whole: ResidualStream) -> int:
    """Tokens of every state, or an error that shows the state which has none."""
    tokens = whole[0].shape_in[0]
    for shape in [block.shape_in for block in whole] + [whole[-1].shape_out]:
        if len(shape) != 2 or shape[0] != tokens:
            raise InputError(
                f"a position belongs to states of shape (tokens, width), with the same number of tokens at every "
                f"depth; got one of shape {shape}: leave out position to measure the whole state"
            )
    return tokens


def plain_position(position: Any) -> Position:
    """A position in Python's own whole numbers, so that it can be written down."""
    pair = position if isinstance(position, Sequence) else (position, position)
    try:
        if any(isinstance(p, bool) for p in pair):
            raise TypeError("True is not a position")
        to, of = (operator.index(p) for p in pair)
    except (TypeError, ValueError):
        raise InputError(f"got position={position!r}, expected a whole number or a pair (to, of) of them") from None
    return (to, of) if isinstance(position, Sequence) else to


def _checked(position: Position, tokens: int) -> tuple[int, int]:
    """(token whose output is read, token that is moved), both from the start."""
    to, of = position if isinstance(position, tuple) else (position, position)
    for p in (to, of):
        if not -tokens <= p < tokens:
            raise InputError(f"got position={position!r}, expected -{tokens}..{tokens - 1}: there are {tokens} tokens")
    return to % tokens, of % tokens
