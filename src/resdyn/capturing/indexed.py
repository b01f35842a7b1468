"""Data sets that are indexed, and loaders of them: samples are read when they are measured, by index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, default_collate
from torch.utils.data.sampler import RandomSampler, SequentialSampler

from resdyn.capturing.labels import class_labels
from resdyn.errors import InputError
from resdyn.progress import track

LABELS = ("labels", "label")
PROBED = 16  # samples that are read twice, to see whether they are the same both times


@dataclass(frozen=True)
class IndexedData:
    """Samples by index, and their class labels, which are known from the start.

    Attributes:
        items: What is indexed; items are inputs, (inputs, label), or mappings of inputs by name.
        collate: Makes a batch of a list of items.
        labels: int64 (N,), -1 where items have none.
        class_names: Those of the data set, if it has any.
    """

    items: Any
    collate: Callable[[list[Any]], Any]
    labels: Tensor
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> bool:
        """Whether the items have class labels."""
        return bool((self.labels >= 0).any())

    def read(self, rows: Tensor) -> Any:
        """Inputs of some samples. Raises `InputError` for labels that are not those known from the start."""
        inputs, labels = _split(_batch(self.items, rows, self.collate), len(rows))
        read = torch.full((len(rows),), -1) if labels is None else labels
        if not torch.equal(read, self.labels[rows]):
            row = int(rows[(read != self.labels[rows]).int().argmax()])
            raise InputError(
                f"got sample {row} of the data set with another label than before; expected the same sample at every "
                "reading: fix its order and its transforms"
            )
        return inputs


def is_indexed(data: Any) -> bool:
    """Whether data are a loader, a data set with `len` and indices, or a list of pairs or of mappings."""
    if isinstance(data, list):
        return bool(data) and all(isinstance(item, tuple | Mapping) for item in data)
    if isinstance(data, DataLoader | IterableDataset):
        return True
    array = isinstance(data, Tensor | np.ndarray | Mapping | tuple | str) or hasattr(data, "__array__")
    return not array and hasattr(data, "__getitem__") and hasattr(data, "__len__")


def indexed_data(data: Any) -> IndexedData:
    """A data set or a loader, by index.

    A loader is its data set and its collate function: its samples are read by their index in the data set, not in the
    order of a pass, so a loader that shuffles is the same data each time. Labels are taken from `targets` (or a column
    `labels` or `label`) where there is one, else every item is read once.

    Raises:
        InputError: For data that cannot be indexed, a loader that reads other samples than each of its data set once,
            samples that differ from one reading to the next (random augmentation), and empty data.
    """
    items, collate = _of_loader(data) if isinstance(data, DataLoader) else (data, default_collate)
    if isinstance(items, IterableDataset) or not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
        raise InputError(
            f"got a data set of type {type(items).__name__}, which has no indices, so a run that was stopped could not "
            "find its samples again; pass a map-style data set, or tensors of the samples to measure"
        )
    if not len(items):
        raise InputError(f"got a data set of type {type(items).__name__} without samples, expected at least one")
    _check_repeatable(items, collate)
    return IndexedData(items, collate, _labels(items, collate), _class_names(items))


def _of_loader(loader: DataLoader[Any]) -> tuple[Any, Callable[[list[Any]], Any]]:
    sampler: Any = loader.sampler
    drawn = isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == len(sampler)
    whole = isinstance(sampler, SequentialSampler) or (drawn and len(sampler) == len(sampler.data_source))
    if isinstance(loader.dataset, IterableDataset) or (loader.batch_size is not None and whole):
        return loader.dataset, loader.collate_fn
    raise InputError(
        f"got a DataLoader with {type(sampler).__name__} and batch_size={loader.batch_size}, expected one that reads "
        "every sample of its data set once; pass the data set, or a torch.utils.data.Subset of it"
    )


def _check_repeatable(items: Any, collate: Callable[[list[Any]], Any]) -> None:
    count = min(PROBED, len(items))
    for row in torch.arange(count) * len(items) // count:
        one, two = (_leaves(_batch(items, row[None], collate)) for _ in range(2))
        if len(one) != len(two) or not all(map(_equal, one, two)):
            raise InputError(
                f"sample {int(row)} of the data set differs from one reading to the next, as with random augmentation; "
                "expected the same each time: use the transforms of evaluation"
            )


def _leaves(batch: Any) -> list[Any]:
    if isinstance(batch, Mapping):
        return [leaf for name in batch for leaf in _leaves(batch[name])]
    return [leaf for part in batch for leaf in _leaves(part)] if isinstance(batch, list | tuple) else [batch]


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return one.dtype == two.dtype and one.shape == two.shape and torch.equal(one.nan_to_num(), two.nan_to_num())
    return type(one) is type(two) and bool(np.all(one == two))


def _batch(items: Any, rows: Tensor, collate: Callable[[list[Any]], Any]) -> Any:
    picked = [_item(items, int(row)) for row in rows]
    try:
        return collate(picked)
    except (TypeError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"samples {rows.tolist()[:4]} of the data set do not make a batch of tensors ({reason}); expected items "
            "(inputs, label), inputs, or a dict of tensors, of one shape: add a transform such as ToTensor"
        ) from error


def _item(items: Any, row: int) -> Any:
    try:
        return items[row]
    except Exception as error:  # whatever the data set raises, the sample is named
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise InputError(
            f"sample {row} of the data set cannot be read ({type(error).__name__}{': ' if reason else ''}{reason}); "
            "repair it, or name other samples"
        ) from error


def _split(batch: Any, count: int) -> tuple[Any, Tensor | None]:
    """Inputs and class labels of a batch; entries by name keep labels that are not one per sample."""
    if isinstance(batch, Mapping):
        for name in LABELS:
            if name in batch and np.shape(batch[name]) == (count,):
                inputs = {other: batch[other] for other in batch if other != name}
                return inputs, class_labels(batch[name], count)
        return dict(batch), None
    if isinstance(batch, list | tuple):
        if len(batch) == 1:
            return batch[0], None
        if len(batch) != 2:
            raise InputError(f"got items of {len(batch)} parts, expected (inputs, label), inputs, or a dict of tensors")
        return batch[0], class_labels(batch[1], count)
    return batch, None


def _labels(items: Any, collate: Callable[[list[Any]], Any]) -> Tensor:
    """Labels of all samples; what is read of a data set's own list is checked whenever a sample is read."""
    _, first = _split(_batch(items, torch.tensor([0]), collate), 1)
    if first is None:
        return torch.full((len(items),), -1)
    known = _known_labels(items)
    if known is not None and torch.equal(known[:1], first):
        return known
    return torch.cat([_one_label(items, row, collate) for row in track(range(len(items)), "reading labels")])


