"""The commands, each a straight line over public functions."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import xarray as xr
from cyclopts import Group, Parameter

from resdyn import store as stores
from resdyn.capturing.run import capture as run_capture
from resdyn.capturing.selection import notes_on_classes
from resdyn.cli.options import Whole
from resdyn.cli.output import print_json, print_stream, print_summary, results, say
from resdyn.data import ImageData, TokenData, load_data, load_text
from resdyn.errors import InputError
from resdyn.models import LoadedModel, load_model, text_encoder
from resdyn.progress import stage
from resdyn.report import write_report
from resdyn.stream import Granularity, ResidualStream, find_stream, stream_from_blocks

Kind = Literal["gated", "branch", "block"]
Weights = Annotated[Path | None, Parameter(help="Weights: safetensors, or a torch file of tensors only.")]
Blocks = Annotated[
    tuple[str, ...], Parameter(help="Module paths of the blocks, instead of discovery.", consume_multiple=True)
]
Json = Annotated[bool, Parameter(help="Print results as one JSON object.", group=Group("Every command"))]


def demo(
    *,
    out: Path = Path("out/demo"),
    epochs: Whole = 300,
    seed: Whole = 0,
    samples: Whole = 20,
    json: Json = False,
) -> None:
    """Train a small residual network on handwritten digits, watch it, measure it and write a report.

    Needs no download: the digits come with scikit-learn. Under 90 seconds on two cores.

    Parameters
    ----------
    out
        Folder for the store, the weights, the checkpoint and report.html.
    epochs
        Epochs of training.
    seed
        Seed of weights, order of the data, and choice of samples.
    samples
        Training digits to measure, spread over the classes.
    """
    from resdyn.cli.demo import run_demo

    outcome = run_demo(out, epochs=epochs, seed=seed, samples=samples)
    dataset = outcome.dataset
    page = write_report(dataset, out / "report.html", title="A residual network on handwritten digits")
    paths = {"report": page, "store": outcome.store, "weights": outcome.weights}
    _finish(dataset, paths, json, test_accuracy=outcome.test_accuracy, seconds=outcome.seconds)


def inspect(
    model: str,
    /,
    *,
    weights: Weights = None,
    blocks: Blocks = (),
    data: str | None = None,
    data_root: Path | None = None,
    granularity: Granularity = "join",
    json: Json = False,
) -> None:
    """Show the residual stream of a model: its blocks, shapes, skips and gates, each verified.

    Parameters
    ----------
    model
        file.py:factory, resdyn:NET, hf:ID, timm:NAME or torchvision:NAME.
    data
        A dataset to take the example input from, where the model does not tell its input.
    data_root
        Folder of datasets (default: RESDYN_DATA).
    granularity
        Blocks are residual sums (join), or layers: attention and feed-forward as one (layer).
    """
    loaded = _load(model, weights)
    stream = _stream(loaded, blocks, None if data is None else load_data(data, root=data_root), granularity)
    if json:
        print_json(
            {
                "model": loaded.name,
                "weights_hash": loaded.weights_hash,
                "notes": [*loaded.notes, *stream.notes],
                "num_parameters": stream.num_parameters,
                "blocks": stream.describe(),
            }
        )
    else:
        print_stream(stream, loaded.notes)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What to measure, on what."""

    data: str
    "digits, mnist, fashion_mnist, cifar10, cifar100, imagenette, a folder of images by class, or a text file (.txt)."
    weights: Weights = None
    probes: str | None = None
    """Any of trajectory, singular, coupling, spectrum, robustness, cushion, features; with settings: singular(k=30).
    Without: trajectory, singular, coupling, spectrum and, for classes and the whole state, features."""
    samples: Whole = 16
    "Images or windows of text to measure one by one, images spread over the classes."
    tokens: Whole = 64
    "Tokens in a window of text."
    split: str = "test"
    "Split of the data."
    classes: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    "Only these classes, by name."
    kind: Kind = "gated"
    "Reading of a block's Jacobian: gated (skip excluded), branch, or the whole block."
    position: Whole | None = None
    "Measure one token of states of shape (tokens, width), -1 the last (default: the whole state)."
    granularity: Granularity = "join"
    "Blocks are residual sums (join), or layers: attention and feed-forward as one (layer)."
    seed: Whole = 0
    "Seed of the choice of samples and of the solvers."
    feature_samples: Whole | None = None
    "Images for the features probe (default: all of the split)."
    blocks: Blocks = ()
    data_root: Path | None = None
    "Folder of datasets (default: RESDYN_DATA)."
    workers: Whole = 0
    "Local worker processes (0: this process)."
    scheduler: str | None = None
    "Address of a dask.distributed scheduler."


