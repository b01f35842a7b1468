"""Removing a block from a model: its module, identified by dataflow, is replaced by one that does nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resdyn._torch import pytree
from resdyn.errors import InputError
from resdyn.stream import ResidualBlock, ResidualStream, States
from resdyn.stream.by_name import module_span, stream_flow
from resdyn.stream.cut import Cut, Evaluation
from resdyn.stream.preserve import preserve_state
from resdyn.stream.verify import relative_error, tolerance


class Bypass(nn.Module):
    """Takes the place of a block and returns its state."""

    def forward(self, state: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return state


@dataclass(frozen=True)
class RemovalCandidate:
    """Whether a block can be removed.

    Attributes:
        index: of the block.
        module: path of the module that is exactly this block, or None.
        reason: why there is none; otherwise empty.
    """

    index: int
    module: str | None
    reason: str = ""


def droppable_blocks(stream: ResidualStream, states: States) -> list[RemovalCandidate]:
    """For each block the module whose one input is the block's state and whose one output is the block's.

    Its skip must be the identity, so that the state fits in place of the block's output. Checked by dataflow and by
    value: with the module bypassed, the model must return what its graph returns when the block's output is replaced by
    its input.

    Args:
        stream: of the model.
        states: of one sample.

    Returns:
        One candidate per block, in order.

    Cost:
        One pass of the model per block.
    """
    return [_candidate(stream, block, states) for block in stream]


@contextlib.contextmanager
def without(model: nn.Module, modules: Sequence[str]) -> Iterator[None]:
    """The model with some modules bypassed; restored afterwards."""
    kept = {path: model.get_submodule(path) for path in modules}
    try:
        for path in modules:
            _put(model, path, Bypass())
        yield
    finally:
        for path, module in kept.items():
            _put(model, path, module)


def drop(model: nn.Module, modules: Sequence[str]) -> None:
    """Remove modules permanently; the names of all other parts are kept.

    Args:
        model: changed in place.
        modules: paths of modules whose one input is their state, from ``droppable_blocks``.

    Raises:
        InputError: an unknown path.
    """
    for path in modules:
        try:
            model.get_submodule(path)
        except AttributeError as error:
            raise InputError(f"the model has no module '{path}' to drop") from error
        _put(model, path, Bypass())


def _candidate(stream: ResidualStream, block: ResidualBlock, states: States) -> RemovalCandidate:
    if block.skip_kind != "identity" or block.shape_in != block.shape_out:
        return RemovalCandidate(
            block.index, None, f"its skip is a {block.skip_kind}: without it the shape would not fit"
        )
    module = _module_of(stream, block)
    if module is None:
        return RemovalCandidate(block.index, None, "no module of the model is exactly this block")
    expected = _output_without(stream, block, states)
    try:
        with without(stream.model, [module]), torch.no_grad(), preserve_state(stream.model):
            args, kwargs = pytree.tree_unflatten(list(states.inputs), stream.signature.structure)
            output = stream.model(*args, **kwargs)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        return RemovalCandidate(block.index, None, f"the model does not run without {module}: {error}")
    leaves = [v for v in pytree.tree_leaves(output) if isinstance(v, Tensor) and v.shape == expected.shape]
    if not any(relative_error(value, expected) <= 10 * tolerance(expected.dtype) for value in leaves):
        return RemovalCandidate(block.index, None, f"without {module} the model does not simply bypass the block")
    return RemovalCandidate(block.index, module)


def _module_of(stream: ResidualStream, block: ResidualBlock) -> str | None:
    """The innermost module around the branch that starts at the block's fork and ends at its output."""
    flow = stream_flow(stream._graph)
    parts = block.path.split(".")
    for end in range(len(parts), 0, -1):
        path = ".".join(parts[:end])
        try:
            stream.model.get_submodule(path)  # a shared module called again (path@1) is not a module of its own
            span = module_span(stream._graph, path, flow)
        except (AttributeError, InputError):
            continue
        if span == (block.join.fork, block.join.out):
            return path
    return None


def _output_without(stream: ResidualStream, block: ResidualBlock, states: States) -> Tensor:
    """The output when the block's output is replaced by its input, from the graph."""
    rest = Cut(stream._graph, [block.join.out], [stream._target])
    function = rest.bind(Evaluation(stream._graph, states.inputs))
    with torch.no_grad():
        return function(states[block.index].reshape(block.graph_shape_in))[0]


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent)._modules[name] = module
