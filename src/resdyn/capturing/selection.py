"""What a capture reads of its data: one interface, checked, for images by name, text, arrays and data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resdyn._hash import tensor_bytes
from resdyn.capturing.arrays import ArrayRows, as_inputs, check_arrays
from resdyn.capturing.indexed import IndexedData, indexed_data, is_indexed
from resdyn.capturing.labels import class_labels
from resdyn.data import ImageData, TokenData
from resdyn.errors import InputError
from resdyn.stream.arguments import Arguments, check_samples

SPREAD = 256
ONE_LOGIT = (
    "The model has one logit z for two classes: it is read as p(class 1) = sigmoid(z), so class 1 is predicted where "
    "z > 0, and logits of both classes are (0, z). An output that is a probability already is read as one only where "
    "torch.sigmoid made it."
)
Array = Tensor | np.ndarray | list[Any]
Inputs = Array | Mapping[str, Array]
Data = ImageData | TokenData | IndexedData | DataLoader[Any] | Dataset[Any] | Inputs | tuple[Inputs, Array]


@dataclass(frozen=True)
class LabelledInputs:
    """Model inputs that are read on demand, with a label and an index each.

    Attributes:
        class_names: None where the data have none.
        labels: int64 (N,); -1 where none is known.
        index: int64 (N,), of each sample in the data split.
        read: From rows, int64 (n,), to inputs, finite and in the model's dtype.
        notes: What a reader must know of the data.
        relabelled: The classes are some of the dataset's, with new numbers.
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

    def subset(self, rows: Tensor) -> LabelledInputs:
        read = _Subset(self.read, rows)
        return replace(self, labels=self.labels[rows], index=self.index[rows], read=read)

    def batches(self, batch_size: int) -> Iterator[tuple[Arguments, Tensor]]:
        for rows in torch.arange(len(self)).split(batch_size):
            yield self.read(rows), self.labels[rows]

    def rows_of(self, indices: Sequence[int]) -> Tensor:
        """Rows of the samples with these indices, in the same order."""
        place = {int(index): position for position, index in enumerate(self.index)}
        unknown = [index for index in indices if index not in place]
        if unknown or len(set(indices)) != len(indices) or not indices:
            raise InputError(
                f"got samples={list(indices)}, expected different indices of {self.name} ({self.split}), "
                f"which has {len(self)} from {min(place)} to {max(place)}"
                + (f"; {unknown[0]} is not one of them" if unknown else "")
            )
        return torch.tensor([place[index] for index in indices])


def labelled_inputs(data: Data, dtype: torch.dtype, shared: Sequence[str] = ()) -> LabelledInputs:
    """One interface for everything that `capture` takes as data.

    Args:
        data: Images, text, arrays or a data set; see `capture`.
        dtype: The model's. Images, NumPy's floats and samples of a data set are read in it; tensors must come in it.
        shared: Names of inputs that are the same for all samples.

    Raises:
        InputError: For empty data, for inputs that do not fit each other or the model's dtype, and for labels that are
            not one class per input.
    """
    if isinstance(data, ImageData | TokenData | IndexedData) or is_indexed(data):
        if shared:
            raise InputError(f"got shared={list(shared)}, but these data are one input per sample; leave it out")
        return _of_samples(data, dtype)
    inputs, labels = as_pair(data)
    if inputs is None:
        raise InputError(
            f"got data of type {type(data).__name__}, expected ImageData, TokenData, a DataLoader, a data set, inputs, "
            "or a tuple (inputs, labels), where inputs are an array (a tensor, NumPy's, or a list), or a mapping of "
            "arrays by the names of the model's arguments"
        )
    check_samples(inputs, shared)
    arrays = dict(inputs) if isinstance(inputs, Mapping) else {"": inputs}
    count = check_arrays(arrays, frozenset(shared), dtype)
    labels = torch.full((count,), -1) if labels is None else class_labels(labels, count)
    read = _Finite(ArrayRows(arrays, frozenset(shared), dtype))
    return LabelledInputs("tensors", "given", None, labels, torch.arange(count), read)


