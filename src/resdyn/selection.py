"""What a capture reads of its data: checked, one interface for images by name and for plain tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from resdyn.data import ImageData, TokenData
from resdyn.errors import InputError

SPREAD = 256


@dataclass(frozen=True)
class LabelledInputs:
    """Model inputs that are read on demand, int64 labels (-1: none is known), and each one's index in the data split.

    relabelled: the classes are some of the dataset's, numbered anew.
    """

    name: str
    split: str
    class_names: tuple[str, ...] | None
    labels: Tensor
    index: Tensor
    read: Callable[[Tensor], Tensor]
    notes: tuple[str, ...] = ()
    relabelled: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> bool:
        """Whether anything is known about classes."""
        return bool((self.labels >= 0).any())

    def subset(self, positions: Tensor) -> LabelledInputs:
        read = _Subset(self.read, positions)
        return replace(self, labels=self.labels[positions], index=self.index[positions], read=read)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for positions in torch.arange(len(self)).split(batch_size):
            yield self.read(positions), self.labels[positions]

    def positions_of(self, indices: Sequence[int]) -> Tensor:
        """Where the samples with these indices stand, in the same order."""
        place = {int(index): position for position, index in enumerate(self.index)}
        unknown = [index for index in indices if index not in place]
        if unknown or len(set(indices)) != len(indices) or not indices:
            raise InputError(
                f"got samples={list(indices)}, expected different indices of {self.name} ({self.split}), "
                f"which has {len(self)} from {min(place)} to {max(place)}"
                + (f"; {unknown[0]} is not one of them" if unknown else "")
            )
        return torch.tensor([place[index] for index in indices])


def labelled_inputs(data: ImageData | TokenData | Tensor | tuple[Tensor, Tensor], dtype: torch.dtype) -> LabelledInputs:
    """Images are read in the model's dtype; tensors must come in it; inputs alone have no labels.

    Raises `InputError` for empty data, and for tensors that do not fit each other or the model's dtype.
    """
    if isinstance(data, ImageData):
        read = _Cast(data.inputs, dtype)
        common = (data.name, data.split, tuple(data.class_names), data.labels, data.sample_index)
        return LabelledInputs(*common, read, tuple(data.notes), data.relabelled)
    if isinstance(data, TokenData):
        index = torch.arange(len(data))
        return LabelledInputs(data.name, "windows", None, data.following, index, _Rows(data.tokens), data.notes)
    if isinstance(data, Tensor):
        data = (data, torch.full((len(data) if data.dim() else 0,), -1))
    if not (isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)):
        raise InputError(
            f"got data of type {type(data).__name__}, expected ImageData, TokenData, a tensor of inputs, or a tuple of "
            "tensors (inputs, labels)"
        )
    inputs, labels = data
    _check_tensors(inputs, labels, dtype)
    return LabelledInputs("tensors", "given", None, labels.cpu(), torch.arange(len(labels)), _Rows(inputs))


def number_of_classes(data: LabelledInputs, logits: int | None) -> int:
    """As many as there are class names, else logits, else labels; at least one.

    Raises `InputError` for a label beyond, and for classes numbered anew that are not the model's logits.
    """
    if not data.labelled:
        return logits or 1
    lowest, highest = int(data.labels.min()), int(data.labels.max())
    classes = len(data.class_names) if data.class_names is not None else logits or highest + 1
    if lowest < 0 or highest >= classes:
        raise InputError(
            f"got labels from {lowest} to {highest}, expected 0..{classes - 1}: there are {classes} classes"
        )
    if data.relabelled and logits not in (None, classes):
        raise InputError(
            f"got {classes} classes of {data.name}, numbered 0..{classes - 1}, and a model with {logits} logits, "
            f"which would not be these classes; expected a model of {classes} classes: leave out the choice of "
            "classes (--classes, of_classes)"
        )
    return classes


def notes_on_classes(classes: int, logits: int | None) -> tuple[str, ...]:
    """What a reader must know where the model's logits are not for the data's classes."""
    if logits in (None, classes):
        return ()
    return (
        f"The model has {logits} logits and the data {classes} classes: its answers are not about these classes, "
        "so loss and accuracy are not given.",
    )


def choose(data: LabelledInputs, count: int, seed: int) -> Tensor:
    """Positions, ascending, of `count` samples drawn with a seed, as many of each class as can be."""
    if not 1 <= count <= len(data):
        raise InputError(f"got {count} samples, expected between 1 and the {len(data)} of {data.name} ({data.split})")
    rng = np.random.default_rng(seed)
    labels = data.labels.clamp_min(0).numpy()  # without labels all are of one class
    order = rng.permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)  # the how-manieth of its class a sample is in the drawn order
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    class_order = rng.permutation(labels.max() + 1)[labels]
    return torch.from_numpy(np.sort(np.lexsort((class_order, turn))[:count]))


def fingerprint(data: LabelledInputs, positions: Tensor, read: LabelledInputs | None = None) -> str:
    """SHA-256 over all labels and indices and over inputs as the model is fed them.

    The inputs are those at `positions` and, of what a pass over `read` takes in, `SPREAD` at regular distances:
    all of them would cost as much as the pass itself, so a change of a few images between these goes unnoticed.
    """
    digest = hashlib.sha256()
    for tensor in (data.labels, data.index):
        digest.update(tensor.numpy().tobytes())
    _hash_inputs(digest, data, positions)
    if read is not None:
        count = min(SPREAD, len(read))
        _hash_inputs(digest, read, torch.arange(count) * len(read) // count)
    return digest.hexdigest()


def _hash_inputs(digest: hashlib._Hash, data: LabelledInputs, positions: Tensor) -> None:
    for part in positions.split(256):
        inputs = data.read(part).contiguous()
        digest.update(f"{inputs.dtype}{tuple(inputs.shape[1:])}".encode())
        digest.update(inputs.cpu().view(torch.uint8).numpy().tobytes())


def _check_tensors(inputs: Tensor, labels: Tensor, dtype: torch.dtype) -> None:
    if inputs.dim() == 0 or len(inputs) == 0:
        raise InputError(f"got inputs of shape {tuple(inputs.shape)}, expected at least one sample (N, ...)")
    if labels.dtype != torch.int64 or labels.shape != inputs.shape[:1]:
        raise InputError(
            f"got labels of dtype {labels.dtype} and shape {tuple(labels.shape)}, "
            f"expected torch.int64 and ({len(inputs)},), one for each input"
        )
    if inputs.dtype == torch.uint8 or (inputs.is_floating_point() and inputs.dtype != dtype):
        raise InputError(
            f"got inputs of dtype {inputs.dtype}, expected the model's {dtype}; "
            "convert them as in training, for images (x.float() / 255 - mean) / std"
        )


def _finite(inputs: Tensor, positions: Tensor) -> Tensor:
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        bad = [int(p) for p, row in zip(positions, inputs) if not bool(torch.isfinite(row).all())]
        raise InputError(
            f"{len(bad)} of {len(inputs)} inputs hold NaN or infinite values, the first of them at {bad[0]}; "
            "clean or leave them out first"
        )
    return inputs


@dataclass(frozen=True)
class _Rows:
    tensor: Tensor

    def __call__(self, positions: Tensor) -> Tensor:
        return _finite(self.tensor[positions], positions)


@dataclass(frozen=True)
class _Cast:
    read: Callable[[Tensor], Tensor]
    dtype: torch.dtype

    def __call__(self, positions: Tensor) -> Tensor:
        return _finite(self.read(positions).to(self.dtype), positions)


@dataclass(frozen=True)
class _Subset:
    read: Callable[[Tensor], Tensor]
    positions: Tensor

    def __call__(self, positions: Tensor) -> Tensor:
        return self.read(self.positions[positions])
