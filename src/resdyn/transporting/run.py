"""Model + data -> the mean transport from every depth to the end, with its error."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn._numerics import plain_arithmetic
from resdyn.capturing.executor import check_workers
from resdyn.capturing.run import stream_for, whole_inputs
from resdyn.capturing.selection import Data, LabelledInputs, choose
from resdyn.errors import InputError
from resdyn.models import LoadedModel
from resdyn.progress import show_progress as progress_shown
from resdyn.provenance import machine, versions
from resdyn.stream import Granularity, ResidualStream
from resdyn.stream.exclusive import one_at_a_time
from resdyn.stream.inputs import check_model
from resdyn.stream.placement import model_device
from resdyn.stream.tail_map import Pullback, TailMap, Target
from resdyn.stream.verify import taken_as_current
from resdyn.transporting.fit import Fit
from resdyn.transporting.lens import Transport
from resdyn.transporting.plan import Plan
from resdyn.transporting.positions import token_mask, valid_positions
from resdyn.transporting.reductions import DEFINITIONS, NAMES, Channels, Name, Reduction, checked_reduction

CHUNKS = 8  # tasks of a run, where nothing else is asked for: what it keeps on disk until it ends
TRACED_ROWS = 128  # backward passes from which on tracing them pays
SKIP_FIRST, SKIP_LAST = 16, 1  # attention sinks; no next token


@plain_arithmetic()
def transport(
    model: nn.Module | LoadedModel,
    data: Data,
    store: str | Path | None = None,
    *,
    depths: Sequence[int] | None = None,
    to: Literal["final", "logits"] | int = "final",
    reduction: Name | None = None,
    samples: int | Sequence[int] | None = None,
    skip_first: int | None = None,
    skip_last: int | None = None,
    mask: Tensor | None = None,
    average_targets: bool = False,
    channels: Channels | None = None,
    until: float | None = None,
    seed: int = 0,
    granularity: Granularity | None = None,
    shared: Sequence[str] = (),
    chunk_size: int | None = None,
    workers: int = 0,
    scheduler: str | None = None,
    stream: ResidualStream | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
    command: str | None = None,
) -> Transport:
    """The mean transport ``J_l = E[d h_target / d h_l]`` from every depth l, over samples, with its standard error.

    How a change of the state at depth l arrives at the end of the network, to first order, on average: for language
    models what is called the Jacobian lens, for classifiers (``to="logits"``) the class lens ``K J_l``. One pass of the
    model and one backward pass per row serve all depths, and samples are streamed: memory does not grow with them. A
    run that is stopped, even killed, loses one task, and the same call resumes it.

    Args:
        model: A module in eval mode, or what `load_model` returned.
        data: As `capture` takes it: ids (N, T) for a language model, with a mapping of arrays where there is a mask.
        store: Folder of the store, made or resumed. None: in memory.
        depths: From which states h_l, counted from 0 (default: all before the target).
        to: Target: "final", the last state h_L, before a final norm; "logits", what the model returns; or a depth.
        reduction: From derivatives between all positions to one matrix. Default: "sum" for states (tokens, width),
            "pool" for images of channels, else "flat".

            - "sum": mean over the valid positions t of the sum over the valid positions t' of d target[t'] / d h_l[t];
              the definition of published lenses, in which a causal model has no effect on t' < t. Norms grow with the
              length of samples, since effects on later tokens are summed;
            - "self": d target[p] / d h_l[p], mean over the valid positions; costs a "sum" per position;
            - "flat": the whole state, flattened row-major;
            - "pool": for images, the mean of the target over all places with respect to a channel at all places.
        samples: How many to draw with `seed`, or their indices in the data (default: all).
        skip_first: Tokens at the start of a sample that do not count: attention sinks (default: 16 for token ids,
            else 0). Padding is not counted.
        skip_last: Tokens at the end that do not count: there is no next token (default: 1 for token ids, else 0).
        mask: (N, T), 1 where a token is and 0 where padding is, for all of the data (default: the input
            `attention_mask`, where there is one).
        average_targets: Divide the effect of each position by the number of positions that it reaches ("sum").
        channels: For "pool", whether images are (channels, height, width), "first", or (height, width, channels),
            "last" (default: read from the sides of equal length).
        until: Stop when the relative Frobenius error of the mean is at most this at every depth, looked at after
            every task (default: measure all samples).
        seed: Of the draw of samples, and of the random signs.
        granularity: "layer" or "join" (see `find_stream`; default: that of `stream`, else "layer").
        shared: Names of inputs that are the same for all samples.
        chunk_size: Samples per task (default: an eighth of all). A run keeps the moments of every task until it ends.
        workers: 0 measures in this process, N in N local ones.
        scheduler: Address of a running dask.distributed scheduler, whose workers see the same files.
        stream: The model's stream, where it is at hand or was named by hand.
        overwrite: Replace a store at `store`, whatever its settings.
        show_progress: Bars on the standard error of a terminal.
        command: Recorded as what was called (default: the command of this process).

    Returns:
        The lens, with its matrices, their errors, and what to do with them (`Transport`).

    Raises:
        InputError: For a sample without a valid position (it is named), for states that the reduction does not fit,
            and as for `capture`.
        StoreError: For a store of other settings, in use by another run, foreign or unwritable.
        ComputationError: If a transport is not finite; it names the sample.

    Cost:
        Per sample one pass and `rows` backward passes from the target to the first depth, about
        2 x parameters x tokens x rows operations; memory of 3 x depths x rows x columns numbers.

    Source:
        Lagzi (2021), appendix A, equations 9 and 10, at one sample; Gurnee et al. (2026), "Verbalizable
        Representations Form a Global Workspace in Language Models", the mean over a corpus ("sum"). Where a model is
        not causal, effects on earlier positions count as well; `causal` is recorded.

    Example:
        >>> import torch, resdyn
        >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
        >>> lens = resdyn.transport(model, torch.randn(5, 3), show_progress=False)
        >>> lens
        Transport(2 depths to h_2, flat, 5 samples)
        >>> tuple(lens[0].shape)
        (4, 4)
    """
    seed, until = checks.seed(seed), None if until is None else _until(until)
    shared, average = checks.words("shared", shared), checks.flag("average_targets", average_targets)
    workers, show_progress = check_workers(workers, scheduler), checks.flag("show_progress", show_progress)
    place = None if store is None else checks.new_folder("store", store)
    if place is None and (scheduler is not None):
        raise InputError("got store=None with a scheduler, whose workers write to a folder; name a store")
    if reduction is not None:
        checks.one_of("reduction", reduction, NAMES)
    with one_at_a_time, progress_shown(show_progress):
        module = check_model(model.model if isinstance(model, LoadedModel) else model)
        inputs = whole_inputs(model, module, data, shared)
        stream = _stream(module, inputs, stream, granularity)
        asked, target = _depths_and_target(stream, depths, to)
        rows = _rows(inputs, samples, seed)
        trace = len(rows) * TailMap(stream, asked, target).target_shape[-1] >= TRACED_ROWS
        tail = TailMap(stream, asked, target, trace)
        name, side = checked_reduction(reduction, tail.target_shape, tuple(tail.source_shapes), channels)
        valid, positions = _positions(inputs, rows, name, tail, skip_first, skip_last, mask)
        pullback = _first(stream, inputs, rows, tail)
        causal = name in ("sum", "self") and _is_causal(pullback, tail, None if valid is None else valid[0])
        reduced = Reduction(name, tail.target_shape, tuple(tail.source_shapes), average, causal, side)
        plan = Plan(
            model=model if isinstance(model, LoadedModel) else module,
            stream=stream,
            data=inputs,
            samples=rows,
            valid=valid,
            tail=tail,
            target=target,
            trace=trace,
            reduction=reduced,
            positions=positions,
            seed=seed,
            chunk_size=checks.optional_whole("chunk_size", chunk_size, 1) or -(-len(rows) // CHUNKS),
            until=until,
        )
    fit = Fit(plan, workers, scheduler, show_progress, _provenance(plan, command))
    if place is None:
        with tempfile.TemporaryDirectory(prefix="resdyn-") as folder:
            return Transport(fit.into(Path(folder) / "lens.zarr").load())
    return Transport(fit.into(place, checks.flag("overwrite", overwrite)))


def _stream(
    module: nn.Module, inputs: LabelledInputs, stream: ResidualStream | None, granularity: Granularity | None
) -> ResidualStream:
    if stream is not None and stream.position is not None:
        raise InputError(f"got a stream at position {stream.position!r}; pass the stream of all tokens, stream.whole")
    default = "layer" if stream is None else stream.granularity
    return stream_for(module, inputs, stream, None, granularity or default).whole


def _until(until: Any) -> float:
    return checks.number("until", until, "a relative error above 0 and below 1", above=0, below=1)


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


def _rows(inputs: LabelledInputs, samples: int | Sequence[int] | None, seed: int) -> Tensor:
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


def _provenance(plan: Plan, command: str | None) -> dict[str, Any]:
    of_model = plan.model.notes if isinstance(plan.model, LoadedModel) else ()
    name = plan.model.name if isinstance(plan.model, LoadedModel) else type(plan.model).__name__
    return {
        "model": name,
        "versions": versions("xarray"),
        "machine": machine(model_device(plan.stream.model)),
        "command": shlex.join(sys.argv) if command is None else checks.text("command", command),
        "definition": DEFINITIONS[plan.reduction.name],
        "num_depths": len(plan.stream) + 1,
        "sample_digests": plan.digests(),
        "notes": [*of_model, *plan.stream.notes, *plan.data.notes],
    }
