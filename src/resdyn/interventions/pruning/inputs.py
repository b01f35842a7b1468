"""What pruning reads: labelled images by name, or inputs of any form with their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from resdyn._torch import pytree
from resdyn.capturing.selection import LabelledInputs, labelled_inputs
from resdyn.data.images import ImageData
from resdyn.errors import InputError
from resdyn.models import LoadedModel
from resdyn.stream.arguments import Arguments
from resdyn.stream.placement import model_device, model_dtype
from resdyn.stream.preserve import preserve_state

BATCH = 256


def model_and_inputs(model: nn.Module | LoadedModel, data: Any) -> tuple[nn.Module, LabelledInputs]:
    """The module, and the data as inputs that it takes, with a label each.

    Raises:
        InputError: Something that is not a module, or data without labels.
    """
    module = model.model if isinstance(model, LoadedModel) else model
    if not isinstance(module, nn.Module):
        raise InputError(f"got a {type(model).__name__}; expected a module, or a model loaded by resdyn.load_model")
    if isinstance(data, ImageData) and data.preprocessing is None and isinstance(model, LoadedModel):
        data = data.prepared(model.preprocessing)
    found = as_labelled(module, data)
    if not bool((found.labels >= 0).all()):
        raise InputError("got data without labels; pruning compares predictions with labels: give (inputs, labels)")
    return module, found


def as_labelled(model: nn.Module, data: Any) -> LabelledInputs:
    """Images or any other data as inputs that are read by rows."""
    return data if isinstance(data, LabelledInputs) else labelled_inputs(data, model_dtype(model))


def held(data: LabelledInputs) -> LabelledInputs:
    """The same in memory: they are read once for every block that is tried."""
    everything = data.read(torch.arange(len(data)))
    return replace(data, read=lambda rows: everything[rows])


def batches(model: nn.Module, data: LabelledInputs) -> Iterator[Arguments]:
    """The inputs in order, on the device of the model."""
    for arguments, _ in data.batches(BATCH):
        yield arguments.to(model_device(model))


def logits(model: nn.Module, data: Any) -> Tensor:
    """Logits (samples, classes) of a model in eval mode, on the CPU.

    Raises:
        InputError: An output that holds no table of logits.
    """
    found = as_labelled(model, data)
    with torch.no_grad(), preserve_state(model):
        return torch.cat([_table(model(*a.args, **a.kwargs), len(a)).cpu() for a in batches(model, found)])


def _table(output: Any, count: int) -> Tensor:
    tables = [v for v in pytree.tree_leaves(output) if isinstance(v, Tensor) and v.dim() == 2 and len(v) == count]
    if not tables:
        raise InputError("got a model whose output holds no table (samples, classes) of logits; prune a classifier")
    return tables[0]
