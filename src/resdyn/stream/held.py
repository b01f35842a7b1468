"""Values that blocks read besides their state, computed with weights before it: held fixed in every Jacobian."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import fx

from resdyn.errors import InputError
from resdyn.stream.cut import Cut, reach
from resdyn.stream.gates import Join
from resdyn.stream.graph import DataGraph, is_floating
from resdyn.stream.layout import Layout
from resdyn.stream.ops import node_modules, operation


def held_among(graph: DataGraph, leaves: Iterable[fx.Node]) -> tuple[fx.Node, ...]:
    """Of the leaves of a block those that depend on the model's inputs through its weights.

    An embedding that enters every block, an encoder's output, values of the first layer; not a mask or a table of
    positions, which no weight reaches, and not a weight.
    """
    dynamic = reach(graph.inputs, lambda node: node.users)
    weighted = reach(graph.parameters, lambda node: node.users)
    return tuple(leaf for leaf in leaves if leaf in dynamic and leaf in weighted and is_floating(leaf))


def held_by_transitions(graph: DataGraph, joins: Sequence[Join]) -> list[tuple[fx.Node, ...]]:
    """The same of the transition after each block; nothing where there is none."""
    return [
        () if join.following is None else held_among(graph, Cut(graph, [join.out], [join.following]).leaves)
        for join in joins
    ]


def value_name(node: fx.Node) -> str:
    """What computes a value: the path of its module; of a function of one value outside modules, what computes that.

    Where there is no module either, the operation.
    """
    source = node
    while True:
        modules = [path for path in node_modules(source) if path]
        operands = [operand for operand in source.all_input_nodes if is_floating(operand)]
        if modules or len(operands) != 1 or source.op != "call_function":
            return modules[-1] if modules else operation(node)
        (source,) = operands


def held_notes(blocks: Sequence[tuple[fx.Node, ...]], transitions: Sequence[tuple[fx.Node, ...]]) -> tuple[str, ...]:
    """Notes on the values that blocks, and transitions after blocks, read besides their states: those of each."""
    inside, between = _readers(blocks, "by"), _readers(transitions, "after")
    notes = []
    if inside:
        notes.append(
            "blocks also read values computed before their state, which every Jacobian of a block holds fixed: "
            f"{inside}"
        )
    if between:
        notes.append(
            "transitions between blocks also read values computed before their state, so the Jacobians of blocks do "
            f"not multiply to that of the model across them: {between}"
        )
    return tuple(notes)


def _readers(held: Sequence[tuple[fx.Node, ...]], word: str) -> str:
    """Each value by name, with the blocks by or after which it is read."""
    readers: dict[str, list[int]] = {}
    for index, nodes in enumerate(held):
        for name in dict.fromkeys(map(value_name, nodes)):
            readers.setdefault(name, []).append(index)
    values = [f"{name} ({word} block{'s' if len(at) > 1 else ''} {spans(at)})" for name, at in readers.items()]
    return ", ".join(values if len(values) <= 4 else [*values[:3], f"{len(values) - 3} more"])


def values_notes(joins: Sequence[Join]) -> tuple[str, ...]:
    """A note on the values that states consist of, where these are several."""
    layouts: dict[Layout, list[int]] = {}
    for index, join in enumerate(joins):
        if join.packed is not None and len(join.packed.before.shapes) > 1:
            layouts.setdefault(join.packed.before, []).append(index)
    if not layouts:
        return ()
    described = [
        ", ".join(f"{key} ({' x '.join(map(str, shape[1:])) or 1})" for key, shape in zip(layout.keys, layout.shapes))
        + f" (block{'s' if len(blocks) > 1 else ''} {spans(blocks)})"
        for layout, blocks in layouts.items()
    ]
    shown = described if len(described) <= 3 else [*described[:2], f"{len(described) - 2} more"]
    return (f"the state is several values, side by side in one tensor: {'; '.join(shown)}",)


def check_held(hold: Sequence[str] | None, held: Iterable[Sequence[str]]) -> None:
    """Raise `InputError` for a name to hold of which no block reads a value."""
    known = list(dict.fromkeys(name for names in held for name in names))
    for name in hold or ():
        if name not in known:
            values = ", ".join(map(repr, known)) if known else "none"
            raise InputError(
                f"got hold={name!r}, but no block reads a value of that name besides its state; of what is held, "
                f"the names are: {values}"
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
