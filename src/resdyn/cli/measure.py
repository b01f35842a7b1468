"""What the measuring commands have in common, from a model's name to the last line that is printed."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from resdyn import store as stores
from resdyn.capturing.run import capture
from resdyn.capturing.selection import notes_on_classes
from resdyn.cli.options import Measurement
from resdyn.cli.output import print_json, print_summary, results, say
from resdyn.data import ImageData, TokenData, load_data, load_text
from resdyn.errors import InputError
from resdyn.models import LoadedModel, load_model, text_encoder
from resdyn.models.untrained import untrained_model
from resdyn.progress import stage
from resdyn.stream import Granularity, ResidualStream, find_stream, stream_from_blocks
from resdyn.stream.placement import like_weights


def command_line() -> str:
    """The command as it was typed."""
    return shlex.join(["resdyn", *sys.argv[1:]])


def load(model: str, weights: Path | None, device: str, dtype: str | None) -> LoadedModel:
    """The model, on its device and in its precision."""
    with stage("loading the model"):
        return load_model(model, weights, device=device, dtype=dtype)


def measure(model: str, asked: Measurement, store: Path) -> Measured:
    """Capture what a command asks for; what a reader must know is said first."""
    loaded = load(model, asked.weights, asked.device, asked.dtype)
    data = data_of(
        loaded, asked.data, split=asked.split, data_root=asked.data_root, tokens=asked.tokens, classes=asked.classes
    )
    on_classes = notes_on_classes(len(data.class_names), loaded.num_classes) if isinstance(data, ImageData) else ()
    for note in (*loaded.notes, *data.notes, *on_classes):
        say(f"note: {note}")
    twin = untrained_model(loaded, asked.seed + 1) if asked.null else None  # refused before anything is measured
    dataset = _captured(loaded, data, asked, store)
    if twin is not None:
        say("measuring the same network untrained")
        _captured(twin, data, asked, null_store(store))
    return Measured(dataset, open_null(store))


def _captured(loaded: LoadedModel, data: ImageData | TokenData, asked: Measurement, store: Path) -> xr.Dataset:
    return capture(
        loaded,
        data,
        asked.probes,
        store,
        samples=asked.samples,
        seed=asked.seed,
        kind=asked.kind,
        position=asked.position,
        granularity=asked.granularity,
        feature_samples=asked.feature_samples,
        workers=asked.workers,
        scheduler=asked.scheduler,
        stream=_chosen(loaded, data, asked),
        command=command_line(),
    )


def _chosen(loaded: LoadedModel, data: ImageData | TokenData, asked: Measurement) -> ResidualStream | None:
    """The stream of the blocks that were named, or of the module that was; None: discovered by the capture."""
    if not asked.blocks and asked.within is None:
        return None
    return stream_of(loaded, asked.blocks, data, asked.granularity, asked.within)


@dataclass(frozen=True)
class Measured:
    """A capture, and that of the same network untrained where there is one."""

    dataset: xr.Dataset
    null: xr.Dataset | None


def null_store(store: Path) -> Path:
    """Where the untrained network of a store is kept: beside it."""
    return store.with_name(f"{store.stem}-untrained{store.suffix}")


def open_null(store: Path, named: Path | None = None) -> xr.Dataset | None:
    """The capture of the untrained network: the one that is named, else the one beside the store."""
    place = named or null_store(store)
    return open_results(place) if named is not None or stores.exists(place) else None


def open_results(store: Path) -> xr.Dataset:
    """A capture, or a finished transport: of a store, or of a lens file."""
    if not store.is_file():
        dataset = stores.open_store(store)
        if dataset.attrs.get("measurement") != "transport":
            return dataset
    from resdyn.transporting import load_transport

    return load_transport(store).dataset


def stream_of(
    loaded: LoadedModel,
    blocks: tuple[str, ...],
    data: ImageData | TokenData | None,
    granularity: Granularity = "join",
    within: str | None = None,
) -> ResidualStream:
    """The stream at the model's example input, or at the first sample of the data."""
    example = loaded.example_input
    if isinstance(data, TokenData):
        example = data.tokens[:1]
    elif data is not None:
        prepared = data if data.preprocessing is not None else data.prepared(loaded.preprocessing)
        example = prepared.inputs([0])
    if example is None:
        raise InputError(
            f"{loaded.name} does not declare its input; name data with --data, or let the factory return "
            "(model, example_input)"
        )
    example = like_weights(example, loaded.model)
    if blocks and within:
        raise InputError("got --blocks and --within; give one of them: --blocks names every block itself")
    if blocks:
        return stream_from_blocks(loaded.model, blocks, example)
    return find_stream(loaded.model, example, granularity=granularity, within=within)


def finish(measured: Measured, paths: dict[str, Path], as_json: bool, **extra: object) -> None:
    """Compute the metrics and the verdicts and print them, for people or for programs."""
    with stage("computing the metrics"):
        summary = results(measured.dataset, paths, measured.null)
    if as_json:
        print_json(summary | extra)
    else:
        print_summary(summary, paths, extra)


def data_of(
    loaded: LoadedModel,
    name: str,
    *,
    split: str,
    data_root: Path | None,
    tokens: int,
    classes: tuple[str, ...] = (),
) -> ImageData | TokenData:
    """Images by name, or windows of a text file in the tokens of the model."""
    if Path(name).suffix == ".txt":
        return load_text(name, text_encoder(loaded), tokens)
    return load_data(name, split, data_root, classes or None)
