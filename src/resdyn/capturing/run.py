"""Model + data + probes -> store: the one place that composes them."""

from __future__ import annotations

import shlex
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn import store as stores
from resdyn._numerics import plain_arithmetic
from resdyn.capturing.cost import Cost
from resdyn.capturing.executor import check_workers, run_tasks, tell_resuming
from resdyn.capturing.extension import Earlier, begin_extension, is_extension
from resdyn.capturing.plan import Plan
from resdyn.capturing.selection import (
    ONE_LOGIT,
    Data,
    LabelledInputs,
    choose,
    labelled_inputs,
    notes_on_classes,
    number_of_classes,
)
from resdyn.capturing.worker import run_task
from resdyn.data import ImageData, TokenData
from resdyn.errors import InputError
from resdyn.models import LoadedModel
from resdyn.probes import Probe, fit_probes, resolve_probes, traits
from resdyn.probes.check import check_labelled
from resdyn.probes.trajectory import logits_of
from resdyn.progress import show_progress as progress_shown
from resdyn.provenance import machine, versions
from resdyn.store import place
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
SAMPLES = 16  # measured one by one where nothing else is said


@plain_arithmetic()
def capture(
    model: nn.Module | LoadedModel,
    data: Data,
    probes: str | Sequence[str | Probe] | None = None,
    store: str | Path | None = "resdyn.zarr",
    *,
    samples: int | Sequence[int] | None = None,
    seed: int = 0,
    kind: Kind = "gated",
    position: Position | None = None,
    granularity: Granularity = "join",
    shared: Sequence[str] = (),
    chunk_size: int | None = None,
    feature_samples: int | None = None,
    workers: int = 0,
    scheduler: str | None = None,
    stream: Stream | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
    command: str | None = None,
    notes: Sequence[str] = (),
    training: Sequence[dict[str, Any]] = (),
    quiet: bool | None = None,
) -> xr.Dataset:
    """Measure a model on data and keep the results in a store, which is returned opened.

    A run that is stopped, even killed, leaves a store that opens, and the same call finishes it: the result equals that
    of an uninterrupted run. The same call with more `samples` (more of them drawn, or more indices) on a finished store
    measures the new ones alone; until they are there, the store stays as it was. Every sample is measured alone and
    with a seed of its own, so nothing depends on chunks, on order or on the number of workers (beyond the rounding of
    torch's thread count). One run at a time writes a store; captures in threads of one process take turns, task by
    task.

    Args:
        model: A module in eval mode, or what `load_model` returned.
        data: What to measure on:

            - images (`load_data`) or windows of text (`load_text`);
            - inputs alone: an array (N, ...) (a tensor, NumPy's, also mapped from a file, or a list), or a mapping of
              arrays by the names of the model's arguments, such as a tokenizer's batch with its mask;
            - a tuple (inputs, labels), labels int (N,) of any width, or one-hot (N, C); a batch [inputs, labels] of a
              DataLoader;
            - a data set with `len` and indices whose items are (input, label), inputs, or mappings with a `label`
              (`torch.utils.data.Dataset`, of torchvision, of Hugging Face, a list of pairs), or a `DataLoader` of one:
              read by index when a sample is measured, in the order of the data set whether the loader shuffles or not.
              Samples must be the same at every reading.

            Images, NumPy's floats and samples of data sets are converted to the model's dtype; tensors must come in it.
            Without labels nothing is said about classes, and the `features` probe is refused. A model of one logit
            with labels 0 and 1 is a classifier of two classes (class 1 where the logit is positive).
        probes: Text such as "trajectory,singular(k=30)", or objects of `resdyn.probes`. None: trajectory, singular,
            coupling, spectrum, and features where there are classes and the whole state is measured.
        store: Folder of the store, made or resumed, or a URL such as "s3://bucket/name.zarr" (extra `s3`), which is
            neither extended nor overwritten. None: in memory; what is returned is all there is.
        samples: How many to draw, balanced over classes with `seed` (a larger draw holds a smaller one), or their
            indices in the data (default: 16, or all where there are fewer).
        seed: Of the draw, and of every random number in a probe.
        kind: The reading of a block's Jacobian: "gated", "branch" or "block" (see `ResidualStream.jacobian`).
        position: Measure one token of states of shape (tokens, width) instead of the whole (see `ResidualStream.at`).
        granularity: "join" or "layer" (see `find_stream`).
        shared: Names of inputs that are the same for all samples, such as a mask of tokens by tokens.
        chunk_size: Samples per task. None: 1 if Jacobians or robustness are asked for, else 64.
        feature_samples: How many samples the `features` probe reads. None: all.
        workers: 0 measures in this process, N in N local ones (a script then needs the usual
            `if __name__ == "__main__":`).
        scheduler: Address of a running dask.distributed scheduler, whose workers see the same files.
        stream: The model's stream, where it is at hand or was named by hand.
        overwrite: Replace a store at `store`, whatever its settings. What resdyn did not write is never replaced, and
            the old store stays where the new run fails to start.
        show_progress: Bars on the standard error of a terminal, lines in a log. A capture of half a minute and more
            says what it will cost as soon as a part of it was timed: time and size of the store, both estimated.
        command: Recorded as what was called. None: the command of this process.
        notes: For a reader of the results; recorded.
        training: Rows of a `Monitor`; recorded.
        quiet: The opposite of `show_progress`; deprecated.

    Returns:
        The store as a dataset that is read lazily (`open_store`), or, for `store=None`, a dataset in memory. What it
        says of the model's name, machine, versions, `command`, `notes` and `training` is of the run that made the store
        (`extends` lists the runs that it continues); no other setting may differ in a later call.

    Raises:
        InputError: For a model in training mode or with weights that are not finite, for data that are empty or do not
            fit it, for k beyond a block's size.
        StoreError: For a store of other settings, in use by another run, foreign or unwritable.
        ComputationError: If a measurement fails; it names sample and block.

    Example:
        >>> import torch, resdyn
        >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
        >>> found = resdyn.capture(model, torch.ones(5, 3), "trajectory", store=None, samples=2, show_progress=False)
        >>> found["states"].sizes
        Frozen({'sample': 2, 'depth': 3, 'coord': 4})

    Cost: the sum of the probes', per sample, and one export of the model.
    """
    kind, seed = checks.one_of("kind", kind, KINDS), checks.seed(seed)
    store, shared = _store(store, scheduler), checks.words("shared", shared)
    workers, show_progress = check_workers(workers, scheduler), _show_progress(show_progress, quiet)
    overwrite = checks.flag("overwrite", overwrite)
    notes, command = checks.words("notes", notes), None if command is None else checks.text("command", command)
    training, position = checks.plain("training", training), None if position is None else plain_position(position)
    with one_at_a_time:
        module = check_model(model.model if isinstance(model, LoadedModel) else model)
        with progress_shown(show_progress):
            inputs = whole_inputs(model, module, data, shared)
        asked = _probes(probes, data, inputs, stream.position if position is None and stream is not None else position)
        _check_precision(module, asked)
        with progress_shown(show_progress):
            stream = stream_for(module, inputs, stream, position, granularity)
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
    run = _Run(plan, workers, scheduler, show_progress, _provenance(plan, command, notes, training))
    if store is None:
        with tempfile.TemporaryDirectory(prefix="resdyn-") as folder:
            return run.into(Path(folder) / "store.zarr").load()
    return run.into(store, overwrite)


