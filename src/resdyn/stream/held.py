"""Values that blocks read besides their state, computed with weights before it: held fixed in every Jacobian."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import fx

from resdyn.stream.cut import reach
from resdyn.stream.graph import DataGraph, is_floating
from resdyn.stream.ops import node_modules, operation


def held_among(graph: DataGraph, leaves: Iterable[fx.Node]) -> tuple[fx.Node, ...]:
    """Of the leaves of a block those that depend on the model's inputs through its weights.

    An embedding that enters every block, an encoder's output, values of the first layer; not a mask or a table of
    positions, which no weight reaches, and not a weight.
    """
    dynamic = reach(graph.inputs, lambda node: node.users)
    weighted = reach(graph.parameters, lambda node: node.users)
    return tuple(leaf for leaf in leaves if leaf in dynamic and leaf in weighted and is_floating(leaf))


def value_name(node: fx.Node) -> str:
    """What computes a value: the path of its module, or the operation in a model without modules."""
    modules = [path for path in node_modules(node) if path]
    return modules[-1] if modules else operation(node)


def held_notes(held: Sequence[tuple[fx.Node, ...]]) -> tuple[str, ...]:
    """A note on the values that blocks read besides their states, from those of each block."""
    readers: dict[str, list[int]] = {}
    for index, nodes in enumerate(held):
        for name in dict.fromkeys(map(value_name, nodes)):
            readers.setdefault(name, []).append(index)
    if not readers:
        return ()
    values = [f"{name} (by block{'s' if len(by) > 1 else ''} {spans(by)})" for name, by in readers.items()]
    shown = values if len(values) <= 4 else [*values[:3], f"{len(values) - 3} more"]
    return (
        "blocks also read values computed before their state, which every Jacobian of a block holds fixed: "
        + ", ".join(shown),
    )


def spans(numbers: Sequence[int]) -> str:
    """Whole numbers in ascending order as text, runs of three or more as one: 0, 2 to 5."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][-1] == n - 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(parts)
