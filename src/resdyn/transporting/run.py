"""Model + data -> the mean transport from every depth to the end, with its error."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn._numerics import plain_arithmetic
from resdyn.capturing.executor import check_workers
from resdyn.capturing.selection import Data
from resdyn.errors import InputError
from resdyn.models import LoadedModel
from resdyn.progress import show_progress as progress_shown
from resdyn.provenance import machine, versions
from resdyn.stream import Granularity, ResidualStream
from resdyn.stream.exclusive import one_at_a_time
from resdyn.stream.placement import model_device
from resdyn.transporting.fit import Fit
from resdyn.transporting.lens import Transport
from resdyn.transporting.plan import Plan
from resdyn.transporting.preparing import prepare
from resdyn.transporting.reductions import DEFINITIONS, NAMES, Channels, Name
from resdyn.transporting.rounding import products_error

CHUNKS = 8  # tasks of a run, where nothing else is asked for: what it keeps on disk until it ends
NARROW = {"bfloat16": torch.bfloat16}
TRACED_ROWS = 128  # backward passes from which on tracing them pays


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
    products: Literal["bfloat16"] | None = None,
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
        products: "bfloat16" rounds the factors of matrix products of a model in single precision, where the machine
            multiplies these faster; sums stay in single precision. The difference that it makes to the mean of the
            first two samples is measured and recorded as `products_error`, and refused above 2 % (default: the model's
            own precision).
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
    narrow = None if products is None else NARROW[checks.one_of("products", products, tuple(NARROW))]
    workers, show_progress = check_workers(workers, scheduler), checks.flag("show_progress", show_progress)
    place = None if store is None else checks.new_folder("store", store)
    if place is None and (scheduler is not None):
        raise InputError("got store=None with a scheduler, whose workers write to a folder; name a store")
    if reduction is not None:
        checks.one_of("reduction", reduction, NAMES)
    with one_at_a_time, progress_shown(show_progress):
        found = prepare(
            model,
            data,
            depths=depths,
            to=to,
            reduction=reduction,
            samples=samples,
            skip_first=skip_first,
            skip_last=skip_last,
            mask=mask,
            seed=seed,
            granularity=granularity,
            stream=stream,
            traced_rows=TRACED_ROWS,
            shared=shared,
            average_targets=average,
            channels=channels,
            products=narrow,
        )
        error = None if narrow is None else products_error(found)
        chunk = checks.optional_whole("chunk_size", chunk_size, 1) or -(-len(found.samples) // CHUNKS)
        plan = Plan(model, found, seed, chunk, until)
    recorded = _provenance(plan, command) | ({} if error is None else {"products_error": error})
    fit = Fit(plan, workers, scheduler, show_progress, recorded)
    if place is None:
        with tempfile.TemporaryDirectory(prefix="resdyn-") as folder:
            return Transport(fit.into(Path(folder) / "lens.zarr").load())
    return Transport(fit.into(place, checks.flag("overwrite", overwrite)))


def _until(until: Any) -> float:
    return checks.number("until", until, "a relative error above 0 and below 1", above=0, below=1)


def _provenance(plan: Plan, command: str | None) -> dict[str, Any]:
    stream, of_model = plan.stream, plan.model.notes if isinstance(plan.model, LoadedModel) else ()
    name = plan.model.name if isinstance(plan.model, LoadedModel) else type(plan.model).__name__
    return {
        "model": name,
        "versions": versions("xarray"),
        "machine": machine(model_device(stream.model)),
        "command": shlex.join(sys.argv) if command is None else checks.text("command", command),
        "definition": DEFINITIONS[plan.reduction.name],
        "num_depths": len(stream) + 1,
        "coverage": asdict(stream.coverage),
        "sample_digests": plan.digests(),
        "notes": [*of_model, *stream.notes, *stream.coverage.notes, *plan.data.notes],
    }