@dataclass(frozen=True)
class _Run:
    """A plan, and where its tasks run."""

    plan: Plan
    workers: int
    scheduler: str | None
    show_progress: bool
    provenance: dict[str, Any]

    def into(self, store: Path | str, overwrite: bool = False) -> xr.Dataset:
        """Create, resume, replace or extend a store, and open it."""
        settings, plan = self.plan.settings(), self.plan
        if isinstance(store, str):
            return self._into_objects(store, settings, overwrite)
        stores.recover(store)
        with locked(store):
            if overwrite:
                stores.overwrite_store(store, plan.layout, settings, self.provenance)
            elif not stores.exists(store):
                stores.create_store(store, plan.layout, settings, self.provenance)
            elif is_extension(store, plan, settings):
                larger = begin_extension(store, plan, settings, self.provenance)
                self._tasks(larger, Earlier(str(store)))
                place.put_in_place(larger, store)
                return stores.open_store(store)
            else:
                stores.check_resumable(store, settings)
            self._tasks(store)
        return stores.open_store(store)

    def _into_objects(self, url: str, settings: dict[str, Any], overwrite: bool) -> xr.Dataset:
        """Create or resume a store of objects, and open it; there is neither lock nor replacement."""
        if overwrite:
            raise InputError(f"got overwrite=True for '{url}'; expected a new place, since objects are not replaced")
        if not stores.exists(url):
            stores.create_store(url, self.plan.layout, settings, self.provenance)
        stores.check_resumable(url, settings)
        self._tasks(url)
        return stores.open_store(url)

    def _tasks(self, store: Path | str, earlier: Earlier | None = None) -> None:
        done = stores.done_tasks(store)
        regions = stores.stored_regions(store, self.plan.layout)
        tell_resuming(done, self.show_progress)
        todo = [task for task in self.plan.tasks(regions) if not done[task.payload.number]]
        if earlier is not None:
            todo = [earlier.without_known(task) for task in todo]
        run_tasks(
            run_task,
            todo,
            self.plan.job(str(store), earlier),
            workers=self.workers,
            scheduler=self.scheduler,
            show_progress=self.show_progress,
            remarks=Cost.of(self.plan, todo, None if self.scheduler else max(self.workers, 1)),
        )


