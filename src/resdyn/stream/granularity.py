"""Joins of one layer merged into one block: attention and feed-forward of a transformer layer as one step.

What a layer is follows from the model's own modules, whatever their names: of the modules that contain a join's sum,
the innermost one that is repeated, that is, has a sibling built like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal, get_args

from torch import fx, nn

from resdyn.errors import InputError
from resdyn.stream.closing import branch_node, matched_to_sum
from resdyn.stream.gates import Join
from resdyn.stream.graph import DataGraph, tensor_of
from resdyn.stream.ops import node_modules
from resdyn.stream.rewrite import aten

Granularity = Literal["join", "layer"]


def check_granularity(granularity: str) -> None:
    """Raise `InputError` for a granularity that does not exist."""
    if granularity not in get_args(Granularity):
        raise InputError(
            f"got granularity={granularity!r}, expected 'join' (every residual sum is a block) or 'layer' (those of "
            "one layer are one block)"
        )


def merge_layers(graph: DataGraph, joins: Sequence[Join]) -> list[Join]:
    """Consecutive joins of one layer and one stage as one join; a layer of one join is left unchanged.

    A merged block has F(h) = layer(h) - h and the identity skip. Where all its joins are h + F_k(h) without gates, F is
    computed as the sum of the F_k, without cancellation. Otherwise, as in post-norm layers, its ``parts`` are kept:
    the ``gated`` Jacobian omits what passes along their skips and gates, not the identity.
    """
    repeated = {path.split("@")[0] for node in graph.module.graph.nodes for path in node_modules(node) if "@" in path}
    layers = [layer_of(graph.model, join.total, repeated) for join in joins]
    merged: list[Join] = []
    for layer, group in groupby(zip(layers, joins), key=lambda pair: pair[0]):
        for run in _runs([join for _, join in group]):
            merged.extend(run if layer is None or len(run) == 1 else [_merged(graph, layer, run)])
    return merged


def layer_of(model: nn.Module, node: fx.Node, repeated: set[str]) -> str | None:
    """The call of a module that is the layer of a node, or None where nothing is repeated.

    Where no module has a sibling, the outermost one called more than once (``repeated``): layers that share weights.
    """
    calls = {path.split("@")[0]: path for path in node_modules(node) if path}
    for build in (_structure, type):
        for path in reversed(calls):
            if _is_repeated(model, path, build):
                return calls[path]
    return next((call for path, call in calls.items() if path in repeated), None)


def _is_repeated(model: nn.Module, path: str, build: Any) -> bool:
    parent, _, name = path.rpartition(".")
    try:
        siblings = dict(model.get_submodule(parent).named_children())
    except AttributeError:  # the path of a call that is not an attribute of its parent
        return False
    own = siblings.pop(name, None)
    return own is not None and any(build(other) == build(own) for other in siblings.values())


def _structure(module: nn.Module) -> list[tuple[Any, ...]]:
    """The classes and parameter shapes that a module is built of, by name."""
    return [
        (name, type(part), *(tuple(p.shape) for p in part.parameters(recurse=False)))
        for name, part in module.named_modules()
    ]


def _runs(joins: list[Join]) -> list[list[Join]]:
    """Split at transitions, and where the shape of the state changes."""
    runs: list[list[Join]] = []
    for join in joins:
        before = runs[-1][-1] if runs else None
        keeps = _shape(join.fork) == _shape(join.out)
        if before is not None and before.following is None and keeps and _shape(before.fork) == _shape(join.fork):
            runs[-1].append(join)
        else:
            runs.append([join])
    return runs


def _shape(node: fx.Node) -> Any:
    value = tensor_of(node)
    return None if value is None else value.shape


def _merged(graph: DataGraph, path: str, joins: list[Join]) -> Join:
    first, last = joins[0], joins[-1]
    plain = all(join.skip_kind == "identity" and join.out is join.total for join in joins)
    if plain:
        branch = matched_to_sum(
            graph, branch_node(graph, [(join.branch, 1.0) for join in joins], last.total), last.total
        )
    else:
        with graph.module.graph.inserting_after(last.out):
            branch = graph.module.graph.call_function(aten.sub.Tensor, (last.out, first.fork))
        branch.meta.update(last.out.meta)
    return replace(
        last,
        fork=first.fork,
        skip=first.fork,
        branch=branch,
        total=last.out,
        skip_kind="identity",
        path=path,
        parts=() if plain else tuple(joins),
    )
