"""Finding the residual stream of a model by dataflow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from resdyn import _checks as checks
from resdyn._numerics import plain_arithmetic
from resdyn.errors import InputError, did_you_mean
from resdyn.progress import stage
from resdyn.stream.discovery import find_joins
from resdyn.stream.exclusive import serially
from resdyn.stream.failures import COMPLEX, NO_STREAM, NO_TENSORS
from resdyn.stream.granularity import Granularity, check_granularity, merge_layers
from resdyn.stream.graph import DataGraph, export_graph, tensor_of
from resdyn.stream.inputs import Signature, by_names, check_model, check_runs
from resdyn.stream.ops import operation
from resdyn.stream.plain import PLAIN
from resdyn.stream.preserve import preserve_state_once
from resdyn.stream.stream import ResidualStream
from resdyn.stream.verify import verified


@serially
@plain_arithmetic()
def find_stream(
    model: nn.Module,
    *example_args: Any,
    granularity: Granularity = "join",
    shared: Sequence[str] = (),
    hold: Sequence[str] | None = None,
    within: str | None = None,
    **example_kwargs: Any,
) -> ResidualStream:
    """Find the residual stream ``h_{i+1} = gate(skip(h_i) + F_i(h_i))`` of any PyTorch model, by dataflow.

    The model is exported at the first sample of the example input. In the graph of its values, a sum closes a block
    where one of its terms leads back linearly to a value that another term is computed from with weights: the state.
    The stream is the longest chain of blocks. Values that are updated in turn, as in reversible networks and those with
    momentum, are one state, side by side in one tensor (`block.values`, `block.split`). Every block is then verified at
    the example: value, adjoint identity, and products with its Jacobian against autograd of the model.

    Args:
        model: in eval mode, with finite weights.
        *example_args: the arguments of one forward call, batch first; at least one of them a tensor, or one mapping
            with the arguments by name.
        granularity: "join" (default): every residual sum is a block (attention and feed-forward of a transformer are
            two). "layer": the sums of one layer are one block, ``F(h) = layer(h) - h``, the layer being the innermost
            repeated module that contains them.
        shared: names of inputs without a dimension of samples, the same for all of them, such as a mask of tokens by
            tokens (default: none).
        hold: names of values that blocks read besides their state and that every Jacobian holds fixed, as `block.held`
            gives them; all others become part of the state. None (default): only values that are updated in turn with
            the state, as in reversible networks and those with momentum, are part of it. []: nothing is held, and the
            Jacobians of the blocks multiply to that of the model.
        within: path of the module whose blocks are wanted, such as "decoder" (default: those of the longest chain).
        **example_kwargs: keyword arguments of that call.

    Returns:
        The verified stream.

    Raises:
        InputError: a model in training mode, with NaN weights, without a residual stream, or of a kind that cannot be
            measured (wrappers for several devices, TorchScript, quantised networks, weights that are lazy, sharded,
            sparse, nested or on the meta device).
        ComputationError: a model that cannot be exported, or a block that fails verification (named, with the reason).

    Cost:
        One export (seconds), and per block a few evaluations and one product with J and one with J^T.

    Example:
        >>> import torch
        >>> from resdyn.nets import ResidualMLP
        >>> model = ResidualMLP(in_features=4, width=8, depth=3, classes=2).eval()
        >>> find_stream(model, torch.randn(2, 4))
        ResidualStream(ResidualMLP, 3 blocks)
    """
    model = check_model(model)
    check_granularity(granularity)
    example_args, example_kwargs = by_names(model, example_args, example_kwargs)
    signature = Signature.of(example_args, example_kwargs, checks.words("shared", shared))
    hold = None if hold is None else checks.words("hold", hold)
    check_within(model, within)
    args, kwargs = signature.one_sample(example_args, example_kwargs)
    options: dict[str, Any] = {"granularity": granularity, "shared": shared, "hold": hold, "within": within}
    with preserve_state_once(model):
        expected = check_runs(model, example_args, example_kwargs, signature)
        with stage("exporting the model"):
            graph = export_graph(model, args, kwargs)
        stream = _discovered(graph, signature, granularity, hold, within)
        stream._find_again = partial(find_stream, model, *args, **options, **kwargs)
        return verified(stream, example_args, example_kwargs, expected)


def _discovered(
    graph: DataGraph, signature: Signature, granularity: Granularity, hold: tuple[str, ...] | None, within: str | None
) -> ResidualStream:
    """The stream of an exported model, not yet verified."""
    name = type(graph.model).__name__
    joins, target = find_joins(graph, hold, within)
    if not graph.outputs:
        raise InputError(f"{name} {NO_TENSORS}")
    if not joins or target is None:
        complex_sums = any(
            operation(n) == "add" and (v := tensor_of(n)) is not None and v.is_complex()
            for n in graph.module.graph.nodes
        )
        where = "" if within is None else f" (its module {within!r})"
        raise InputError(f"{name}{where} {COMPLEX if complex_sums else NO_STREAM}")
    notes = (PLAIN,) if all(join.skip_kind == "none" for join in joins) else ()
    if granularity == "layer" and not notes:
        joins = merge_layers(graph, joins)
    return ResidualStream(
        graph, joins, target, signature, granularity=granularity, notes=notes, hold=hold, within=within
    )


def check_within(model: nn.Module, within: str | None) -> None:
    """Raise `InputError` for a module that the model does not have."""
    if within is None:
        return
    paths = [path for path, _ in model.named_modules() if path]
    if within not in paths:
        known = did_you_mean(str(within), paths)
        raise InputError(f"got within={within!r}, expected the path of a module of {type(model).__name__}.{known}")
