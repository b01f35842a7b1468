"""Datasets by name (scikit-learn, or the datasets library from disk or hub) or by folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from resdyn import _checks as checks
from resdyn.data.folder import is_image_folder, load_folder
from resdyn.data.huggingface import from_hub, from_parquet
from resdyn.data.images import ImageData
from resdyn.data.sources import EncodedSource, TensorSource
from resdyn.errors import InputError, did_you_mean

DIGITS_TEST_IMAGES = 297
_JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True)
class DatasetCard:
    """A dataset of the hub.

    Attributes:
        hub_id: its id on the Hugging Face hub.
        mean: per channel, of its training images in [0, 1].
        std: per channel, likewise.
        config: name of its configuration on the hub; None for the default.
        lossless: whether the original images are lossless.
    """

    hub_id: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    config: str | None = None
    lossless: bool = True


DATASETS: dict[str, DatasetCard] = {
    "mnist": DatasetCard("ylecun/mnist", (0.1307,), (0.3081,)),
    "fashion_mnist": DatasetCard("zalando-datasets/fashion_mnist", (0.2860,), (0.3530,)),
    "cifar10": DatasetCard("uoft-cs/cifar10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": DatasetCard("uoft-cs/cifar100", (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenette": DatasetCard(
        "frgfm/imagenette", (0.4625, 0.4580, 0.4298), (0.2813, 0.2774, 0.3006), config="320px", lossless=False
    ),
}


def load_data(
    name_or_path: str | Path,
    split: str = "test",
    root: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> ImageData:
    """Load labelled images: ``digits``, a name in ``DATASETS``, or a folder of images by class.

    A named dataset is looked up under ``root`` as ``<root>/<name>``, parquet files in the Hugging Face layout or a
    folder of images by class, and otherwise requested from the hub. ``digits`` are the 1797 8 x 8 digits of
    scikit-learn, of which a fixed stratified choice of 297 are ``test`` and 1500 ``train``.

    Images are numbers in [0, 1]: of 8 bits divided by 255, grey of 16 bits by 65535; grey of 32 bits and of floating
    point must be in [0, 1] already; colour of 16 bits is read to 8; transparency is dropped.

    Args:
        name_or_path: a name, or a folder with one sub-folder per class, or with ``train``, ``test``, ... and such
            sub-folders in these; without splits its one split is called ``all``.
        split: "test" (default), "train", ...; where there is no ``test``, ``validation`` (``val``) is used.
        root: folder of datasets by name; default: the environment variable RESDYN_DATA.
        classes: names of the classes to keep, relabelled 0.. in this order; None (default) keeps all.

    Returns:
        The images of the split, decoded on demand.

    Raises:
        InputError: an unknown name, split or class, or empty or unreadable data.
        MissingExtraError: a parquet folder or the hub without the ``datasets`` package.

    Example:
        >>> data = load_data("digits")
        >>> len(data), data.image(0).shape
        (297, torch.Size([1, 8, 8]))
    """
    name, split = str(checks.path("data", name_or_path)), checks.text("split", split)
    root = None if root is None else checks.path("root", root)
    data = _load(name, split, root if root is not None else os.environ.get("RESDYN_DATA"))
    return data if classes is None else data.of_classes(classes)


def _load(name: str, split: str, root: str | Path | None) -> ImageData:
    if name == "digits":
        return _digits(split)
    if name in DATASETS:
        return _named(name, split, root)
    if Path(name).is_dir():
        return load_folder(Path(name), split)
    known = ["digits", *DATASETS]
    raise InputError(
        f"got data '{name}', expected one of {', '.join(known)}, or a folder with one sub-folder of images "
        f"per class.{did_you_mean(name, known)}"
    )


def _named(name: str, split: str, root: str | Path | None) -> ImageData:
    card = DATASETS[name]
    if root is not None and not Path(root).is_dir():
        raise InputError(f"got the data root '{root}', expected a folder that holds datasets by name")
    folder = Path(root) / name if root is not None else None
    if folder is not None and any(folder.rglob("*.parquet")):
        table = from_parquet(folder, name, split)
    elif folder is not None and is_image_folder(folder):
        return load_folder(folder, split, name=name, mean=card.mean, std=card.std)
    else:
        table = from_hub(card.hub_id, card.config, name, split)
    return ImageData(
        name=name,
        split=table.split,
        class_names=table.class_names,
        labels=table.labels,
        sample_index=torch.arange(len(table.labels)),
        source=table.source,
        mean=card.mean,
        std=card.std,
        notes=_lossy_note(name, table.source) if card.lossless else (),
    )


def _lossy_note(name: str, source: EncodedSource) -> tuple[str, ...]:
    """A lossless dataset whose stored bytes are JPEG has been re-encoded, and its images are damaged."""
    sampled = np.linspace(0, len(source) - 1, min(len(source), 16)).astype(int)
    if not any(source.encoded(int(i)).startswith(_JPEG_START) for i in sampled):
        return ()
    return (
        f"these {name} images were re-encoded as JPEG (the original is lossless): "
        "accuracies come out lower than published ones",
    )


def _digits(split: str) -> ImageData:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if split not in ("train", "test"):
        raise InputError(f"got split '{split}' of digits, expected 'train' or 'test'")
    digits = load_digits()
    train, test = train_test_split(
        np.arange(len(digits.target)),
        test_size=DIGITS_TEST_IMAGES,
        random_state=0,
        stratify=digits.target,
    )
    chosen = np.sort(train if split == "train" else test)
    return ImageData(
        name="digits",
        split=split,
        class_names=tuple(str(c) for c in digits.target_names),
        labels=torch.from_numpy(digits.target[chosen].astype(np.int64)),
        sample_index=torch.arange(len(chosen)),
        source=TensorSource(torch.from_numpy(digits.images[chosen] / 16).float()[:, None]),
        mean=(0.3053,),
        std=(0.3762,),
    )