def capture(model: str, /, *, out: Path, measurement: Measurement, json: Json = False) -> None:
    """Measure a model on data and keep the answers in a store; run again, it resumes where it stopped.

    Parameters
    ----------
    model
        file.py:factory, resdyn:NET, hf:ID, timm:NAME or torchvision:NAME.
    out
        The store, a folder that is made (by convention NAME.zarr).
    """
    dataset = _measure(model, measurement, out)
    _finish(dataset, {"store": out}, json)


def report(
    store: Path,
    /,
    *,
    out: Path | None = None,
    figures: Path | None = None,
    title: str | None = None,
    json: Json = False,
) -> None:
    """Write the report of a store as one HTML page that works offline.

    Parameters
    ----------
    store
        A store made by capture.
    out
        The page (default: report.html beside the store).
    figures
        Folder for the figures as PDF and PNG.
    title
        Heading of the page.
    """
    dataset = stores.open_store(store)
    page = write_report(dataset, out or store.with_suffix(".html"), figures_dir=figures, title=title)
    paths = {"report": page, "store": store} | ({"figures": figures} if figures else {})
    _finish(dataset, paths, json)


def analyze(
    model: str,
    /,
    *,
    out: Path = Path("out/analysis"),
    measurement: Measurement,
    figures: bool = False,
    title: str | None = None,
    json: Json = False,
) -> None:
    """Capture and report in one go: measure a model on data and write OUT/report.html.

    Parameters
    ----------
    model
        file.py:factory, resdyn:NET, hf:ID, timm:NAME or torchvision:NAME.
    out
        Folder for the store, the report and the figures.
    figures
        Write the figures as PDF and PNG too.
    title
        Heading of the page.
    """
    dataset = _measure(model, measurement, out / "store.zarr")
    folder = out / "figures" if figures else None
    page = write_report(dataset, out / "report.html", figures_dir=folder, title=title)
    _finish(dataset, {"report": page, "store": out / "store.zarr"} | ({"figures": folder} if folder else {}), json)


def _measure(model: str, measurement: Measurement, store: Path) -> xr.Dataset:
    asked = measurement
    loaded = _load(model, asked.weights)
    data = _data(loaded, asked)
    on_classes = notes_on_classes(len(data.class_names), loaded.num_classes) if isinstance(data, ImageData) else ()
    for note in (*loaded.notes, *data.notes, *on_classes):
        say(f"note: {note}")
    return run_capture(
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
        stream=_stream(loaded, asked.blocks, data) if asked.blocks else None,
        command=shlex.join(["resdyn", *sys.argv[1:]]),
    )


def _data(loaded: LoadedModel, asked: Measurement) -> ImageData | TokenData:
    """Images by name, or windows of a text file in the tokens of the model."""
    if Path(asked.data).suffix == ".txt":
        return load_text(asked.data, text_encoder(loaded), asked.tokens)
    return load_data(asked.data, asked.split, asked.data_root, asked.classes or None)


def _load(model: str, weights: Path | None) -> LoadedModel:
    with stage("loading the model"):
        return load_model(model, weights)


def _stream(
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
            f"{loaded.name} does not tell what it is fed; name data with --data, or let the factory return "
            "(model, example_input)"
        )
    weight = next((p for p in loaded.model.parameters() if p.is_floating_point()), None)
    if weight is not None and example.is_floating_point():
        example = example.to(weight)
    if blocks:
        return stream_from_blocks(loaded.model, blocks, example)
    return find_stream(loaded.model, example, granularity=granularity)


def _finish(dataset: xr.Dataset, paths: dict[str, Path], as_json: bool, **extra: object) -> None:
    with stage("computing the metrics"):
        answer = results(dataset, paths)
    if as_json:
        print_json(answer | extra)
    else:
        print_summary(answer["metrics"], paths, extra)