def as_pair(data: Any) -> tuple[Any, Any]:
    """(inputs, labels) of arrays, labels None where there are none; inputs None for what is no array."""
    pair = isinstance(data, tuple) and len(data) == 2
    if not pair and isinstance(data, list) and len(data) == 2 and _is_batch(*data):
        pair = True
    inputs, labels = data if pair else (data, None)
    return (None if isinstance(inputs, tuple) else as_inputs(inputs)), labels


def _is_batch(inputs: Any, labels: Any) -> bool:
    """Whether a list of two is a batch as a DataLoader makes it, [inputs, labels]."""
    arrays = isinstance(inputs, Tensor | np.ndarray | Mapping) and isinstance(labels, Tensor | np.ndarray)
    if not arrays or isinstance(inputs, Mapping):
        return arrays
    return inputs.ndim > 0 and labels.ndim > 0 and len(inputs) == len(labels) and inputs.shape != labels.shape


def _of_samples(data: Any, dtype: torch.dtype) -> LabelledInputs:
    if isinstance(data, ImageData):
        read = _Finite(_Cast(data.inputs, dtype))
        common = (data.name, data.split, tuple(data.class_names), data.labels, data.sample_index)
        return LabelledInputs(*common, read, tuple(data.notes), data.relabelled)
    if isinstance(data, TokenData):
        read = _Finite(_Tokens(data.tokens))
        return LabelledInputs(data.name, "windows", None, data.following, torch.arange(len(data)), read, data.notes)
    data = data if isinstance(data, IndexedData) else indexed_data(data)
    index = torch.arange(len(data))
    return LabelledInputs("dataset", "given", data.class_names, data.labels, index, _Finite(_Cast(data.read, dtype)))


def number_of_classes(data: LabelledInputs, logits: int | None) -> int:
    """As many as there are class names, else logits, else labels; at least one. One logit with labels 0 and 1 is two.

    Raises `InputError` for a label beyond, and for classes renumbered that are not the model's logits.
    """
    if not data.labelled:
        return logits or 1
    lowest, highest = int(data.labels.min()), int(data.labels.max())
    named = None if data.class_names is None else len(data.class_names)
    classes = named or (max(highest + 1, 2) if logits == 1 and highest <= 1 else logits or highest + 1)
    if lowest < 0 or highest >= classes:
        raise InputError(
            f"got labels from {lowest} to {highest}, expected 0..{classes - 1}: there are {classes} classes"
            + (" (of a model of one output, 0 and 1 alone are classes: leave out the labels)" if logits == 1 else "")
        )
    if data.relabelled and logits not in (None, classes) and not is_binary(classes, logits):
        raise InputError(
            f"got {classes} classes of {data.name}, numbered 0..{classes - 1}, and a model with {logits} logits, "
            f"which would not be these classes; expected a model of {classes} classes: leave out the choice of "
            "classes (--classes, of_classes)"
        )
    return classes


def is_binary(classes: int, logits: int | None) -> bool:
    """Whether one logit z decides between two classes: class 1 where z > 0."""
    return logits == 1 and classes == 2


def notes_on_classes(classes: int, logits: int | None) -> tuple[str, ...]:
    """What a reader must know where the model's logits are not one per class of the data."""
    if is_binary(classes, logits):
        return (ONE_LOGIT,)
    if logits in (None, classes):
        return ()
    return (
        f"The model has {logits} logits and the data {classes} classes: its predictions are not about these classes, "
        "so loss and accuracy are not given.",
    )


