"""Labelled images of one split of one dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.data.preprocessing import Preprocessing
from resdyn.data.sources import ImageSource, TensorSource
from resdyn.errors import InputError, did_you_mean


class Batch(NamedTuple):
    """Positions in the data (N,), model inputs (N, *input_size), labels (N,)."""

    positions: Tensor
    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images, labels and everything that provenance needs; `inputs` are what the model is fed.

    labels: int64 (N,), 0..len(class_names)-1. sample_index: int64 (N,), the place of each image in the whole
    split, which subsets keep. mean, std: of the dataset's training images per channel, used where the model
    asks for no normalisation of its own. notes: what a reader of any number from these data must know.
    preprocessing: what makes inputs of images; None is the dataset's normalisation at the images' own size.
    relabelled: the classes are some of the dataset's, numbered anew (`of_classes`).
    """

    name: str
    split: str
    class_names: tuple[str, ...]
    labels: Tensor
    sample_index: Tensor
    source: ImageSource
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    relabelled: bool = False

    def __post_init__(self) -> None:
        if len(self.labels) == 0:
            raise InputError(f"got no images in {self.name} ({self.split}), expected at least one")

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, position: int) -> Tensor:
        """One image as stored: float32 in [0, 1], (C, H, W); IndexError beyond the last."""
        if not 0 <= position < len(self):
            raise IndexError(f"got image {position}, expected 0..{len(self) - 1}")
        return _unit_range(self.source.read(position))

    def inputs(self, positions: Sequence[int] | Tensor) -> Tensor:
        """Model inputs (len(positions), *input_size), float32: fitted and normalised (`prepared`)."""
        positions = self._positions(positions)
        if isinstance(self.source, TensorSource):
            return self._prepare(_unit_range(self.source.images[positions]))
        images = [_unit_range(self.source.read(int(i))) for i in positions]  # before files of 8 and 16 bits are mixed
        if len({image.shape for image in images}) == 1:
            return self._prepare(torch.stack(images))
        return self._stack([self._prepare(image[None]) for image in images])

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All images once, in order; the last batch may be smaller."""
        for positions in torch.arange(len(self)).split(checks.whole("batch_size", batch_size, 1)):
            yield Batch(positions, self.inputs(positions), self.labels[positions])

    def prepared(self, preprocessing: Preprocessing) -> ImageData:
        """The same images for a model: its input size, and its normalisation or else the dataset's."""
        if preprocessing.mean is None or preprocessing.std is None:
            preprocessing = dataclasses.replace(preprocessing, mean=self.mean, std=self.std)
        return dataclasses.replace(self, preprocessing=preprocessing)

    def subset(self, positions: Sequence[int] | Tensor) -> ImageData:
        """Some of the images, in the order given; their `sample_index` and the classes stay."""
        positions = self._positions(positions)
        return dataclasses.replace(
            self,
            labels=self.labels[positions],
            sample_index=self.sample_index[positions],
            source=_subset_source(self.source, positions),
        )

    def of_classes(self, classes: Sequence[str]) -> ImageData:
        """Only the images of some classes, relabelled 0..len(classes)-1 in the order given."""
        wanted = [self._class_number(name) for name in checks.words("classes", classes)]
        if len(set(wanted)) != len(wanted) or not wanted:
            raise InputError(f"got classes {list(classes)}, expected at least one, each once")
        relabel = torch.full((len(self.class_names),), -1)
        relabel[wanted] = torch.arange(len(wanted))
        kept = self.subset((relabel[self.labels] >= 0).nonzero().flatten())
        names = tuple(self.class_names[c] for c in wanted)
        return dataclasses.replace(kept, labels=relabel[kept.labels], class_names=names, relabelled=True)

    def in_memory(self) -> ImageData:
        """The same data with every model input computed once and kept; costs N * input values * 4 bytes."""
        inputs = torch.cat([batch.inputs for batch in self.batches(1024)])
        return dataclasses.replace(self, source=TensorSource(inputs), preprocessing=Preprocessing())

    def _positions(self, positions: Sequence[int] | Tensor) -> Tensor:
        chosen = torch.tensor(checks.wholes("positions", positions), dtype=torch.int64)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(self):
            raise InputError(
                f"got positions from {int(chosen.min())} to {int(chosen.max())}, expected 0..{len(self) - 1}: "
                f"{self.name} ({self.split}) has {len(self)} images"
            )
        return chosen

    def _class_number(self, name: str) -> int:
        if name in self.class_names:
            return self.class_names.index(name)
        hint = did_you_mean(name, self.class_names)
        known = ", ".join(self.class_names)
        raise InputError(f"got class '{name}' of {self.name}, expected one of: {known}.{hint}")

    def _prepare(self, images: Tensor) -> Tensor:
        default = Preprocessing(mean=self.mean, std=self.std)
        return (self.preprocessing or default)(images)

    def _stack(self, images: list[Tensor]) -> Tensor:
        shapes = sorted({tuple(image.shape[1:]) for image in images})
        if len(shapes) > 1:
            raise InputError(
                f"images of {self.name} have different shapes ({shapes[0]}, {shapes[1]}, ...), expected one "
                "shape: use a model with an input size, to which they are resized"
            )
        return torch.cat(images)


@dataclass(frozen=True, eq=False)
class _SubsetSource:
    source: ImageSource
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, index: int) -> Tensor:
        return self.source.read(int(self.positions[index]))


def _subset_source(source: ImageSource, positions: Tensor) -> ImageSource:
    if isinstance(source, TensorSource):
        return TensorSource(source.images[positions])
    return _SubsetSource(source, positions)


def _unit_range(image: Tensor) -> Tensor:
    return image.float() / 255 if image.dtype == torch.uint8 else image
