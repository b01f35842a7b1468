"""T and its inverse on whole models: the same function, with or without skips."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from resdyn.errors import ComputationError, InputError
from resdyn.interventions.transfer.units import UnitLayer, skip_of, unit_layers
from resdyn.nets.block import ResidualBlock
from resdyn.nets.unit_skip import ResidualLayer, identity_kernel
from resdyn.stream import find_stream
from resdyn.stream.verify import relative_error, tolerance

TRACE_ERRORS = (fx.proxy.TraceError, TypeError, AttributeError, RuntimeError, NotImplementedError)


def to_plain(model: nn.Module, *example: Tensor) -> nn.Module:
    """The plain network p = T(r) that computes what a residual one does: ``p = r + rho``, without skips.

    Every residual block of the stream (found by dataflow) must be ``gate(skip(h) + layer(h))`` with one convolution or
    linear layer and its unit skip; rho is the layer's unit kernel (``resdyn.nets.identity_kernel``).

    Args:
        model: residual, in any mode; not changed.
        *example: inputs of one forward call, batch first; not needed where the model declares its ``input_size``.

    Returns:
        A copy in eval mode, whose outputs at the example were checked to equal the model's to rounding. Where the
        model's code adds the skip itself, it is a ``torch.fx.GraphModule`` of that code without the sum.

    Raises:
        ComputationError: blocks of another form (named, with the reasons), code that cannot be rewritten, or a copy
            that differs.
        InputError: as in ``find_stream``; no example and no ``input_size``; an output that is not one tensor.

    Source:
        Yu and Tomasi, equation 1.
    """
    example = example or (_example(model),)
    twin = copy.deepcopy(model).eval()
    expected = _output(twin, example)
    layers = unit_layers(find_stream(twin, *example))
    for layer in layers:
        _shift(twin.get_submodule(layer.path), 1)
    return _checked(_without_skips(twin, layers), expected, example)


def to_residual(model: nn.Module, *example: Tensor, layers: Sequence[str] | None = None) -> nn.Module:
    """The residual network r = T^-1(p) that computes what a plain one does: ``r = p - rho``, with unit skips.

    Args:
        model: plain, in any mode; not changed.
        *example: inputs of one forward call, batch first; not needed where the model declares its ``input_size``.
        layers: module paths of the convolutions and linear layers that get a skip; default: those of blocks without one
            (``resdyn.nets.block.ResidualBlock``, as in ``SimplifiedNet``). A layer outside such a block is wrapped, so
            that its parameters are named ``<path>.layer.*``.

    Returns:
        A copy in eval mode, checked as in ``to_plain``.

    Raises:
        InputError: a layer without a unit skip (a kernel without a centre, a padding that shifts it), named; no layers;
            no example and no ``input_size``.
        ComputationError: a copy that differs.

    Source:
        Yu and Tomasi, equation 1.
    """
    example = example or (_example(model),)
    twin = copy.deepcopy(model).eval()
    expected = _output(twin, example)
    parents = {
        f"{name}.branch": m for name, m in twin.named_modules() if isinstance(m, ResidualBlock) and not m.shortcut
    }
    chosen = list(parents) if layers is None else list(layers)
    if not chosen:
        raise InputError(
            f"{type(model).__name__} has no blocks without skips; pass the layers that get one: layers=[module paths]"
        )
    for path in chosen:
        layer = twin.get_submodule(path)
        try:
            skip = skip_of(layer)
        except InputError as error:
            raise InputError(f"the layer '{path}' has no unit skip: {error}") from error
        _shift(layer, -1)
        if path in parents:
            parents[path].shortcut = skip
        else:
            twin.set_submodule(path, ResidualLayer(layer, skip))
    return _checked(twin, expected, example)


def _shift(layer: nn.Module, sign: int) -> None:
    weight: Any = layer.weight
    with torch.no_grad():
        weight += sign * identity_kernel(weight, getattr(layer, "groups", 1))


def _without_skips(twin: nn.Module, layers: Sequence[UnitLayer]) -> nn.Module:
    """Remove the skips: from modules of ours that hold them, otherwise from the traced code."""
    traced = []
    for layer in layers:
        parent = twin.get_submodule(layer.path.rpartition(".")[0])
        if isinstance(parent, ResidualBlock):
            parent.shortcut = None
        elif isinstance(parent, ResidualLayer):
            twin.set_submodule(layer.path.rpartition(".")[0], parent.layer)
        else:
            traced.append(layer.path)
    return _rewritten(twin, traced) if traced else twin


def _rewritten(twin: nn.Module, paths: Sequence[str]) -> nn.Module:
    """The model's own code with each sum of a layer and its skip replaced by the layer."""
    try:
        code = fx.symbolic_trace(twin)
    except TRACE_ERRORS as error:
        raise ComputationError(f"{type(twin).__name__} cannot be rewritten without its skips: {error}") from error
    for path in paths:
        calls = [node for node in code.graph.nodes if node.op == "call_module" and node.target == path]
        users = [user for call in calls for user in call.users]
        if len(calls) != 1 or len(users) != 1 or not _is_sum(users[0]):
            raise ComputationError(f"the code of {type(twin).__name__} does not add a skip to '{path}' alone")
        users[0].replace_all_uses_with(calls[0])
        code.graph.erase_node(users[0])
    code.graph.eliminate_dead_code()
    code.recompile()
    return code.eval()


def _is_sum(node: fx.Node) -> bool:
    name = getattr(node.target, "__name__", str(node.target))
    return name in ("add", "iadd", "add_") and len(node.all_input_nodes) == 2


def _checked(twin: nn.Module, expected: Tensor, example: Sequence[Tensor]) -> nn.Module:
    error, limit = relative_error(_output(twin, example), expected), 10 * tolerance(expected.dtype)
    if not error <= limit:
        raise ComputationError(f"the twin differs from the model by {error:.1e}, expected at most {limit:.1e}")
    return twin


def _output(model: nn.Module, example: Sequence[Tensor]) -> Tensor:
    with torch.no_grad():
        output = model(*example)
    if not isinstance(output, Tensor):
        raise InputError(f"{type(model).__name__} returns {type(output).__name__}, expected one tensor")
    return output


def _example(model: nn.Module) -> Tensor:
    size = getattr(model, "input_size", None)
    if size is None:
        raise InputError(f"{type(model).__name__} does not declare its input_size; pass an example input, batch first")
    weight = next(model.parameters())
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(0), dtype=weight.dtype).to(weight.device)
