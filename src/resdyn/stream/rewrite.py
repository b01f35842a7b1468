"""Operations of an exported graph replaced by ones that support every kind of derivative."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from resdyn._torch import plain_flex_attention
from resdyn.stream.cells import write_out_cells

aten = torch.ops.aten

ASSERTIONS = ("_assert", "sym_constrain", "_assert_tensor_metadata", "_assert_scalar", "_assert_async")


def batch_norm_affine(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float, rank: int
) -> tuple[Tensor, Tensor]:
    """(scale, shift) of a batch norm in eval mode, shaped to multiply an input of `rank` dimensions."""
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    shift = shift if bias is None else shift + bias
    per_channel = [1, -1] + [1] * (rank - 2)
    return scale.reshape(per_channel), shift.reshape(per_channel)


def frozen_batch_norm(x: Tensor, affine: tuple[Tensor, Tensor]) -> tuple[Tensor]:
    """Batch norm in eval mode as the affine map that it is: cheap forward- and reverse-mode derivatives."""
    scale, shift = affine
    return (x * scale + shift,)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """``view`` that also accepts the strides that tangents can have."""
    return x.reshape(shape)


def plain_clone(x: Tensor, **_: Any) -> Tensor:
    """`clone` without a memory format, which batched tangents could refuse."""
    return x.clone()


def copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What ``target`` holds once ``source`` is written into it: ``copy`` itself has no forward-mode derivative."""
    return source.to(target.dtype).expand(target.shape)


