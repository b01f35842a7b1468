"""What is measured, decided before anything is: the stream, depths and target, samples and their valid positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn.capturing.run import stream_for, whole_inputs
from resdyn.capturing.selection import Data, LabelledInputs, choose
from resdyn.errors import InputError
from resdyn.models import LoadedModel
from resdyn.stream import Granularity, ResidualStream
from resdyn.stream.inputs import check_model
from resdyn.stream.placement import model_device
from resdyn.stream.tail_map import Pullback, TailMap, Target
from resdyn.stream.verify import taken_as_current
from resdyn.transporting.positions import token_mask, valid_positions
from resdyn.transporting.reductions import Channels, Name, Reduction, checked_reduction

SKIP_FIRST, SKIP_LAST = 16, 1  # attention sinks; no next token


@dataclass(frozen=True)
class Prepared:
    """A transport before it is measured; `samples` are rows of `inputs`, `valid` their positions (None: no tokens)."""

    stream: ResidualStream
    inputs: LabelledInputs
    samples: Tensor
    tail: TailMap
    trace: bool
    target: Target
    reduction: Reduction
    valid: Tensor | None
    positions: dict[str, Any]
    products: torch.dtype | None = None


def prepare(
    model: nn.Module | LoadedModel,
    data: Data,
    *,
    depths: Sequence[int] | None,
    to: Literal["final", "logits"] | int,
    reduction: Name | None,
    samples: int | Sequence[int] | None,
    skip_first: int | None,
    skip_last: int | None,
    mask: Tensor | None,
    seed: int,
    granularity: Granularity | None,
    stream: ResidualStream | None,
    traced_rows: int,
    shared: tuple[str, ...] = (),
    average_targets: bool = False,
    channels: Channels | None = None,
    products: torch.dtype | None = None,
) -> Prepared:
    """Everything that `transport` decides of its arguments; derivatives of many rows, `traced_rows`, are traced."""
    module = check_model(model.model if isinstance(model, LoadedModel) else model)
    inputs = whole_inputs(model, module, data, shared)
    stream = _stream(module, inputs, stream, granularity)
    asked, target = _depths_and_target(stream, depths, to)
    rows = chosen_rows(inputs, samples, seed)
    trace = len(rows) * TailMap(stream, asked, target).target_shape[-1] >= traced_rows
    tail = TailMap(stream, asked, target, trace, products)
    shapes = tail.target_shape, tuple(tail.source_shapes)
    name, side = checked_reduction(reduction, *shapes, channels)
    valid, positions = _positions(inputs, rows, name, tail, skip_first, skip_last, mask)
    pullback = _first(stream, inputs, rows, tail)
    causal = name in ("sum", "self") and _is_causal(pullback, tail, None if valid is None else valid[0])
    reduced = Reduction(name, *shapes, average_targets, causal, side)
    return Prepared(stream, inputs, rows, tail, trace, target, reduced, valid, positions, products)


def _stream(
    module: nn.Module, inputs: LabelledInputs, stream: ResidualStream | None, granularity: Granularity | None
) -> ResidualStream:
    if stream is not None and stream.position is not None:
        raise InputError(f"got a stream at position {stream.position!r}; pass the stream of all tokens, stream.whole")
    default = "layer" if stream is None else stream.granularity
    return stream_for(module, inputs, stream, None, granularity or default).whole


def _depths_and_target(
    stream: ResidualStream, depths: Sequence[int] | None, to: str | int
) -> tuple[tuple[int, ...], Target]:
    last = len(stream)
    if isinstance(to, str):
        target: Target = last if checks.one_of("to", to, ("final", "logits")) == "final" else "logits"
    else:
        target = checks.whole("to", to, 1, last)
    end = last if isinstance(target, str) else target
    asked = range(end + isinstance(target, str)) if depths is None else checks.wholes("depths", depths)
    wrong = [depth for depth in asked if not 0 <= depth <= end]
    if wrong or len(set(asked)) != len(asked) or not asked:
        raise InputError(f"got depths={list(asked)}, expected different depths from 0 to {end}, up to the target")
    return tuple(sorted(asked)), target


def chosen_rows(inputs: LabelledInputs, samples: int | Sequence[int] | None, seed: int) -> Tensor:
    if samples is None:
        return torch.arange(len(inputs))
    if isinstance(samples, bool | int | float | str):
        return choose(inputs, checks.whole("samples", samples, 1), seed)
    return inputs.rows_of(checks.wholes("samples", samples))


def _positions(
    inputs: LabelledInputs,
    rows: Tensor,
    name: str,
    tail: TailMap,
    skip_first: int | None,
    skip_last: int | None,
    mask: Tensor | None,
) -> tuple[Tensor | None, dict[str, Any]]:
    """Valid positions of the chosen samples, and how they were chosen."""
    asked = {"skip_first": skip_first, "skip_last": skip_last, "mask": mask}
    if name not in ("sum", "self"):
        given = [key for key, value in asked.items() if value is not None]
        if given:
            raise InputError(f"got {', '.join(given)} with reduction='{name}', which has no positions; leave it out")
        return None, {}
    ids = not any(values.is_floating_point() for values in inputs.read(rows[:1]).named.values())
    first = SKIP_FIRST * ids if skip_first is None else checks.whole("skip_first", skip_first)
    last = SKIP_LAST * ids if skip_last is None else checks.whole("skip_last", skip_last)
    tokens = tail.source_shapes[0][0]
    if mask is not None and (not isinstance(mask, Tensor) or tuple(mask.shape) != (len(inputs), tokens)):
        raise checks.wrong("mask", mask, f"a tensor ({len(inputs)}, {tokens}), one number per sample and token")
    parts = []
    for some in rows.split(256):
        there = token_mask(inputs.read(some), tokens, None if mask is None else mask[some])
        parts.append(valid_positions(there, first, last, inputs.index[some].tolist()))
    valid = torch.cat(parts)
    counts = valid.sum(1)
    return valid, {
        "skip_first": first,
        "skip_last": last,
        "tokens": tokens,
        "valid_least": int(counts.min()),
        "valid_most": int(counts.max()),
    }


def _first(stream: ResidualStream, inputs: LabelledInputs, rows: Tensor, tail: TailMap) -> Pullback:
    first = inputs.read(rows[:1]).to(model_device(stream.model))
    with taken_as_current():
        return tail.at(stream.states(*first.args, **first.kwargs))


def _is_causal(pullback: Pullback, tail: TailMap, valid: Tensor | None) -> bool:
    """Whether the target at a position in the middle depends on no later position of the states."""
    if valid is None or len(tail.target_shape) != 2:
        return False
    places = valid.nonzero().flatten()
    middle = int(places[len(places) // 2])
    tokens, width = tail.target_shape
    generator = torch.Generator().manual_seed(0)
    cotangent = torch.zeros(1, tokens, width, dtype=pullback.dtype)
    cotangent[0, middle] = torch.randn(width, generator=generator, dtype=torch.float64)
    moved = pullback(cotangent.to(model_device(tail.stream.model)))
    return all(not bool(value[0, middle + 1 :].any()) for value in moved)