def _one_label(items: Any, row: int, collate: Callable[[list[Any]], Any]) -> Tensor:
    _, label = _split(_batch(items, torch.tensor([row]), collate), 1)
    return torch.tensor([-1]) if label is None else label


def _known_labels(items: Any) -> Tensor | None:
    """Labels that a data set lists, in its order; None where it lists none that fit."""
    if isinstance(items, Subset):
        known = _known_labels(items.dataset)
        return None if known is None else known[list(items.indices)]
    if isinstance(items, ConcatDataset):
        parts = [_known_labels(part) for part in items.datasets]
        return None if any(part is None for part in parts) else torch.cat(parts)  # type: ignore[arg-type]
    for listed in (_column(items), getattr(items, "targets", None)):
        try:
            if listed is not None:
                return class_labels(listed, len(items))
        except InputError:
            continue
    return None


def _column(items: Any) -> Any:
    """The labels of a Hugging Face data set, without reading its other columns."""
    names = getattr(items, "column_names", None)
    found = [name for name in LABELS if isinstance(names, list) and name in names]
    return list(items.with_format(None)[found[0]]) if found else None


def _class_names(items: Any) -> tuple[str, ...] | None:
    if isinstance(items, Subset):
        return _class_names(items.dataset)
    features = getattr(items, "features", None)
    listed = [getattr(features.get(name), "names", None) for name in LABELS] if isinstance(features, Mapping) else []
    for names in [getattr(items, "classes", None), *listed]:
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return None
