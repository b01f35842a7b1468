"""Folders of images by class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from resdyn.data.images import ImageData
from resdyn.data.pixels import read_regular
from resdyn.data.sources import EncodedSource
from resdyn.errors import InputError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "test": ("test", "val", "validation"),
    "validation": ("validation", "val"),
}
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_folder(
    folder: Path,
    split: str,
    *,
    name: str | None = None,
    mean: tuple[float, ...] = _IMAGENET_MEAN,
    std: tuple[float, ...] = _IMAGENET_STD,
) -> ImageData:
    """Images of `folder/<class>/...` or `folder/<split>/<class>/...`; classes and files in sorted order."""
    base, found_split = _split_folder(folder, split)
    class_names = tuple(sorted(p.name for p in _folders(base) if _images(p)))
    if not class_names:
        raise InputError(f"got no images in {base}, expected one sub-folder per class, with files such as .png or .jpg")
    files = [(path, label) for label, c in enumerate(class_names) for path in _images(base / c)]
    return ImageData(
        name=name or folder.resolve().name,
        split=found_split,
        class_names=class_names,
        labels=torch.tensor([label for _, label in files]),
        sample_index=torch.arange(len(files)),
        source=EncodedSource(len(files), lambda i: read_regular(files[i][0]), lambda i: str(files[i][0])),
        mean=mean,
        std=std,
    )


def is_image_folder(folder: Path) -> bool:
    """Whether there are images at most two folders deep: <class>/ or <split>/<class>/."""
    if not folder.is_dir():
        return False
    files = (p for pattern in ("*/*", "*/*/*") for p in folder.glob(pattern))
    return any(p.suffix.lower() in IMAGE_SUFFIXES for p in files)


def _split_folder(folder: Path, split: str) -> tuple[Path, str]:
    """The split's own folder where there is one; "all" where the folder has no splits."""
    names = {p.name for p in _folders(folder)}
    for candidate in SPLIT_FOLDERS.get(split, (split,)):
        if candidate in names:
            return folder / candidate, candidate
    known = sorted(names & {c for candidates in SPLIT_FOLDERS.values() for c in candidates})
    if known:
        raise InputError(f"got split '{split}' of {folder}, expected one of: {', '.join(known)}")
    return folder, "all"


def _folders(folder: Path) -> Iterable[Path]:
    return (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir())
    for path in paths:
        if not path.is_file():
            raise InputError(f"'{path}' is not a regular file; remove it, or give a folder of regular files")
    return paths
