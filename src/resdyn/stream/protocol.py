"""What every residual stream offers, of whole states or of one token: what probes are written against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from resdyn.linalg.operator import LinearOperator
from resdyn.stream.block import Kind
from resdyn.stream.granularity import Granularity
from resdyn.stream.readout import Readout
from resdyn.stream.states import States

if TYPE_CHECKING:
    from resdyn.stream.stream import ResidualStream
    from resdyn.stream.token import Position


class Block(Protocol):
    """One residual block h_{i+1} = gate(skip(h_i) + branch(h_i)), as far as its kind of state leaves it the same."""

    @property
    def index(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def branch_modules(self) -> tuple[str, ...]: ...
    @property
    def shape_in(self) -> tuple[int, ...]: ...
    @property
    def shape_out(self) -> tuple[int, ...]: ...
    @property
    def skip_kind(self) -> str: ...
    @property
    def gate_kind(self) -> str: ...
    @property
    def square(self) -> bool: ...
    @property
    def stage(self) -> int: ...
    @property
    def has_transition(self) -> bool: ...
    @property
    def num_parameters(self) -> int: ...
    def describe(self) -> dict[str, Any]:
        """As in ``ResidualBlock.describe``."""


class Stream(Protocol):
    """The blocks of a model, its states h_0..h_L and their Jacobians: `ResidualStream` or `TokenStream`."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def blocks(self) -> Sequence[Block]: ...
    @property
    def whole(self) -> ResidualStream: ...
    @property
    def position(self) -> Position | None: ...
    @property
    def named(self) -> tuple[tuple[str, ...], str] | None: ...
    @property
    def granularity(self) -> Granularity: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def readout(self) -> Readout: ...
    @property
    def stage_of_depth(self) -> tuple[int, ...]: ...
    @property
    def num_parameters(self) -> int: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Block]: ...
    def __getitem__(self, index: int, /) -> Block: ...
    def describe(self) -> list[dict[str, Any]]:
        """As in ``ResidualStream.describe``."""

    def fingerprint(self) -> str:
        """As in ``ResidualStream.fingerprint``."""

    def classifier(self) -> tuple[Tensor, Tensor | None] | None:
        """As in ``ResidualStream.classifier``."""

    def states(self, *args: Any, **kwargs: Any) -> States:
        """As in ``ResidualStream.states``."""

    def jacobian(self, i: int, state: States, kind: Kind = "gated") -> LinearOperator:
        """As in ``ResidualStream.jacobian``, without its limit of memory."""

    def skip_jacobian(self, i: int, state: States) -> LinearOperator:
        """As in ``ResidualStream.skip_jacobian``, without its limit of memory."""
