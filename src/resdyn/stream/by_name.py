"""Streams whose blocks are named by the user."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

from torch import fx, nn

from resdyn import _checks as checks
from resdyn._numerics import plain_arithmetic
from resdyn.errors import InputError
from resdyn.progress import stage
from resdyn.stream.cut import reach
from resdyn.stream.discovery import joins_between
from resdyn.stream.exclusive import serially
from resdyn.stream.flow import stream_sources
from resdyn.stream.gates import Join, is_gate
from resdyn.stream.graph import DataGraph, export_graph, size_of, tensor_of
from resdyn.stream.inputs import Signature, by_names, check_model, check_runs
from resdyn.stream.ops import is_flow, node_modules
from resdyn.stream.preserve import preserve_state_once
from resdyn.stream.rewrite import aten
from resdyn.stream.stream import ResidualStream
from resdyn.stream.sums import same_shape
from resdyn.stream.verify import verified

Skip = Literal["auto", "none"]


@serially
@plain_arithmetic()
def stream_from_blocks(
    model: nn.Module,
    paths: Sequence[str],
    *example_args: Any,
    skip: Skip = "auto",
    shared: Sequence[str] = (),
    **example_kwargs: Any,
) -> ResidualStream:
    """The stream whose blocks are named modules, ``h_{i+1} = module_i(h_i)``, in the order in which they run.

    Args:
        model: in eval mode, with finite weights.
        paths: dotted module paths, in the order in which they run, such as ``["layer1.0", "layer1.1"]``. A module that
            the model calls more than once is named ``path@1``, ``path@2``, ... for its later calls.
        *example_args: the arguments of one forward call, batch first; at least one of them a tensor.
        skip: "auto" (default): a module with exactly one residual join keeps its skip, branch and gate; a module with
            several (a transformer layer of attention and MLP) becomes one block with identity skip,
            ``F(h) = module(h) - h``, gate none, whose ``gated`` Jacobian omits what passes along the skips and gates
            inside. "none": each module is a plain layer without a skip, ``F(h) = module(h)``; this is how networks
            without residual connections are measured.
        shared: as in ``find_stream``.
        **example_kwargs: keyword arguments of that call.

    Returns:
        The verified stream, with ``named`` set.

    Raises:
        InputError: no path, an unknown module, one of whose inputs or outputs it is undetermined which is the state,
            one without a residual join under skip "auto", or modules in another order than they run; and as in
            ``find_stream``.
        ComputationError: as in ``find_stream``.

    Cost:
        As ``find_stream``.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).eval()
        >>> stream_from_blocks(model, ["0", "2"], torch.randn(2, 4), skip="none")
        ResidualStream(Sequential, 2 blocks)
    """
    checks.one_of("skip", skip, get_args(Skip))
    paths = checks.words("paths", paths)
    if not paths:
        raise InputError("no blocks were named; pass a list of module paths such as ['layer1.0', 'layer1.1']")
    model = check_model(model)
    example_args, example_kwargs = by_names(model, example_args, example_kwargs)
    signature = Signature.of(example_args, example_kwargs, checks.words("shared", shared))
    args, kwargs = signature.one_sample(example_args, example_kwargs)
    with preserve_state_once(model):
        expected = check_runs(model, example_args, example_kwargs, signature)
        with stage("exporting the model"):
            graph = export_graph(model, args, kwargs)
        stream = _stream_of(graph, paths, signature, skip)
        stream._find_again = partial(stream_from_blocks, model, paths, *args, skip=skip, shared=shared, **kwargs)
        return verified(stream, example_args, example_kwargs, expected)


def _stream_of(graph: DataGraph, paths: Sequence[str], signature: Signature, skip: Skip) -> ResidualStream:
    """The stream of the modules that were named, not yet verified."""
    flow = stream_flow(graph)
    spans = module_spans(graph, paths, flow)
    _check_order(graph, paths, spans)
    followings = [entry for entry, _ in spans[1:]] + [None]
    joins = [
        block_join(graph, path, entry, leaves, following, skip)
        for path, (entry, leaves), following in zip(paths, spans, followings, strict=True)
    ]
    target = _reached_output(graph, joins[-1].out)
    return ResidualStream(graph, joins, target, signature, named=(tuple(paths), skip))


def stream_flow(graph: DataGraph) -> set[fx.Node]:
    """Floating-point nodes reachable from the model's first floating or embedded input."""
    for source in graph.inputs:
        sources = stream_sources(source)
        if sources:
            return reach(sources, lambda node: [user for user in node.users if is_flow(user)])
    raise InputError("the model has no tensor input that a state could come from")


def module_spans(graph: DataGraph, paths: Sequence[str], flow: set[fx.Node]) -> list[tuple[fx.Node, fx.Node]]:
    """The state that enters each module and the one that leaves it."""
    spans: list[tuple[fx.Node, fx.Node]] = []
    for path in paths:
        spans.append(module_span(graph, path, flow, spans[-1][1] if spans else None))
    return spans


