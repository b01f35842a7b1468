"""Commands that measure: their options, and a straight line over public functions.

A command imports what it needs when it runs, so that help and usage errors never wait for PyTorch.
"""

from __future__ import annotations

from pathlib import Path

from resdyn.cli.options import (
    Blocks,
    DataRoot,
    Device,
    Dtype,
    Granularity,
    Json,
    Measurement,
    Weights,
    Whole,
)


def demo(
    *,
    out: Path = Path("out/demo"),
    epochs: Whole = 300,
    seed: Whole = 0,
    samples: Whole = 20,
    device: Device = "cpu",
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
    device
        Where to train and measure: cpu, cuda, cuda:INDEX, mps or auto. The network is so small that a CPU is fastest.
    """
    from resdyn.cli.demo import run_demo
    from resdyn.cli.measure import finish
    from resdyn.report import write_report

    outcome = run_demo(out, epochs=epochs, seed=seed, samples=samples, device=device)
    measured, title = outcome.measured, "A residual network on handwritten digits"
    page = write_report(measured.dataset, out / "report.html", title=title, null=measured.null)
    paths = {"report": page, "store": outcome.store, "weights": outcome.weights}
    finish(measured, paths, json, test_accuracy=outcome.test_accuracy, seconds=outcome.seconds)


def inspect(
    model: str,
    /,
    *,
    weights: Weights = None,
    blocks: Blocks = (),
    data: str | None = None,
    data_root: DataRoot = None,
    granularity: Granularity = "join",
    within: str | None = None,
    device: Device = "auto",
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Show the residual stream of a model: its blocks, shapes, skips and gates, each verified.

    Parameters
    ----------
    model
        file.py:factory, resdyn:NET, hf:ID, timm:NAME or torchvision:NAME.
    data
        A dataset to take the example input from, where the model does not declare its input.
    granularity
        Blocks are residual sums (join), or layers: attention and feed-forward as one (layer).
    within
        Module whose blocks to show, such as decoder (default: those of the longest chain).
    """
    from dataclasses import asdict

    from resdyn.cli.measure import load, stream_of
    from resdyn.cli.output import print_json, print_stream
    from resdyn.data import load_data

    loaded = load(model, weights, device, dtype)
    stream = stream_of(loaded, blocks, None if data is None else load_data(data, root=data_root), granularity, within)
    if json:
        print_json(
            {
                "model": loaded.name,
                "weights_hash": loaded.weights_hash,
                "notes": [*loaded.notes, *stream.notes, *stream.coverage.notes],
                "num_parameters": stream.num_parameters,
                "coverage": asdict(stream.coverage),
                "blocks": stream.describe(),
            }
        )
    else:
        print_stream(stream, loaded.notes)


def capture(model: str, /, *, out: Path, measurement: Measurement, json: Json = False) -> None:
    """Measure a model on data and keep the results in a store; run again, it resumes where it stopped.

    Parameters
    ----------
    model
        file.py:factory, resdyn:NET, hf:ID, timm:NAME or torchvision:NAME.
    out
        The store, a folder that is made (by convention NAME.zarr).
    """
    from resdyn.cli.measure import finish, measure

    finish(measure(model, measurement, out), {"store": out}, json)


def report(
    store: Path,
    /,
    *,
    out: Path | None = None,
    figures: Path | None = None,
    title: str | None = None,
    null: Path | None = None,
    json: Json = False,
) -> None:
    """Write the report of a store as one HTML page that works offline.

    Parameters
    ----------
    store
        A store made by capture or transport, or a lens file.
    out
        The page (default: report.html beside the store).
    figures
        Folder for the figures as PDF and PNG.
    title
        Heading of the page.
    null
        Store of the same network untrained (default: STORE-untrained, if capture --null made it).
    """
    from resdyn.cli.measure import Measured, finish, open_null, open_results
    from resdyn.report import write_report

    measured = Measured(open_results(store), open_null(store, null))
    page = write_report(
        measured.dataset, out or store.with_suffix(".html"), figures_dir=figures, title=title, null=measured.null
    )
    finish(measured, {"report": page, "store": store} | ({"figures": figures} if figures else {}), json)


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
    from resdyn.cli.measure import finish, measure
    from resdyn.report import write_report

    measured = measure(model, measurement, out / "store.zarr")
    folder = out / "figures" if figures else None
    page = write_report(measured.dataset, out / "report.html", figures_dir=folder, title=title, null=measured.null)
    finish(measured, {"report": page, "store": out / "store.zarr"} | ({"figures": folder} if folder else {}), json)
