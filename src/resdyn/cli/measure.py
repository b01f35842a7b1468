"""What the measuring commands have in common, from a model's name to the last line that is printed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import xarray as xr

from resdyn.capturing.run import capture
from resdyn.capturing.selection import notes_on_classes
from resdyn.cli.options import Measurement
from resdyn.cli.output import print_json, print_summary, results, say
from resdyn.data import ImageData, TokenData, load_data, load_text
from resdyn.errors import InputError
from resdyn.models import LoadedModel, load_model, text_encoder
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


def measure(model: str, asked: Measurement, store: Path) -> xr.Dataset:
    """Capture what a command asks for; what a reader must know is said first."""
    loaded = load(model, asked.weights, asked.device, asked.dtype)
    data = data_of(
        loaded, asked.data, split=asked.split, data_root=asked.data_root, tokens=asked.tokens, classes=asked.classes
    )
    on_classes = notes_on_classes(len(data.class_names), loaded.num_classes) if isinstance(data, ImageData) else ()
    for note in (*loaded.notes, *data.notes, *on_classes):
        say(f"note: {note}")
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
        stream=stream_of(loaded, asked.blocks, data) if asked.blocks else None,
        command=command_line(),
    )


def stream_of(
    loaded: LoadedModel,
    blocks: tuple[str, ...],
    data: ImageData | TokenData | None,
    granularity: Granularity = "join",
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
    if blocks:
        return stream_from_blocks(loaded.model, blocks, example)
    return find_stream(loaded.model, example, granularity=granularity)


def finish(dataset: xr.Dataset, paths: dict[str, Path], as_json: bool, **extra: object) -> None:
    """Compute the metrics and print them, for people or for programs."""
    with stage("computing the metrics"):
        summary = results(dataset, paths)
    if as_json:
        print_json(summary | extra)
    else:
        print_summary(summary["metrics"], paths, extra)


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
