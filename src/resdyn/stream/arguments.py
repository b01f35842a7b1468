"""What a model is called with for some samples: one tensor, or several by the names of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from resdyn.errors import InputError


@dataclass(frozen=True)
class Arguments:
    """Tensors with the samples in their first dimension, as `stream.states(*args, **kwargs)` takes them."""

    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]

    @classmethod
    def of(cls, inputs: Tensor | Mapping[str, Tensor]) -> Arguments:
        """Raises `InputError` unless a mapping holds tensors of equally many samples."""
        if isinstance(inputs, Tensor):
            return cls((inputs,), {})
        numbers = {value.shape[:1] if isinstance(value, Tensor) else None for value in inputs.values()}
        if len(numbers) != 1 or not all(numbers):
            got = {name: tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for name, x in inputs.items()}
            raise InputError(
                f"got inputs {got}, expected tensors by the names of the model's arguments, each with the same number "
                "of samples in its first dimension; whatever else the model takes belongs into its configuration"
            )
        return cls((), dict(inputs))

    @property
    def named(self) -> dict[str, Tensor]:
        """All tensors by name; the name of a single one is empty."""
        return dict(zip([""] * len(self.args), self.args)) | self.kwargs

    def __len__(self) -> int:
        return len(next(iter(self.named.values())))

    def __getitem__(self, rows: slice | Tensor) -> Arguments:
        return self.map(lambda value: value[rows])

    def to(self, device: torch.device) -> Arguments:
        return self.map(lambda value: value.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> Arguments:
        return Arguments(tuple(map(change, self.args)), {name: change(value) for name, value in self.kwargs.items()})