def module_span(
    graph: DataGraph, path: str, flow: set[fx.Node], before: fx.Node | None = None
) -> tuple[fx.Node, fx.Node]:
    """The state that enters a module and the one that leaves it.

    A module may take and return other values too. Of what it takes, the state is what the module before returns, or the
    one value that is computed from this; of what it returns, the one value of the state's shape. What it takes besides
    is held.
    """
    inside = [node for node in graph.module.graph.nodes if node in flow and _is_inside(node, path)]
    if not inside:
        raise InputError(f"the model runs no module {path!r} on its way from input to output{_suggest(graph, path)}")
    members = set(inside)
    entries = list(dict.fromkeys(n for node in inside for n in node.all_input_nodes if n in flow and n not in members))
    entries = [node for node in entries if tensor_of(node) is not None]
    exits = [node for node in inside if any(not _is_inside(user, path) for user in node.users)]
    exits = [node for node in exits if tensor_of(node) is not None]
    entry = _entering(entries, exits, before)
    leaving = exits if len(exits) == 1 or entry is None else [node for node in exits if same_shape(node, entry)]
    if entry is None or len(leaving) != 1:
        shapes = [" x ".join(map(str, size_of(node)[1:])) or "1" for node in (*entries, *exits)]
        taken, returned = ", ".join(shapes[: len(entries)]), ", ".join(shapes[len(entries) :])
        raise InputError(
            f"module {path!r} has {len(entries)} inputs and {len(exits)} outputs in the graph (of shapes {taken}; "
            f"{returned}), and which of them is the state is undetermined; a block needs one state in and one of its "
            "shape out: name a module around or inside it"
        )
    return entry, leaving[0]


def _entering(entries: Sequence[fx.Node], exits: Sequence[fx.Node], before: fx.Node | None) -> fx.Node | None:
    """The state among the values that enter a module, or None where that is undetermined."""
    if len(entries) == 1 or before in entries:
        return before if before in entries else entries[0]
    after = reach([] if before is None else [before], lambda node: node.users)
    possible = [node for node in entries if before is None or node in after]
    if len(possible) > 1:  # of several the one that may leave it again
        possible = [node for node in possible if any(same_shape(node, out) for out in exits)]
    return possible[0] if len(possible) == 1 else None


def block_join(
    graph: DataGraph, path: str, entry: fx.Node, leaves: fx.Node, following: fx.Node | None, skip: Skip
) -> Join:
    """The block that a named module is."""
    after = None if following is leaves else following
    if skip == "none":
        return Join(entry, None, leaves, leaves, leaves, "none", after)
    joins = joins_between(graph, [entry], leaves)
    if not joins:
        raise InputError(
            f"module {path!r} holds no residual join; pass skip='none' to measure its blocks as plain layers"
        )
    join = joins[0]
    if len(joins) == 1 and join.fork is entry and is_gate(graph, join.total, leaves):
        return Join(entry, join.skip, join.branch, join.total, leaves, join.skip_kind, after)
    return replace(_merged(graph, path, entry, leaves, after), parts=_parts(graph, entry, leaves, joins))


def _parts(graph: DataGraph, entry: fx.Node, leaves: fx.Node, joins: Sequence[Join]) -> tuple[Join, ...]:
    """The joins of a module, where they lead from its input to its output without a transition in between."""
    *inner, last = joins
    chained = all(join.fork is fork for join, fork in zip(joins, [entry, *(join.out for join in inner)]))
    ends = last.out is leaves or is_gate(graph, last.total, leaves)
    return (*inner, replace(last, out=leaves)) if chained and ends else ()


def _merged(graph: DataGraph, path: str, entry: fx.Node, leaves: fx.Node, after: fx.Node | None) -> Join:
    entering, leaving = tensor_of(entry), tensor_of(leaves)
    assert entering is not None
    assert leaving is not None
    if entering.shape != leaving.shape:
        raise InputError(
            f"module {path!r} holds several residual joins and changes the shape of the state from "
            f"{tuple(entering.shape)} to {tuple(leaving.shape)}, so it has no single skip; name the modules inside it"
        )
    with graph.module.graph.inserting_after(leaves):
        branch = graph.module.graph.call_function(aten.sub.Tensor, (leaves, entry))
    branch.meta.update(leaves.meta)
    return Join(entry, entry, branch, leaves, leaves, "identity", after)


def _is_inside(node: fx.Node, path: str) -> bool:
    return path in node_modules(node)


def _check_order(graph: DataGraph, paths: Sequence[str], spans: Sequence[tuple[fx.Node, fx.Node]]) -> None:
    for (first, second), (a, b) in zip(pairwise(paths), pairwise(spans)):
        downstream = reach([a[1]], lambda node: node.users)
        if b[0] not in downstream:
            raise InputError(f"block {second!r} does not come after {first!r}; name blocks in the order they run")


def _reached_output(graph: DataGraph, node: fx.Node) -> fx.Node:
    downstream = reach([node], lambda n: n.users)
    for output in graph.outputs:
        if output in downstream:
            return output
    raise InputError("no output of the model depends on the last named block; name blocks on the way to the output")


def _suggest(graph: DataGraph, path: str) -> str:
    known = [name for name, _ in graph.model.named_modules() if name]
    close = difflib.get_close_matches(path, known, n=3)
    return f"; did you mean {', '.join(map(repr, close))}?" if close else f"; its modules are {known[:12]}"
