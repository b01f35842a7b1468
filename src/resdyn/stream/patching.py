"""A network that resumes from one of its states, and one whose branches are changed on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from resdyn import _checks as checks
from resdyn._numerics import plain_arithmetic
from resdyn._statistics import standard_error
from resdyn.errors import InputError
from resdyn.stream.block import ResidualBlock, graph_shape, sample_shape
from resdyn.stream.cut import Cut, Evaluation
from resdyn.stream.lookup import block_index
from resdyn.stream.states import States

if TYPE_CHECKING:
    from resdyn.stream.stream import ResidualStream

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Patched:
    """What a network returns with changed branches, beside what it returns without.

    Attributes:
        output: (N, ...), with the changes.
        original: (N, ...), without.
        change: (N,) float64, |output - original| / |original| of each sample.
    """

    output: Tensor
    original: Tensor
    change: Tensor

    @property
    def mean(self) -> float:
        """The mean of `change` over samples."""
        return float(self.change.mean())

    @property
    def error(self) -> float | None:
        """The standard error of `mean` over samples; None for one sample."""
        return float(standard_error(self.change.numpy())) if len(self.change) > 1 else None

    def __repr__(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.2g}"
        return f"Patched(change={self.mean:.4g}{error}, samples={len(self.change)})"


@plain_arithmetic()
def run_from(stream: ResidualStream, i: int, h: Tensor, states: States) -> Tensor:
    """The output of the network that resumes from states h at depth i, at the inputs of `states`."""
    i = checks.whole("i", i, 0)
    if i > len(stream):
        raise InputError(f"got depth {i}, expected 0 to {len(stream)}, the last state")
    source = _node(stream, i)
    _check_values(f"states at depth {i}", h, states[i])
    return _through(stream, source, stream._target, h, states).reshape(states.output.shape)


@plain_arithmetic()
def patched(stream: ResidualStream, changes: Mapping[int | str, Change], states: States) -> Patched:
    """The output with the branch F_i of every named block replaced by f(F_i), and without."""
    named = {block_index(stream.blocks, key): change for key, change in changes.items()}
    if not named or len(named) < len(changes):
        raise InputError(f"got changes of blocks {list(changes)}, expected at least one, each block once")
    if wrong := [i for i, change in named.items() if not callable(change)]:
        raise InputError(f"got {type(named[wrong[0]]).__name__} for block {wrong[0]}, expected a function of F_i")
    depth = min(named)
    h, done = states[depth], set()  # type: Tensor, set[fx.Node]
    for i in sorted(named):
        h = _through(stream, _node(stream, depth), _node(stream, i), h, states, done)
        out = _changed(stream.blocks[i], h, named[i], states)
        done.add(stream.blocks[i].join.branch)
        h = _through(stream, stream.blocks[i].join.out, _node(stream, i + 1), out, states, done)
        depth = i + 1
    output = _through(stream, _node(stream, depth), stream._target, h, states, done).reshape(states.output.shape)
    new, old = (value.detach().flatten(1).double().cpu() for value in (output, states.output))
    return Patched(output, states.output, (new - old).norm(dim=1) / old.norm(dim=1))


def _changed(block: ResidualBlock, h: Tensor, change: Change, states: States) -> Tensor:
    """gate(skip(h) + f(F(h))) of all samples."""
    single = [states.sample(n).inputs for n in range(len(h))]
    branch = torch.stack([block.branch(row, inputs) for row, inputs in zip(h, single, strict=True)])
    new = change(branch.clone())
    _check_values(f"the changed branch of block {block.index}", new, branch)
    rows = zip(h, new, single, strict=True)
    return torch.stack([block.gate(block.skip(row, inputs) + f, inputs) for row, f, inputs in rows])


def _node(stream: ResidualStream, depth: int) -> fx.Node:
    """The value in the graph that is the state of a depth."""
    return stream.blocks[depth].join.fork if depth < len(stream) else stream.blocks[-1].join.out


def _through(
    stream: ResidualStream,
    source: fx.Node,
    target: fx.Node,
    value: Tensor,
    states: States,
    changed: Collection[fx.Node] = (),
) -> Tensor:
    """The part of the network between two values, sample by sample."""
    if source is target:
        return value
    cut = Cut(stream._graph, [source], [target])
    _check_bypassed(cut, changed)
    rows = []
    with torch.no_grad():
        for n in range(len(value)):
            function = cut.bind(Evaluation(stream._graph, states.sample(n).inputs))
            rows.append(function(value[n].reshape(graph_shape(source)))[0])
    return torch.stack(rows).reshape(len(rows), *sample_shape(target))


def _check_bypassed(cut: Cut, changed: Collection[fx.Node]) -> None:
    """Refuse where the rest reads, besides the state, a value that a changed branch enters: it would be the old one."""
    for leaf in cut.leaves if changed else ():
        pending, seen = [leaf], set()  # type: list[fx.Node], set[fx.Node]
        while pending:
            node = pending.pop()
            if node in changed:
                raise InputError(
                    f"the value '{leaf.name}' is made from a changed branch and read later beside the state, where it "
                    "would still be the old one; change a later block"
                )
            if node not in seen:
                seen.add(node)
                pending += node.all_input_nodes


def _check_values(what: str, value: Any, like: Tensor) -> None:
    if not isinstance(value, Tensor) or value.shape != like.shape or value.dtype != like.dtype:
        got = f"{tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"got {what} of {got}, expected {tuple(like.shape)}, {like.dtype}")
