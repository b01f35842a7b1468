"""Residual blocks inside the branch of another: a skip around them hides them from the stream."""

from __future__ import annotations

from collections.abc import Sequence

from resdyn.stream.block import module_path
from resdyn.stream.discovery import joins_between
from resdyn.stream.gates import Join
from resdyn.stream.graph import DataGraph

NUM_LISTED = 4


def hidden_blocks(graph: DataGraph, joins: Sequence[Join]) -> tuple[str, ...]:
    """A note on branches that hold two residual blocks or more, and how to measure these.

    Through a skip around all of them the model's output depends on what entered the first, so none of their states is
    passed by every path to it.
    """
    chains = {index: joins_between(graph, [join.fork], join.branch) for index, join in enumerate(joins)}
    chains = {index: chain for index, chain in chains.items() if len(chain) > 1}
    if not chains:
        return ()
    paths = [module_path([join.total]) for chain in chains.values() for join in chain]
    shown = ", ".join(paths if len(paths) <= NUM_LISTED else [*paths[: NUM_LISTED - 1], "...", paths[-1]])
    advice = f"name them (stream_from_blocks, --blocks): {shown}"
    if not all(paths) or len(set(paths)) < len(paths):
        advice = "find the stream of such a part of the model alone"
    which = f"{len(chains)} blocks" if len(chains) > 1 else f"block {next(iter(chains))}"
    return (
        f"the branch of {which} is itself a chain of residual blocks, {len(paths)} in all, which the skip around them "
        f"hides; to measure them {advice}",
    )
