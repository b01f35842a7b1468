"""What a capture reads of its data: checked, one interface for images by name and for plain tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from resdyn._hash import tensor_bytes
from resdyn.data import ImageData, TokenData
from resdyn.errors import InputError
from resdyn.stream.arguments import Arguments

SPREAD = 256
Inputs = Tensor | Mapping[str, Tensor]
Data = ImageData | TokenData | Inputs | tuple[Inputs, Tensor]


@dataclass(frozen=True)
class LabelledInputs:
    """Model inputs that are read on demand, int64 labels (-1: none is known), and each one's index in the data split.

    What is read is finite and in the model's dtype. relabelled: the classes are some of the dataset's, numbered anew.
    """

    name: str
    split: str
    class_names: tuple[str, ...] | None
    labels: Tensor
    index: Tensor
    read: Callable[[Tensor], Arguments]
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

    def batches(self, batch_size: int) -> Iterator[tuple[Arguments, Tensor]]:
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


def labelled_inputs(data: Data, dtype: torch.dtype) -> LabelledInputs:
    """Images are read in the model's dtype; tensors must come in it; inputs alone have no labels.

    Raises `InputError` for empty data, and for tensors that do not fit each other or the model's dtype.
    """
    if isinstance(data, ImageData):
        read = _Cast(data.inputs, dtype)
        common = (data.name, data.split, tuple(data.class_names), data.labels, data.sample_index)
        return LabelledInputs(*common, read, tuple(data.notes), data.relabelled)
    if isinstance(data, TokenData):
        index = torch.arange(len(data))
        return LabelledInputs(
            data.name, "windows", None, data.following, index, _Rows(Arguments.of(data.tokens)), data.notes
        )
    inputs, labels = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    if not isinstance(inputs, Tensor | Mapping) or not isinstance(labels, Tensor | None):
        raise InputError(
            f"got data of type {type(data).__name__}, expected ImageData, TokenData, inputs, or a tuple (inputs, "
            "labels), where inputs are a tensor, or a mapping of tensors by the names of the model's arguments"
        )
    arguments = _checked(Arguments.of(inputs), dtype)
    labels = torch.full((len(arguments),), -1) if labels is None else labels.cpu()
    if labels.dtype != torch.int64 or labels.shape != (len(arguments),):
        raise InputError(
            f"got labels of dtype {labels.dtype} and shape {tuple(labels.shape)}, "
            f"expected torch.int64 and ({len(arguments)},), one for each input"
        )
    return LabelledInputs("tensors", "given", None, labels, torch.arange(len(labels)), _Rows(arguments))


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
        for name, values in data.read(part).named.items():
            digest.update(f"{name}{values.dtype}{tuple(values.shape[1:])}".encode())
            digest.update(tensor_bytes(values))


def _checked(inputs: Arguments, dtype: torch.dtype) -> Arguments:
    for name, values in inputs.named.items():
        what = f"inputs {name!r}" if name else "inputs"
        if values.dim() == 0 or len(values) == 0:
            raise InputError(f"got {what} of shape {tuple(values.shape)}, expected at least one sample (N, ...)")
        if values.dtype == torch.uint8 or (values.is_floating_point() and values.dtype != dtype):
            raise InputError(
                f"got {what} of dtype {values.dtype}, expected the model's {dtype}; "
                "convert them as in training, for images (x.float() / 255 - mean) / std"
            )
    return inputs


def _finite(inputs: Arguments, positions: Tensor) -> Arguments:
    for values in inputs.named.values():
        good = torch.isfinite(values).flatten(1).all(1) if values.is_floating_point() else torch.ones(len(values))
        if not good.all():
            raise InputError(
                f"{int((~good).sum())} of {len(values)} inputs hold NaN or infinite values, the first of them at "
                f"{int(positions[good.cpu().int().argmin()])}; clean or leave them out first"
            )
    return inputs


@dataclass(frozen=True)
class _Rows:
    arguments: Arguments

    def __call__(self, positions: Tensor) -> Arguments:
        return _finite(self.arguments[positions], positions)


@dataclass(frozen=True)
class _Cast:
    read: Callable[[Tensor], Tensor]
    dtype: torch.dtype

    def __call__(self, positions: Tensor) -> Arguments:
        return _finite(Arguments.of(self.read(positions).to(self.dtype)), positions)


@dataclass(frozen=True)
class _Subset:
    read: Callable[[Tensor], Arguments]
    positions: Tensor

    def __call__(self, positions: Tensor) -> Arguments:
        return self.read(self.positions[positions])
