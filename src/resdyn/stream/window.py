"""Windows of tensors, a range per dimension, and what operations of a graph say of the dimensions they act on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from resdyn.stream.diagonal import LINEAR_IN_FIRST
from resdyn.stream.ops import RENAMING, operation

Window = tuple[tuple[int, int], ...]
ELEMENTWISE = {"add", "sub", "neg", "mul", "where", "div", "div_", "plain_clone", "clone", "alias"} | LINEAR_IN_FIRST


def arguments(node: Any) -> Any:
    """The arguments of a node as plain values, whose types fx leaves open."""
    return node.args


def full(shape: Sequence[int]) -> Window:
    """The window of everything."""
    return tuple((0, size) for size in shape)


def hull(first: Window, second: Window) -> Window:
    """The smallest window around two."""
    return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(first, second, strict=True))


def common(first: Window, second: Window) -> Window:
    """What two windows share; the second where in a dimension they share nothing."""
    both = ((max(a, c), min(b, d), (c, d)) for (a, b), (c, d) in zip(first, second, strict=True))
    return tuple((start, stop) if start < stop else other for start, stop, other in both)


def shape_of(node: Any) -> tuple[int, ...] | None:
    """The shape of a node's tensor, None where there is none of one size."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    fixed = isinstance(value, Tensor) and all(isinstance(size, int) for size in value.shape)
    return tuple(value.shape) if fixed and isinstance(value, Tensor) else None


def reshaped(window: Window, before: Sequence[int], after: Sequence[int]) -> tuple[Window, Window]:
    """(what of `before` has to be there, what of `after` that is) for a reshape of a window of `before`."""
    required, result = list(full(before)), list(full(after))
    i = j = 0
    while i < len(before) or j < len(after):
        rows, cols = [i] if i < len(before) else [], [j] if j < len(after) else []
        i, j = i + len(rows), j + len(cols)
        while (left := math.prod(before[d] for d in rows)) != (right := math.prod(after[d] for d in cols)):
            if left < right:
                rows.append(i)
                i += 1
            else:
                cols.append(j)
                j += 1
        long = [d for d in rows if before[d] != 1], [d for d in cols if after[d] != 1]
        if len(long[0]) == len(long[1]) == 1:
            required[long[0][0]] = result[long[1][0]] = window[long[0][0]]
    return tuple(required), tuple(result)


def but(window: Window, every: Window, dim: int) -> Window:
    """A window, but everything along one dimension."""
    return (*window[:dim], every[dim], *window[dim + 1 :])


def dim_of(node: fx.Node, place: int, shape: Sequence[int]) -> int:
    """The dimension that an argument of an operation names, counted from the front; 0 where it is left out."""
    given = arguments(node)[place] if len(arguments(node)) > place else 0
    assert isinstance(given, int)
    return given % len(shape)


def step_of(node: fx.Node) -> Any:
    """The step of a slice."""
    return arguments(node)[4] if len(arguments(node)) > 4 else 1


def start_of(node: fx.Node, size: Sequence[int]) -> int:
    """Where a slice starts."""
    dim = dim_of(node, 1, size)
    start = arguments(node)[2] if len(arguments(node)) > 2 and arguments(node)[2] is not None else 0
    assert isinstance(start, int)
    return max(start + size[dim], 0) if start < 0 else min(start, size[dim])


def order_of(node: fx.Node, rank: int) -> tuple[int, ...]:
    """Which dimension of the operand each dimension of the result is."""
    name, order = operation(node), list(range(rank))
    if name == "permute":
        return tuple(d % rank for d in arguments(node)[1])
    a, b = (d % rank for d in arguments(node)[1:3]) if name == "transpose" else (0, rank - 1)
    order[a], order[b] = order[b], order[a]
    return tuple(order)


def reduced_of(node: fx.Node, size: Sequence[int]) -> tuple[tuple[int, ...], bool] | None:
    """Dimensions that a sum or mean is over, and whether they are kept."""
    if (
        len(arguments(node)) < 2
        or not isinstance(arguments(node)[1], list | tuple)
        or not arguments(node)[1]
        or node.kwargs
    ):
        return None
    return tuple(d % len(size) for d in arguments(node)[1]), bool(arguments(node)[2]) if len(
        arguments(node)
    ) > 2 else False


