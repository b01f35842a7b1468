"""Finding the residual stream of a model by dataflow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from resdyn import _checks as checks
from resdyn._numerics import plain_arithmetic
from resdyn.errors import InputError
from resdyn.progress import stage
from resdyn.stream.discovery import find_joins
from resdyn.stream.exclusive import serially
from resdyn.stream.failures import COMPLEX, NO_STREAM, NO_TENSORS
from resdyn.stream.granularity import Granularity, check_granularity, merge_layers
from resdyn.stream.graph import export_graph, tensor_of
from resdyn.stream.inputs import Signature, by_names, check_model, check_runs
from resdyn.stream.ops import operation
from resdyn.stream.plain import PLAIN
from resdyn.stream.stream import ResidualStream
from resdyn.stream.verify import verified


@serially
@plain_arithmetic()
def find_stream(
    model: nn.Module,
    *example_args: Any,
    granularity: Granularity = "join",
    shared: Sequence[str] = (),
    **example_kwargs: Any,
) -> ResidualStream:
    """Find the residual stream ``h_{i+1} = gate(skip(h_i) + F_i(h_i))`` of any PyTorch model, by dataflow.

    The model is exported at the first sample of the example input. In the graph of its values, the dominators of the
    output are the states; where two consecutive ones are joined by a sum of a skip and a branch, there is a block.
    Every block is then verified at the example: value, repeatability, adjoint identity.

    Args:
        model: in eval mode, with finite weights.
        *example_args: the arguments of one forward call, batch first; at least one of them a tensor, or one mapping
            with the arguments by name.
        granularity: "join" (default): every residual sum is a block (attention and feed-forward of a transformer are
            two). "layer": the sums of one layer are one block, ``F(h) = layer(h) - h``, the layer being the innermost
            repeated module that contains them.
        shared: names of inputs without a dimension of samples, the same for all of them, such as a mask of tokens by
            tokens (default: none).
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
    check_runs(model, example_args, example_kwargs, signature)
    args, kwargs = signature.one_sample(example_args, example_kwargs)
    with stage("exporting the model"):
        graph = export_graph(model, args, kwargs)
        joins, target = find_joins(graph)
    if not graph.outputs:
        raise InputError(f"{type(model).__name__} {NO_TENSORS}")
    if not joins or target is None:
        complex_sums = any(
            operation(n) == "add" and (v := tensor_of(n)) is not None and v.is_complex()
            for n in graph.module.graph.nodes
        )
        raise InputError(f"{type(model).__name__} {COMPLEX if complex_sums else NO_STREAM}")
    notes = (PLAIN,) if all(join.skip_kind == "none" for join in joins) else ()
    if granularity == "layer" and not notes:
        joins = merge_layers(graph, joins)
    stream = ResidualStream(graph, joins, target, signature, granularity=granularity, notes=notes)
    stream._find_again = partial(find_stream, model, *args, granularity=granularity, shared=shared, **kwargs)
    return verified(stream, example_args, example_kwargs)
