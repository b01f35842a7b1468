"""The part of a layer of several blocks that passes along their skips and gates alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from resdyn.stream.cut import Cut, Evaluation
from resdyn.stream.gates import Join
from resdyn.stream.graph import DataGraph


class _Part(NamedTuple):
    """One block of the layer."""

    skip: Cut | None
    branch: Cut
    gate: Cut


class Passing:
    """The layer with every branch held at its value: h -> gate_n(skip_n(... gate_1(skip_1(h) + b_1) ...) + b_n).

    The layer's derivative less that of this map is what its branches contribute, the residual Jacobian of the layer:
    for one block gate'(z) F'(h), for layers without gates the derivative of F. If the identity were subtracted instead,
    the norms of a post-norm layer, which scale every direction alike, would appear as agreement between layers.
    """

    def __init__(self, graph: DataGraph, joins: Sequence[Join]) -> None:
        self._parts = [
            _Part(
                None if join.skip is None else Cut(graph, [join.fork], [join.skip]),
                Cut(graph, [join.fork], [join.branch]),
                Cut(graph, [join.total], [join.out]),
            )
            for join in joins
        ]

    def constants(self, h: Tensor, evaluation: Evaluation) -> tuple[Any, ...]:
        """For every block the value of its branch, and the leaves of its skip and gate, at the layer's state."""
        values_of_parts = []
        with torch.no_grad():
            for part in self._parts:
                skip = () if part.skip is None else part.skip.constants(evaluation)
                values = part.branch(h, *part.branch.constants(evaluation))[0], skip, part.gate.constants(evaluation)
                values_of_parts.append(values)
                h = _passed(part, h, *values)
        return tuple(values_of_parts)

    def __call__(self, h: Tensor, *constants: Any) -> Tensor:
        """The map, with the values that ``constants`` returned."""
        for part, values in zip(self._parts, constants, strict=True):
            h = _passed(part, h, *values)
        return h


def _passed(part: _Part, h: Tensor, held: Tensor, skip: tuple[Any, ...], gate: tuple[Any, ...]) -> Tensor:
    total = held if part.skip is None else part.skip(h, *skip)[0] + held
    return part.gate(total, *gate)[0]