def place_of(node: fx.Node, size: Sequence[int]) -> tuple[int, int]:
    """The dimension that a piece was split along, and where in it the piece starts."""
    items, index = arguments(node)[0], arguments(node)[1]
    dim, lengths = dim_of(items, 2, size), arguments(items)[1]
    assert isinstance(index, int)
    return dim, index * lengths if isinstance(lengths, int) else sum(lengths[:index])


def offset_of(node: fx.Node, piece: fx.Node) -> int | None:
    """Where in a concatenation a piece begins; None where it is there twice, or lengths are not known."""
    pieces, shape = list(arguments(node)[0]), shape_of(node) or ()
    dim = dim_of(node, 1, shape)
    lengths: list[int | None] = []
    for p in pieces:
        size = shape_of(p)  # an empty piece may have another rank
        lengths.append(None if size is None else 0 if 0 in size else size[dim])
    known = [length for length in lengths if length is not None]
    if len(known) == len(lengths) - 1:  # a zero of forward mode has no recorded shape
        lengths[lengths.index(None)] = shape[dim] - sum(known)
    if None in lengths or pieces.count(piece) != 1:
        return None
    return sum(length or 0 for length in lengths[: pieces.index(piece)])


def asked_of(node: fx.Node, operand: fx.Node, wanted: Window, size: tuple[int, ...]) -> Window:
    """The part of an operand that a part of the result needs."""
    name, every = operation(node), full(size)
    if name in ELEMENTWISE or name == "expand":
        lead = len(wanted) - len(size)
        return tuple((0, 1) if n == 1 else wanted[lead + d] for d, n in enumerate(size))
    if name in RENAMING:
        return reshaped(wanted, shape_of(node) or (), size)[1]
    if name in ("transpose", "t", "permute"):
        order = order_of(node, len(size))
        return tuple(wanted[order.index(d)] for d in range(len(size)))
    if name in ("mm", "bmm"):
        first = operand is arguments(node)[0]
        return (*wanted[:-2], wanted[-2], every[-1]) if first else (*wanted[:-2], every[-2], wanted[-1])
    if name in ("sum", "mean") and reduced_of(node, size) is not None:
        reduced, keep = reduced_of(node, size) or ((), True)
        kept = iter(wanted if not keep else [w for d, w in enumerate(wanted) if d not in reduced])
        return tuple(every[d] if d in reduced else next(kept) for d in range(len(size)))
    if name == "_softmax_backward_data":
        return but(wanted, every, dim_of(node, 2, size))
    if name == "getitem" and operation(arguments(node)[0]) == "native_layer_norm_backward":
        lead = len(size) - len(arguments(arguments(node)[0])[2])
        return (*wanted[:lead], *every[lead:])
    if name == "getitem":
        dim, start = place_of(node, size)
        return (*wanted[:dim], (wanted[dim][0] + start, wanted[dim][1] + start), *wanted[dim + 1 :])
    if name == "slice" and step_of(node) == 1:
        dim, start = dim_of(node, 1, size), start_of(node, size)
        return (*wanted[:dim], (wanted[dim][0] + start, wanted[dim][1] + start), *wanted[dim + 1 :])
    if name == "select":
        dim = dim_of(node, 1, size)
        index = arguments(node)[2] % size[dim]
        return (*wanted[:dim], (index, index + 1), *wanted[dim:])
    if name == "cat" and (offset := offset_of(node, operand)) is not None:
        dim = dim_of(node, 1, size)
        inside = max(wanted[dim][0] - offset, 0), min(wanted[dim][1] - offset, size[dim])
        return (*wanted[:dim], inside if inside[0] < inside[1] else (0, min(1, size[dim])), *wanted[dim + 1 :])
    if name == "select_backward":
        dim = arguments(node)[2] % len(wanted)
        return (*wanted[:dim], *wanted[dim + 1 :])
    return every
