"""Model + data + probes -> store: the one place that composes them."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn import store as stores
from resdyn._numerics import plain_arithmetic
from resdyn._version import __version__
from resdyn.capturing.executor import check_workers, run_tasks
from resdyn.capturing.plan import Plan
from resdyn.capturing.selection import (
    Data,
    LabelledInputs,
    choose,
    labelled_inputs,
    notes_on_classes,
    number_of_classes,
)
from resdyn.capturing.worker import run_task
from resdyn.data import ImageData
from resdyn.errors import InputError
from resdyn.models import LoadedModel
from resdyn.probes import Probe, fit_probes, resolve_probes, traits
from resdyn.probes.check import check_labelled
from resdyn.probes.trajectory import logits_of
from resdyn.progress import shown
from resdyn.store.lock import locked
from resdyn.stream import KINDS, Granularity, Kind, Position, Stream, find_stream
from resdyn.stream.exclusive import one_at_a_time
from resdyn.stream.inputs import check_model
from resdyn.stream.placement import model_device, model_dtype
from resdyn.stream.token import plain_position
from resdyn.stream.verify import check_current, taken_as_current

DEFAULT_PROBES = "trajectory,singular,coupling,spectrum,features"
PROBES_WITHOUT_CLASSES = "trajectory,singular,coupling,spectrum"
LIGHT_CHUNK = 64


@plain_arithmetic()
def capture(
    model: nn.Module | LoadedModel,
    data: Data,
    probes: str | Sequence[str | Probe] | None = None,
    store: str | Path = "resdyn.zarr",
    *,
    samples: int | Sequence[int] = 16,
    seed: int = 0,
    kind: Kind = "gated",
    position: Position | None = None,
    granularity: Granularity = "join",
    chunk_size: int | None = None,
    feature_samples: int | None = None,
    workers: int = 0,
    scheduler: str | None = None,
    stream: Stream | None = None,
    quiet: bool = False,
    command: str | None = None,
    notes: Sequence[str] = (),
    training: Sequence[dict[str, Any]] = (),
) -> xr.Dataset:
    """Measure a model on data and keep the answers in a store, which is returned opened.

    data: images (`load_data`), windows of text (`load_text`), inputs, or a tuple (inputs, labels), where inputs are a
    tensor (N, ...), or tensors by the names of the model's arguments, such as a tokenizer's batch with its mask;
    without labels nothing is said about classes, and the `features` probe is refused. probes: as text or objects;
    None: trajectory, singular, coupling, spectrum, and features for classes and the whole state.
    samples: how many to draw, balanced over classes with `seed`, or their indices in the data split.
    kind: the reading of a block's Jacobian, "gated", "branch" or "block". position: measure one token of states of
    shape (tokens, width) instead of the whole (see `ResidualStream.at`). granularity: "join" or "layer" (see
    `find_stream`). feature_samples: how many samples
    the `features` probe reads (None: all). chunk_size: samples for each task (None: one if Jacobians or
    robustness are asked for, else 64). stream: the model's stream, where it is at hand or was named by hand.
    workers, scheduler: see `run_tasks` (a script that asks for workers needs the usual
    `if __name__ == "__main__":`). quiet: no progress bar.

    A run that is stopped, however, leaves a store that opens, and the same call finishes it: the result
    equals that of an undisturbed run. Every sample is measured alone and with a seed of its own, so nothing
    depends on chunks, on order or on the number of workers (beyond the rounding of torch's thread count).
    One run at a time writes a store; captures in threads of one process take turns, task by task. The model's name,
    machine, versions, `command` (default: that of this process), `notes` for a reader and the rows of a training
    `Monitor` are recorded by the first run; no other setting may differ later.

    Raises `InputError` for a model in training mode or with weights that are not finite, for data that are
    empty or do not fit it, for k beyond a block's size; `StoreError` for a store of other settings, in use
    by another run, foreign or unwritable; `ComputationError`, naming sample and block, if one fails.
    """
    kind, seed, store = checks.one_of("kind", kind, KINDS), checks.seed(seed), checks.new_folder("store", store)
    workers, quiet = check_workers(workers, scheduler), checks.flag("quiet", quiet)
    notes, command = checks.words("notes", notes), None if command is None else checks.text("command", command)
    training, position = checks.plain("training", training), None if position is None else plain_position(position)
    with one_at_a_time:
        module = check_model(model.model if isinstance(model, LoadedModel) else model)
        inputs = _inputs(model, module, data)
        asked = _probes(probes, data, stream.position if position is None and stream is not None else position)
        _check_precision(module, asked)
        with shown(quiet):
            stream = _stream(module, inputs, stream, position, granularity)
        with taken_as_current():
            logits = _number_of_logits(stream, inputs)
        num_classes = number_of_classes(inputs, logits)
        asked = fit_probes(asked, stream)
        plan = Plan(
            model=model if isinstance(model, LoadedModel) else module,
            stream=stream,
            data=inputs,
            probes=asked,
            samples=_chosen(inputs, samples, seed, asked),
            read=_read(inputs, feature_samples, seed),
            num_classes=num_classes,
            notes=notes_on_classes(num_classes, logits),
            kind=kind,
            seed=seed,
            chunk_size=_chunk_size(chunk_size, asked),
        )
    _run(plan, store, workers, scheduler, quiet, _provenance(plan, command, notes, training))
    return stores.open_store(store)


def _run(plan: Plan, store: Path, workers: int, scheduler: str | None, quiet: bool, provenance: dict[str, Any]) -> None:
    settings = plan.settings()
    with locked(store):
        regions = plan.layout.regions
        if stores.exists(store):
            stores.check_resumable(store, settings)
            regions = stores.stored_regions(store, plan.layout)
        else:
            stores.create_store(store, plan.layout, settings, provenance)
        done = stores.done_tasks(store)
        todo = [task for task in plan.tasks(regions) if not done[task.payload.number]]
        run_tasks(run_task, todo, plan.job(str(store)), workers=workers, scheduler=scheduler, quiet=quiet)


def _check_precision(module: nn.Module, probes: tuple[Probe, ...]) -> None:
    """Spectra of Jacobians need single precision: said before a store is begun."""
    precision = model_dtype(module)
    if precision not in (torch.float32, torch.float64) and any(
        traits(probe).needs_single_precision for probe in probes
    ):
        raise InputError(
            f"got a model in {precision}, in which singular values and eigenvalues cannot be computed; measure it in "
            "single precision: model.float(), or dtype=torch.float32 where it is loaded"
        )


def _inputs(model: nn.Module | LoadedModel, module: nn.Module, data: Any) -> LabelledInputs:
    if isinstance(model, LoadedModel) and isinstance(data, ImageData) and data.preprocessing is None:
        data = data.prepared(model.preprocessing)
    return labelled_inputs(data, model_dtype(module))


def _probes(probes: str | Sequence[str | Probe] | None, data: Any, position: Position | None) -> tuple[Probe, ...]:
    if probes is None:
        classes = isinstance(data, ImageData | tuple) and position is None
        return resolve_probes(DEFAULT_PROBES if classes else PROBES_WITHOUT_CLASSES)
    asked = resolve_probes(probes)
    check_labelled(asked, not isinstance(data, Tensor | Mapping))
    if position is not None and (wrong := [p.name for p in asked if traits(p).whole_state_only]):
        raise InputError(f"{', '.join(wrong)}: measured for the whole state only; leave out the probe or position")
    return asked


def _stream(
    module: nn.Module,
    inputs: LabelledInputs,
    stream: Stream | None,
    position: Position | None,
    granularity: Granularity,
) -> Stream:
    if stream is None:
        # Two samples, so that a model which mixes the samples of a batch is noticed.
        two = inputs.read(torch.arange(min(2, len(inputs)))).to(model_device(module))
        stream = find_stream(module, *two.args, granularity=granularity, **two.kwargs)
    elif stream.model is not module:
        raise InputError("got a stream of another model; find it in the model that is captured")
    elif granularity not in ("join", stream.granularity):
        raise InputError(f"got granularity={granularity!r} and a stream of granularity {stream.granularity!r}")
    else:
        whole = stream.whole
        first = inputs.read(torch.tensor([0])).to(model_device(module))
        whole._follow()
        check_current(whole, first.args, first.kwargs)
    if position is None:
        return stream
    if stream.position is not None:
        raise InputError(f"got position={position!r} and a stream at position {stream.position!r}; give one of them")
    return stream.whole.at(position)


def _number_of_logits(stream: Stream, inputs: LabelledInputs) -> int | None:
    first = inputs.read(torch.tensor([0])).to(model_device(stream.model))
    logits = logits_of(stream.states(*first.args, **first.kwargs).output)
    return None if logits is None else logits.shape[1]


def _chosen(inputs: LabelledInputs, samples: int | Sequence[int], seed: int, probes: Sequence[Probe]) -> Tensor:
    if not any(traits(probe).per_sample for probe in probes):
        samples = 1  # none is measured alone; this one identifies the data
    if isinstance(samples, bool | int | float | np.number | str):  # one number, or what is none
        return choose(inputs, checks.whole("samples", samples, 1), seed)
    return inputs.positions_of(checks.wholes("samples", samples))


def _read(inputs: LabelledInputs, feature_samples: int | None, seed: int) -> LabelledInputs:
    """What probes read that pass over the data."""
    count = checks.optional_whole("feature_samples", feature_samples, 1)
    return inputs if count is None else inputs.subset(choose(inputs, count, seed))


def _chunk_size(chunk_size: int | None, probes: Sequence[Probe]) -> int:
    if chunk_size is None:
        light = all(traits(probe).light for probe in probes)
        return LIGHT_CHUNK if light else 1
    return checks.whole("chunk_size", chunk_size, 1)


def _provenance(
    plan: Plan, command: str | None, notes: Sequence[str], training: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    device = model_device(plan.stream.model)
    of_model = plan.model.notes if isinstance(plan.model, LoadedModel) else ()
    return {
        "model": plan.model_name,
        "versions": {
            "resdyn": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "xarray": xr.__version__,
        },
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        },
        "command": shlex.join(sys.argv) if command is None else command,
        "output_reading": plan.stream.readout.reading,
        "notes": [*of_model, *plan.stream.notes, *plan.stream.readout.notes, *plan.data.notes, *plan.notes, *notes],
        "training": list(training),
    }
