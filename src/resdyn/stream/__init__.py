"""The residual stream of a model: finding it by dataflow, its blocks as functions, their Jacobians."""

from resdyn.stream.block import KINDS, Kind, ResidualBlock
from resdyn.stream.by_name import stream_from_blocks
from resdyn.stream.find import find_stream
from resdyn.stream.granularity import Granularity
from resdyn.stream.jacobian import JacobianOperator
from resdyn.stream.preserve import preserve_state
from resdyn.stream.protocol import Block, Stream
from resdyn.stream.sensitivities import LogDeterminants, log_determinants, sensitivity
from resdyn.stream.states import States
from resdyn.stream.stream import ResidualStream
from resdyn.stream.token import Position, TokenStates, TokenStream

__all__ = [
    "KINDS",
    "Block",
    "Granularity",
    "JacobianOperator",
    "Kind",
    "LogDeterminants",
    "Position",
    "ResidualBlock",
    "ResidualStream",
    "States",
    "Stream",
    "TokenStates",
    "TokenStream",
    "find_stream",
    "log_determinants",
    "preserve_state",
    "sensitivity",
    "stream_from_blocks",
]
