"""How several values lie side by side in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

FEATURE_DIM = {4: 1, 5: 1}  # of images, channels; of all else the last


@dataclass(frozen=True)
class Layout:
    """Values along one dimension, or one after another where `dim` is None.

    Attributes:
        names: What computes each value.
        shapes: Of each value, batch of one included.
        dim: The dimension along which they lie; None: each is flattened.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dim: int | None

    @classmethod
    def of(cls, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> Layout:
        """Along the dimension in which they differ, or that of features where they do not; flattened otherwise."""
        ranks = {len(shape) for shape in shapes}
        if len(ranks) > 1 or ranks == {0}:
            return cls(tuple(names), tuple(shapes), None)
        (rank,) = ranks
        differing = [dim for dim, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
        if not differing:
            dim = FEATURE_DIM.get(rank, rank - 1)
            return cls(tuple(names), tuple(shapes), dim or None)
        return cls(tuple(names), tuple(shapes), differing[0] if len(differing) == 1 and differing[0] > 0 else None)

    @property
    def keys(self) -> tuple[str, ...]:
        """The names, numbered where one stands for several."""
        counts = [self.names[:i].count(name) for i, name in enumerate(self.names)]
        return tuple(f"{name}#{count + 1}" if count else name for name, count in zip(self.names, counts))

    @property
    def lengths(self) -> list[int]:
        """How much of the dimension each value takes."""
        return [prod(shape) if self.dim is None else shape[self.dim] for shape in self.shapes]

    def split(self, state: Tensor) -> list[Tensor]:
        """The values that a state of the exported graph holds, each in its own shape."""
        parts = state.split(self.lengths, self.dim or 1)
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def pack(self, values: Sequence[Tensor]) -> Tensor:
        """The values as one state of the exported graph."""
        shaped = [v.reshape(shape if self.dim is not None else (1, -1)) for v, shape in zip(values, self.shapes)]
        return torch.cat(shaped, self.dim or 1)


@dataclass(frozen=True)
class Packed:
    """The values of the states that a block reads and returns, where these are several.

    Attributes:
        before: Of the state that the block reads.
        after: Of the state that it returns.
        origin: For each value of the latter, which value of the former it is unchanged; None where the block computes
            it.
        read: For each value of the latter, whether the block computes another one from it.
        entry: For each value of the former, which value of what the block before returns it is; None where something
            between the blocks computes it.
    """

    before: Layout
    after: Layout
    origin: tuple[int | None, ...]
    read: tuple[bool, ...]
    entry: tuple[int | None, ...]
