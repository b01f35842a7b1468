"""`resdyn transport`: the Jacobian lens of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from resdyn.cli.options import Blocks, DataRoot, Device, Dtype, Granularity, Json, Weights, Whole

if TYPE_CHECKING:
    from resdyn.cli.measure import Measured
    from resdyn.models import LoadedModel
    from resdyn.transporting import Transport

ERROR = 3  # significant digits


def transport(
    model: str,
    /,
    *,
    data: str,
    out: Path,
    to: Literal["final", "logits"] = "final",
    reduction: Literal["sum", "self", "flat", "pool"] | None = None,
    depths: Annotated[tuple[Whole, ...], Parameter(consume_multiple=True)] = (),
    samples: Whole = 100,
    tokens: Whole = 128,
    skip_first: Whole | None = None,
    skip_last: Whole | None = None,
    products: Literal["bfloat16"] | None = None,
    until: float | None = None,
    split: str = "test",
    granularity: Granularity = "layer",
    chunk_size: Whole | None = None,
    seed: Whole = 0,
    weights: Weights = None,
    blocks: Blocks = (),
    data_root: DataRoot = None,
    device: Device = "auto",
    dtype: Dtype = None,
    workers: Whole = 0,
    scheduler: str | None = None,
    save: Path | None = None,
    null: bool = False,
    json: Json = False,
) -> None:
    """Fit the mean transport from every depth to the end of a model (the Jacobian lens); run again, it resumes.

    Parameters
    ----------
    model
        file.py:factory, resdyn:NET, hf:ID, timm:NAME or torchvision:NAME.
    data
        A dataset by name, a folder of images by class, or a text file (.txt).
    out
        The store, a folder that is made (by convention NAME.zarr).
    to
        The last state, before a final norm (final), or what the model returns (logits).
    reduction
        How positions become one matrix (default: sum for tokens, pool for images, else flat).
    depths
        From which states (default: all before the target).
    samples
        Images, or windows of text (fewer where the data have fewer).
    tokens
        Tokens per window of text.
    skip_first
        Tokens at the start that do not count (default: 16 for text).
    skip_last
        Tokens at the end that do not count (default: 1 for text).
    products
        Round the factors of matrix products, where the machine multiplies these faster; the error is measured.
    until
        Stop when the relative error of the mean is at most this at every depth.
    split
        Split of the data.
    granularity
        Blocks are residual sums (join), or layers (layer).
    chunk_size
        Samples per task (default: an eighth of all).
    seed
        Of the choice of samples.
    workers
        Local worker processes (0: this process).
    scheduler
        Address of a dask.distributed scheduler.
    save
        Write a lens file too, NAME.pt or NAME.safetensors.
    null
        Fit the same network with random weights too, which the verdict compares with, into a store beside the first.
    """
    from resdyn.cli.measure import Measured, command_line, data_of, load, null_store, open_null, stream_of
    from resdyn.cli.output import say
    from resdyn.models.untrained import untrained_model
    from resdyn.transporting import transport as fit

    loaded = load(model, weights, device, dtype)
    read = data_of(loaded, data, split=split, data_root=data_root, tokens=tokens)
    for note in (*loaded.notes, *read.notes):
        say(f"note: {note}")
    twin = untrained_model(loaded, seed + 1) if null else None  # refused before anything is measured

    def fitted(model: LoadedModel, store: Path) -> Transport:
        return fit(
            model,
            read,
            store,
            depths=depths or None,
            to=to,
            reduction=reduction,
            samples=min(samples, len(read)),
            skip_first=skip_first,
            skip_last=skip_last,
            products=products,
            until=until,
            seed=seed,
            granularity="join" if blocks else granularity,
            chunk_size=chunk_size,
            workers=workers,
            scheduler=scheduler,
            stream=stream_of(model, blocks, read) if blocks else None,
            command=command_line(),
        )

    lens = fitted(loaded, out)
    if twin is not None:
        say("fitting the same network untrained")
        fitted(twin, null_store(out))
    paths = {"store": out} | ({} if save is None else {"lens file": lens.save(save)})
    _print(lens, Measured(lens.dataset, open_null(out)), paths, json)


def _print(lens: Transport, measured: Measured, paths: dict[str, Path], as_json: bool) -> None:
    from resdyn.cli.output import print_json, print_table, terminal
    from resdyn.metrics import conclusion, verdicts

    found = verdicts(measured.dataset, measured.null)
    said = conclusion(found, measured.null is not None)
    rows = [(depth, lens.structure(depth), lens.relative_error[depth]) for depth in lens]
    if as_json:
        print_json(
            {
                "conclusion": said,
                "verdicts": [verdict.as_row() for verdict in found],
                "depths": [_plain(depth, found, error) for depth, found, error in rows],
                "num_samples": lens.num_samples,
                "definition": lens.dataset.attrs["definition"],
                "paths": {name: str(path) for name, path in paths.items()},
            }
        )
        return
    console = terminal()
    depths = [
        {
            "depth": str(depth),
            "norm": _number(found.norm),
            "relative error": _number(error),
            "identity": _number(found.identity_share),
            "effective rank": _number(found.effective_rank),
            "noise": _number(found.noise_share),
        }
        for depth, found, error in rows
    ]
    print_table(depths, right=depths[0])
    console.print(
        f"{lens.dataset.attrs['definition']}; {lens.num_samples} samples. identity: share of the squared norm that is "
        "a multiple of the identity; effective rank and noise (share of the squared norm): of the rest.",
        markup=False,
    )
    for words in filter(None, (said, *(f"{v.verdict}: {v.decisive.reason}" for v in found))):
        console.print(words, markup=False)
    for name, path in paths.items():
        console.print(f"{name}: {path}", markup=False, soft_wrap=True)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.{ERROR}g}"


def _plain(depth: int, found: Any, error: float) -> dict[str, Any]:
    names = ("norm", "alpha", "identity_share", "effective_rank", "stable_rank", "noise_share", "resolved")
    return {"depth": depth, "relative_error": error} | {name: getattr(found, name) for name in names}