def grouped_product(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Rows of x (S, d), sorted by expert, each times its own expert's matrix of weight (E, d, o); 0 after the last.

    Expert e owns the rows ends[e - 1] .. ends[e] - 1. Here each sees all rows, those of others as zeros: E products
    instead of one, but no shape depends on a value, and every kind of derivative works.
    """
    row, starts = torch.arange(len(x), device=ends.device), torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
    own = (starts[:, None] <= row) & (row < ends[:, None])
    return (torch.where(own[..., None], x, torch.zeros_like(x)) @ weight).sum(0)


def plain_prelu(x: Tensor, weight: Tensor) -> Tensor:
    """PReLU whose derivative at zero is the slope in both modes: in forward mode the fused kernel gives 1 there."""
    slope = weight.reshape(-1, *[1] * (x.dim() - 2)) if weight.numel() > 1 else weight.reshape(())
    return torch.where(x > 0, x, slope * x)


def plain_clamp(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Clamping to tensors, at a bound with the derivative of reverse mode in both modes.

    In torch 2.13 the derivative at x = low is 1 in reverse mode and 0 in forward mode, unless there are two bounds.
    """
    clamped = x if low is None else torch.where(x < low, low, x)
    return clamped if high is None else torch.where(clamped > high, high, clamped)


def plain_logcumsumexp(x: Tensor, dim: int) -> Tensor:
    """log(cumsum(exp(x))) by doubling, log2(n) steps, each a sum of two with derivatives that stay in range.

    In torch 2.13 the derivative in forward mode divides by the largest of all terms instead of the largest so far, so
    that early ones underflow: for normal x of standard deviation 20 it is off by 40 % (pytorch #196705).
    """
    if not x.dim():
        return x
    total, length, step = x, x.shape[dim], 1
    while step < length:
        late, early = total.narrow(dim, step, length - step), total.narrow(dim, 0, length - step)
        nothing = (late == -torch.inf) & (early == -torch.inf)  # which has the derivative zero, not NaN
        summed = torch.logaddexp(torch.where(nothing, 0.0, late), early)
        total = torch.cat([total.narrow(dim, 0, step), torch.where(nothing, -torch.inf, summed)], dim)
        step *= 2
    return total


def plain_lstm(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """An LSTM by plain operations: the fused kernel of the CPU has no forward-mode derivative."""
    enabled, *_ = torch.backends.mkldnn.set_flags(False, _fp32_precision=None)
    try:
        result: tuple[Tensor, Tensor, Tensor] = aten.lstm.input(*arguments)
    finally:
        torch.backends.mkldnn.set_flags(enabled, _fp32_precision=None)
    return result


REWRITES: dict[Any, Callable[..., Any]] = {
    aten.view.default: reshape,
    aten._unsafe_view.default: reshape,
    aten.clone.default: plain_clone,
    aten.copy.default: copied,
    aten.lstm.input: plain_lstm,
    aten.logcumsumexp.default: plain_logcumsumexp,
    torch.ops.higher_order.flex_attention: plain_flex_attention,
    aten.prelu.default: plain_prelu,
    aten._prelu_kernel.default: plain_prelu,
    aten.clamp.Tensor: plain_clamp,
    aten.clamp_min.Tensor: plain_clamp,
    aten.clamp_max.Tensor: lambda x, high: plain_clamp(x, None, high),
}
# Operations that take only shape or type from a tensor: no state flows there.
SHAPE_ONLY: dict[Any, Any] = {
    aten.zeros_like.default: aten.zeros.default,
    aten.new_zeros.default: aten.zeros.default,
    aten.ones_like.default: aten.ones.default,
    aten.new_ones.default: aten.ones.default,
    aten.type_as.default: aten._to_copy.default,
}
# Operators of libraries that may not be imported, by their bare names.
GROUPED_PRODUCTS = {"_grouped_mm", "grouped_mm_fallback"}


FUSED_SUMS: dict[Any, Any] = {
    aten.addmm.default: aten.mm.default,
    aten.baddbmm.default: aten.bmm.default,
    aten.addcmul.default: aten.mul.Tensor,
    aten.addcdiv.default: aten.div.Tensor,
    aten.lerp.Tensor: aten.mul.Tensor,
    aten.lerp.Scalar: aten.mul.Tensor,
}


def rewrite(graph: fx.Graph, fixed: Collection[fx.Node]) -> None:
    """Replace what derivatives cannot pass, write fused sums as sums, and drop assertions.

    A fused sum whose first term is ``fixed`` (a bias) is left unchanged.
    """
    for node in list(graph.nodes):
        if node.target in FUSED_SUMS and node.args[0] not in fixed:
            _write_out_sum(graph, node)
    write_out_cells(graph)
    drop_idle_writes(graph)
    nest_concatenations(graph)
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is aten.sum.dim_IntList and _sums_a_stack(node):
            _write_out_stack(graph, node)
            continue
        if node.target in REWRITES:
            node.target = REWRITES[node.target]
        elif _is_grouped_product(node):
            node.target, node.args, node.kwargs = grouped_product, (*node.args, *node.kwargs.values()), {}
        elif node.target is aten._native_batch_norm_legit_no_training.default:
            _freeze_batch_norm(graph, node)
        elif not node.users and any(mark in str(node.target) for mark in ASSERTIONS):
            graph.erase_node(node)
    graph.eliminate_dead_code()


READS = {aten.slice_scatter.default: aten.slice.Tensor, aten.select_scatter.default: aten.select.int}
ASSEMBLED = "resdyn_assembled"  # marks a value that the model computes, and then again from its parts


def drop_idle_writes(graph: fx.Graph) -> None:
    """Remove writes of a part of a value into the same place: what ``h[:, 1:] += f`` leaves behind."""
    for node in list(graph.nodes):
        if node.target not in READS:
            continue
        whole, part, *place = node.args
        while isinstance(part, fx.Node) and part.target is aten.copy.default:
            part = part.args[1]
        read = isinstance(part, fx.Node) and part.target is READS[node.target]
        if read and part.args == (whole, *place) and not node.kwargs and not part.kwargs:
            node.replace_all_uses_with(whole)


def nest_concatenations(graph: fx.Graph) -> None:
    """Write cat(a, b, c) as cat(cat(a, b), c) where cat(a, b) is a value already: the state of a dense block grows."""
    known: dict[tuple[Any, ...], fx.Node] = {}
    for node in graph.nodes:
        if node.target is not aten.cat.default:
            continue
        args: Any = node.args
        parts, dim = list(args[0]), args[1] if len(args) > 1 else 0
        whole = tuple(parts)
        for length in range(len(parts) - 1, 1, -1):
            if (head := known.get((*whole[:length], dim))) is not None:
                node.args = ([head, *parts[length:]], dim)
                head.meta[ASSEMBLED] = True
                break
        known[(*whole, dim)] = node


def _sums_a_stack(node: fx.Node) -> bool:
    """Whether a node is stack([a, b, ...], d).sum(d)."""
    args: Any = node.args
    stacked, dims, *keep = args
    if not isinstance(stacked, fx.Node) or stacked.target is not aten.stack.default or any(keep) or node.kwargs:
        return False
    rank, of_stack = stacked.meta["val"].dim(), list(stacked.args)
    along: Any = of_stack[1] if len(of_stack) > 1 else 0
    return len(of_stack[0]) > 1 and [dim % rank for dim in dims] == [along % rank]  # type: ignore[arg-type]


def _write_out_stack(graph: fx.Graph, node: fx.Node) -> None:
    """The sum of a stack as a sum of its parts."""
    args: Any = node.args
    total, *rest = args[0].args[0]
    with graph.inserting_before(node):
        for part in rest[:-1]:
            total = graph.call_function(aten.add.Tensor, (total, part))
            total.meta.update(node.meta)
    node.target, node.args = aten.add.Tensor, (total, rest[-1])


def detach_from_patterns(graph: fx.Graph) -> None:
    """Write ``zeros_like`` and the like with explicit shape and type, so that they depend on no tensor."""
    for node in graph.nodes:
        if node.target in SHAPE_ONLY:
            made, value = SHAPE_ONLY[node.target], node.meta["val"]
            node.args = (node.args[0],) if made is aten._to_copy.default else (list(value.shape),)
            node.target, node.kwargs = made, {"dtype": value.dtype, "device": value.device}


def _write_out_sum(graph: fx.Graph, node: fx.Node) -> None:
    """Expose a sum h + ... hidden in an operation: addmm, baddbmm, addcmul, addcdiv, lerp on a computed h."""
    inner = FUSED_SUMS[node.target]
    h, first, second = node.args[:3]
    options = dict(node.kwargs)
    if set(options) - {"value"}:
        return

    def call(target: Any, *args: Any) -> fx.Node:
        made = graph.call_function(target, args)
        made.meta.update(node.meta)
        return made

    with graph.inserting_before(node):
        if node.target in (aten.lerp.Tensor, aten.lerp.Scalar):
            added = call(aten.mul.Tensor, call(aten.sub.Tensor, first, h), second)
        else:
            added = call(inner, first, second)
        if options.get("value", 1) != 1:
            added = call(aten.mul.Tensor, added, options["value"])
    node.target, node.args, node.kwargs = aten.add.Tensor, (h, added), {}


def _is_grouped_product(node: fx.Node) -> bool:
    """Rows times the matrices of their experts, in either of its known forms and without bias or another dtype."""
    operands = [*node.args, *node.kwargs.values()]
    name = getattr(node.target, "__name__", "").split(".")[0]
    if name not in GROUPED_PRODUCTS or not all(isinstance(operand, fx.Node) for operand in operands):
        return False
    return [operand.meta["val"].dim() for operand in operands if isinstance(operand, fx.Node)] == [2, 3, 1]


def _freeze_batch_norm(graph: fx.Graph, node: fx.Node) -> None:
    """Two nodes for one: the affine coefficients, which no state reaches, and their application."""
    x, weight, bias, mean, var, _, eps = node.args
    assert isinstance(x, fx.Node)
    with graph.inserting_before(node):
        affine = graph.call_function(batch_norm_affine, (weight, bias, mean, var, eps, x.meta["val"].dim()))
        affine.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
    node.target, node.args = frozen_batch_norm, (x, affine)
