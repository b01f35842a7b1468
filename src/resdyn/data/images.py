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
    """Some images as model inputs.

    Attributes:
        positions: (N,) int64, places in the data.
        inputs: ``(N, *input_size)``, float32.
        labels: (N,) int64.
    """

    positions: Tensor
    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """Labelled images of one split, and everything that provenance needs.

    Attributes:
        name: of the dataset.
        split: "train", "test", "all", ...
        class_names: one per class.
        labels: (N,) int64, 0..len(class_names)-1.
        sample_index: (N,) int64, the place of each image in the entire split; subsets keep it.
        source: images by position.
        mean: of the dataset's training images per channel, used where the model asks for no normalisation of its own.
        std: likewise.
        notes: what a reader of any number from these data must know.
        preprocessing: from images to model inputs; None is the dataset's normalisation at the images' own size.
        relabelled: whether the classes are a renumbered subset of the dataset's (``of_classes``).
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

    def __repr__(self) -> str:
        return f"ImageData({self.name}, {self.split}, {len(self)} images, {len(self.class_names)} classes)"

    def image(self, position: int) -> Tensor:
        """One image as stored.

        Args:
            position: 0..N-1.

        Returns:
            (C, H, W), float32 in [0, 1].

        Raises:
            IndexError: a position out of range.
            InputError: an image that cannot be decoded.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"got image {position}, expected 0..{len(self) - 1}")
        return _unit_range(self.source.read(position))

    def inputs(self, positions: Sequence[int] | Tensor) -> Tensor:
        """Model inputs: images resized and normalised (see ``prepared``).

        Args:
            positions: places in the data, 0..N-1.

        Returns:
            ``(len(positions), *input_size)``, float32.

        Raises:
            InputError: a position out of range, images that cannot be decoded, or of different shapes where no input
                size is set.
        """
        positions = self._positions(positions)
        if isinstance(self.source, TensorSource):
            return self._prepare(_unit_range(self.source.images[positions]))
        images = [_unit_range(self.source.read(int(i))) for i in positions]  # before files of 8 and 16 bits are mixed
        if len({image.shape for image in images}) == 1:
            return self._prepare(torch.stack(images))
        return self._stack([self._prepare(image[None]) for image in images])

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All images once, in order.

        Args:
            batch_size: images per batch; the last may be smaller.

        Yields:
            Batches of positions, inputs and labels.
        """
        for positions in torch.arange(len(self)).split(checks.whole("batch_size", batch_size, 1)):
            yield Batch(positions, self.inputs(positions), self.labels[positions])

    def prepared(self, preprocessing: Preprocessing) -> ImageData:
        """The same images for a model: its input size, and its normalisation or otherwise the dataset's.

        Args:
            preprocessing: of the model.

        Returns:
            Data whose ``inputs`` are what the model takes.
        """
        if preprocessing.mean is None or preprocessing.std is None:
            preprocessing = dataclasses.replace(preprocessing, mean=self.mean, std=self.std)
        return dataclasses.replace(self, preprocessing=preprocessing)

    def subset(self, positions: Sequence[int] | Tensor) -> ImageData:
        """Some of the images, in the order given; their ``sample_index`` and the classes are kept.

        Args:
            positions: places in the data, 0..N-1.

        Returns:
            Data of len(positions) images.

        Raises:
            InputError: a position out of range, or none.
        """
        positions = self._positions(positions)
        return dataclasses.replace(
            self,
            labels=self.labels[positions],
            sample_index=self.sample_index[positions],
            source=_subset_source(self.source, positions),
        )

    def of_classes(self, classes: Sequence[str]) -> ImageData:
        """Only the images of some classes, relabelled 0..len(classes)-1 in the order given.

        Args:
            classes: names, each once.

        Returns:
            Data with these classes alone.

        Raises:
            InputError: an unknown class, none, or one given twice.
        """
        kept_classes = [self._class_number(name) for name in checks.words("classes", classes)]
        if len(set(kept_classes)) != len(kept_classes) or not kept_classes:
            raise InputError(f"got classes {list(classes)}, expected at least one, each once")
        relabel = torch.full((len(self.class_names),), -1)
        relabel[kept_classes] = torch.arange(len(kept_classes))
        kept = self.subset((relabel[self.labels] >= 0).nonzero().flatten())
        names = tuple(self.class_names[c] for c in kept_classes)
        return dataclasses.replace(kept, labels=relabel[kept.labels], class_names=names, relabelled=True)

    def in_memory(self) -> ImageData:
        """The same data with every model input computed once and kept.

        Returns:
            Data of the same inputs.

        Cost:
            N x values per input x 4 bytes of memory.
        """
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