def _store(store: str | Path | None, scheduler: str | None) -> Path | str | None:
    if store is None and scheduler is not None:
        raise InputError(
            "got store=None with a scheduler, whose workers write to a folder that all of them see; name a store"
        )
    return None if store is None else checks.new_place("store", store)


def _show_progress(show_progress: bool, quiet: bool | None) -> bool:
    if quiet is None:
        return checks.flag("show_progress", show_progress)
    quiet = checks.flag("quiet", quiet)
    warnings.warn(
        f"quiet={quiet} is deprecated and will be removed in the next version; use show_progress={not quiet}",
        DeprecationWarning,
        stacklevel=4,
    )
    return not quiet


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


def whole_inputs(
    model: nn.Module | LoadedModel, module: nn.Module, data: Any, shared: tuple[str, ...]
) -> LabelledInputs:
    """All samples of the data, images prepared as the model was trained."""
    if isinstance(model, LoadedModel) and isinstance(data, ImageData) and data.preprocessing is None:
        data = data.prepared(model.preprocessing)
    return labelled_inputs(data, model_dtype(module), shared)


def _probes(
    probes: str | Sequence[str | Probe] | None, data: Any, inputs: LabelledInputs, position: Position | None
) -> tuple[Probe, ...]:
    if probes is None:
        classes = inputs.labelled and not isinstance(data, TokenData) and position is None
        return resolve_probes(DEFAULT_PROBES if classes else PROBES_WITHOUT_CLASSES)
    asked = resolve_probes(probes)
    check_labelled(asked, inputs.labelled)
    if position is not None and (wrong := [p.name for p in asked if traits(p).whole_state_only]):
        raise InputError(f"{', '.join(wrong)}: measured for the whole state only; leave out the probe or position")
    return asked


def stream_for(
    module: nn.Module,
    inputs: LabelledInputs,
    stream: Stream | None,
    position: Position | None,
    granularity: Granularity,
) -> Stream:
    """The stream that was given, checked against the model, or found at the first samples."""
    if stream is None:
        # Two samples, so that a model which mixes the samples of a batch is noticed.
        two = inputs.read(torch.arange(min(2, len(inputs)))).to(model_device(module))
        stream = find_stream(module, *two.args, granularity=granularity, shared=tuple(two.shared), **two.kwargs)
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


def _chosen(inputs: LabelledInputs, samples: int | Sequence[int] | None, seed: int, probes: Sequence[Probe]) -> Tensor:
    samples = min(SAMPLES, len(inputs)) if samples is None else samples
    if not any(traits(probe).per_sample for probe in probes):
        samples = 1  # none is measured alone; this one identifies the data
    if isinstance(samples, bool | int | float | np.number | str):  # one number, or what is none
        return choose(inputs, checks.whole("samples", samples, 1), seed)
    return inputs.rows_of(checks.wholes("samples", samples))


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
    # one logit for two classes is not a probability of its own for each class
    readout = () if ONE_LOGIT in plan.notes else plan.stream.readout.notes
    of_model = plan.model.notes if isinstance(plan.model, LoadedModel) else ()
    return {
        "model": plan.model_name,
        "versions": versions("xarray"),
        "machine": machine(model_device(plan.stream.model)),
        "command": shlex.join(sys.argv) if command is None else command,
        "coverage": asdict(plan.stream.whole.coverage),
        "output_reading": plan.stream.readout.reading,
        "notes": [
            *of_model,
            *plan.stream.notes,
            *plan.stream.whole.coverage.notes,
            *readout,
            *plan.data.notes,
            *plan.notes,
            *notes,
        ],
        "training": list(training),
    }