def choose(data: LabelledInputs, count: int, seed: int) -> Tensor:
    """Rows, ascending, of `count` samples drawn with a seed, balanced over classes; a larger one holds these."""
    if not 1 <= count <= len(data):
        raise InputError(f"got {count} samples, expected between 1 and the {len(data)} of {data.name} ({data.split})")
    rng = np.random.default_rng(seed)
    labels = data.labels.clamp_min(0).numpy()  # without labels all are of one class
    order = rng.permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)  # ordinal of a sample within its class, in the drawn order
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    class_order = rng.permutation(labels.max() + 1)[labels]
    return torch.from_numpy(np.sort(np.lexsort((class_order, turn))[:count]))


def fingerprint(data: LabelledInputs, rows: Tensor, read: LabelledInputs | None = None) -> str:
    """SHA-256 over all labels and indices and over inputs as the model is fed them.

    The inputs are those at `rows` and, of what a pass over `read` takes in, `SPREAD` at regular distances:
    all of them would cost as much as the pass itself, so a change of a few images between these goes unnoticed.
    """
    digest = hashlib.sha256()
    for tensor in (data.labels, data.index):
        digest.update(tensor.numpy().tobytes())
    _hash_inputs(digest, data, rows)
    if read is not None:
        count = min(SPREAD, len(read))
        _hash_inputs(digest, read, torch.arange(count) * len(read) // count)
    return digest.hexdigest()


def _hash_inputs(digest: hashlib._Hash, data: LabelledInputs, rows: Tensor) -> None:
    for part in rows.split(256):
        for name, values in data.read(part).named.items():
            digest.update(f"{name}{values.dtype}{tuple(values.shape[1:])}".encode())
            digest.update(tensor_bytes(values))


def _finite(inputs: Arguments, rows: Tensor) -> Arguments:
    for name, values in inputs.named.items():
        if name in inputs.shared:
            if bool(values.isnan().any()):  # infinities may be there, as in masks that are added
                raise InputError(f"inputs {name!r} hold NaN; clean them first")
            continue
        good = torch.isfinite(values).flatten(1).all(1) if values.is_floating_point() else torch.ones(len(values))
        if not good.all():
            raise InputError(
                f"{int((~good).sum())} of {len(values)} inputs hold NaN or infinite values, the first of them at "
                f"{int(rows[good.cpu().int().argmin()])}; clean or leave them out first"
            )
    return inputs


@dataclass(frozen=True)
class _Finite:
    """Passes on what is read, unless it holds NaN or infinite values."""

    read: Callable[[Tensor], Arguments]

    def __call__(self, rows: Tensor) -> Arguments:
        return _finite(self.read(rows), rows)


@dataclass(frozen=True)
class _Tokens:
    tokens: Tensor

    def __call__(self, rows: Tensor) -> Arguments:
        return Arguments.of(self.tokens[rows])


@dataclass(frozen=True)
class _Cast:
    """Reads inputs, floating-point ones in the model's dtype."""

    read: Callable[[Tensor], Any]
    dtype: torch.dtype

    def __call__(self, rows: Tensor) -> Arguments:
        inputs = Arguments.of(_tensors(self.read(rows)))
        return inputs.map(lambda x: x.to(self.dtype) if x.is_floating_point() else x)


def _tensors(inputs: Any) -> Any:
    """Inputs of a batch that a data set gave, as tensors."""
    if isinstance(inputs, Mapping):
        return {name: _tensors(inputs[name]) for name in inputs}
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "biuf":
        inputs = torch.from_numpy(inputs.copy())
    if not isinstance(inputs, Tensor) or inputs.dtype == torch.uint8:
        got = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise InputError(
            f"got inputs of a data set as {got}, expected tensors as the model takes them, one per sample, or a dict "
            "of them; give the data set a transform that makes them (for images ToTensor and Normalize)"
        )
    return inputs


@dataclass(frozen=True)
class _Subset:
    read: Callable[[Tensor], Arguments]
    rows: Tensor

    def __call__(self, rows: Tensor) -> Arguments:
        return self.read(self.rows[rows])
