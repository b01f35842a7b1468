"""Image datasets through the Hugging Face ``datasets`` library, from disk or from the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resdyn.data.pixels import read_regular
from resdyn.data.sources import EncodedSource
from resdyn.errors import InputError, require

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label")
SPLITS = {"train": ("train",), "test": ("test", "validation", "val"), "validation": ("validation", "val")}


@dataclass(frozen=True)
class Labelled:
    """The content of a table of images."""

    split: str
    class_names: tuple[str, ...]
    labels: Tensor
    source: EncodedSource


def from_parquet(folder: Path, name: str, split: str) -> Labelled:
    """One split of a local folder in the hub's layout: ``**/<split>-*.parquet``."""
    for candidate in SPLITS.get(split, (split,)):
        files = sorted(
            str(p)
            for pattern in (f"{candidate}-*.parquet", f"{candidate}.parquet")
            for p in folder.rglob(pattern)
            if p.is_file()
        )
        if files:
            table = _load(name, "parquet", data_files={candidate: files}, split=candidate)
            return _labelled(table, name, candidate)
    splits = sorted({p.name.split("-")[0].removesuffix(".parquet") for p in folder.rglob("*.parquet")})
    raise InputError(f"got split '{split}' of {folder}, expected one of: {', '.join(splits)}")


def from_hub(hub_id: str, config: str | None, name: str, split: str) -> Labelled:
    """One split of a dataset of the hub, downloaded once into the library's own cache."""
    last: Exception | None = None
    for candidate in SPLITS.get(split, (split,)):
        try:
            return _labelled(_load(name, hub_id, config, split=candidate), name, candidate)
        except _UnknownSplit as error:
            last = error
    raise InputError(str(last)) from last


class _UnknownSplit(InputError):
    """The dataset has no such split."""


def _load(name: str, *args: Any, **kwargs: Any) -> Any:
    datasets = require("datasets", extra="data")
    try:
        return datasets.load_dataset(*args, **kwargs)
    except Exception as error:
        if isinstance(error, ValueError) and "Unknown split" in str(error):
            raise _UnknownSplit(f"{name}: {error}") from error
        raise _cannot_load(name, error) from error


def _cannot_load(name: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return InputError(
        f"cannot load '{name}': {reason}. Check the network, or put the dataset under <root>/{name} (parquet "
        "files, or a folder of images by class) and pass that root as RESDYN_DATA or --data-root"
    )


def _labelled(table: Any, name: str, split: str) -> Labelled:
    datasets = require("datasets", extra="data")
    image_column = _column(table, IMAGE_COLUMNS, name)
    label_column = _column(table, LABEL_COLUMNS, name)
    labels = torch.tensor(table.select_columns([label_column])[:][label_column], dtype=torch.int64)
    if len(labels) and labels.min() < 0:
        raise InputError(f"got images without labels in {name} ({split}): choose another split")
    rows = table.cast_column(image_column, datasets.Image(decode=False)).select_columns([image_column])
    source = EncodedSource(
        len(labels), lambda i: _bytes(rows[i][image_column]), lambda i: f"image {i} of {name} ({split})"
    )
    return Labelled(split, _class_names(table.features[label_column], labels), labels, source)


def _column(table: Any, wanted: tuple[str, ...], name: str) -> str:
    for column in wanted:
        if column in table.column_names:
            return column
    raise InputError(f"got columns {table.column_names} in {name}, expected one named {' or '.join(wanted)}")


def _bytes(cell: dict[str, Any]) -> bytes:
    return cell["bytes"] if cell["bytes"] is not None else read_regular(cell["path"])


def _class_names(feature: Any, labels: Tensor) -> tuple[str, ...]:
    names = getattr(feature, "names", None)
    return tuple(names) if names else tuple(str(c) for c in range(int(labels.max()) + 1))
