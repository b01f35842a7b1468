"""What a model is called with for some samples: one tensor, or several by the names of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resdyn.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Arguments:
    """Tensors with the samples in their first dimension, as `stream.states(*args, **kwargs)` takes them.

    Attributes:
        args: The one tensor that has no name, or nothing.
        kwargs: All others, by the names of the model's arguments.
        shared: Which of these are the same for all samples and have no dimension of samples.
    """

    args: tuple[Tensor, ...]
    kwargs: dict[str, Any]  # of tensors; beside `find_stream`'s own keyword arguments they have no common type
    shared: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, inputs: Tensor | Mapping[str, Tensor], shared: Sequence[str] = ()) -> Arguments:
        """Check that all inputs but the shared ones hold the same number of samples.

        Raises:
            InputError: For a mapping that does not, for what is not a tensor, and for a shared name that it lacks.
        """
        check_samples(inputs, shared, Tensor)
        if isinstance(inputs, Tensor):
            return cls((inputs,), {})
        return cls((), dict(inputs), frozenset(shared))

    @property
    def named(self) -> dict[str, Tensor]:
        """All tensors by name; the name of a single one is empty."""
        return dict(zip([""] * len(self.args), self.args)) | self.kwargs

    def __len__(self) -> int:
        return next(len(value) for name, value in self.named.items() if name not in self.shared)

    def __getitem__(self, rows: slice | Tensor) -> Arguments:
        return self.map(lambda value: value[rows], every=False)

    def to(self, device: torch.device) -> Arguments:
        return self.map(lambda value: value.to(device))

    def map(self, change: Callable[[Tensor], Tensor], every: bool = True) -> Arguments:
        """The same arguments with every tensor changed (not the shared ones, unless `every`)."""
        kept = frozenset() if every else self.shared
        kwargs = {name: value if name in kept else change(value) for name, value in self.kwargs.items()}
        return replace(self, args=tuple(map(change, self.args)), kwargs=kwargs)


def check_samples(inputs: Any, shared: Sequence[str] = (), kind: Any = (Tensor, np.ndarray)) -> None:
    """Raise `InputError` unless inputs by name are arrays, of the same number of samples where not shared."""
    named = dict(inputs) if isinstance(inputs, Mapping) else {}
    check_shared(shared, named)
    if not isinstance(inputs, Mapping):
        return
    numbers = {x.shape[:1] if isinstance(x, kind) else None for name, x in named.items() if name not in shared}
    if len(numbers) == 1 and all(numbers) and all(isinstance(x, kind) for x in named.values()):
        return
    got = {name: tuple(x.shape) if isinstance(x, kind) else type(x).__name__ for name, x in named.items()}
    raise InputError(
        f"got inputs {got}, expected tensors by the names of the model's arguments, each with the same number of "
        "samples in its first dimension (name those that all samples share, such as a mask of tokens by tokens: "
        "shared=('attention_mask',)); whatever else the model takes belongs in its configuration"
    )


def check_shared(shared: Sequence[str], names: Mapping[str, object]) -> None:
    """Raise `InputError` for an input that is said to be shared and is not there, or if nothing else is."""
    for name in shared:
        if name not in names:
            known = ", ".join(names) or "none: a single input is one tensor of samples"
            raise InputError(
                f"got shared={list(shared)}, expected names of inputs, which are: {known}.{did_you_mean(name, names)}"
            )
    if shared and set(names) <= set(shared):
        raise InputError(f"got shared={list(shared)}, which are all inputs; expected one at least that holds samples")
