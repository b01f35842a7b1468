"""From the derivatives between all elements of two states to one matrix per depth: the definitions, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from resdyn.errors import InputError
from resdyn.stream.tail_map import Pullback

Name = Literal["sum", "self", "flat", "pool"]
Channels = Literal["first", "last"]
Shape = tuple[int, ...]
NAMES: tuple[Name, ...] = ("sum", "self", "flat", "pool")
BLOCK_BYTES = {"cpu": 4 << 20}  # of the largest value of a block of rows, by measurement at widths of 64 to 768
DEVICE_BYTES = 512 << 20
FLAT_LIMIT = 1 << 25  # elements of one matrix: 128 MiB in single precision

DEFINITIONS: dict[str, str] = {
    "sum": "mean over the valid positions t of the sum over the valid positions t' of d target[t'] / d h[t]",
    "self": "mean over the valid positions p of d target[p] / d h[p]",
    "flat": "d target / d h, both flattened row-major",
    "pool": "d (mean of the target over all places) / d h, with each channel of h moved at all places at once",
}


@dataclass(frozen=True)
class Reduction:
    """One definition for states of given shapes: cotangents at the target, and what is read at every depth.

    Attributes:
        name: "sum", "self", "flat" or "pool".
        target: Shape of the target, per sample.
        sources: Shapes of the states, per sample.
        average_targets: Divide what a position's state does by the number of positions that it reaches ("sum").
        causal: Whether positions reach later ones alone.
        channels: Where the channels of images are ("pool").
    """

    name: Name
    target: Shape
    sources: tuple[Shape, ...]
    average_targets: bool = False
    causal: bool = True
    channels: Channels = "first"

    @property
    def rows(self) -> int:
        """Rows of every matrix."""
        if self.name == "flat":
            return torch.Size(self.target).numel()
        if self.name == "pool":
            return self.target[self._axis(self.target)]
        return self.target[-1]

    @property
    def columns(self) -> list[int]:
        """Columns of the matrix of each depth."""
        if self.name == "flat":
            return [torch.Size(shape).numel() for shape in self.sources]
        if self.name == "pool":
            return [shape[self._axis(shape)] for shape in self.sources]
        return [shape[-1] for shape in self.sources]

    def matrices(self, pullback: Pullback, valid: Tensor | None, like: Tensor, block: int) -> list[Tensor]:
        """One matrix (rows, columns) per depth, at one sample; `valid` are its positions, bool (T,)."""
        units = torch.eye(self.rows, dtype=like.dtype, device=like.device)
        if self.name == "self":
            assert valid is not None
            places = valid.nonzero().flatten().tolist()
            parts = [self.products(pullback, units, self._at(place, valid), block) for place in places]
            return [torch.stack(column).mean(0) for column in zip(*parts, strict=True)]
        return self.products(pullback, units, valid, block)

    def products(self, pullback: Pullback, vectors: Tensor, valid: Tensor | None, block: int) -> list[Tensor]:
        """J^T u of each of some vectors, (B, rows) -> (B, columns) per depth, at one sample."""
        found: list[list[Tensor]] = [[] for _ in self.sources]
        for some in vectors.split(block):
            for depth, value in enumerate(pullback(self._spread(some, valid))):
                found[depth].append(self._read(value, valid))
        return [torch.cat(parts) for parts in found]

    def injected(self, vectors: Tensor, depth: int, valid: Tensor | None) -> Tensor:
        """Vectors (B, columns) as changes of a state (B, *source), so that `collected` of their images is J v."""
        shape = self.sources[depth]
        if self.name == "flat" or len(shape) == 1:
            return vectors.reshape(-1, *shape)
        if self.name == "pool":
            axis = self._axis(shape)
            sizes = [-1 if dim == axis else 1 for dim in range(len(shape))]
            return vectors.reshape(len(vectors), *sizes).expand(-1, *shape).contiguous()
        assert valid is not None
        moved = vectors.new_zeros(len(vectors), *shape)
        picked = moved[:, valid]
        moved[:, valid] = self._weights(picked)[None, :, None] * vectors[:, None, :]
        return moved

    def collected(self, values: Tensor, valid: Tensor | None) -> Tensor:
        """Changes of the target (B, *target) as rows (B, rows)."""
        if self.name == "flat" or len(self.target) == 1:
            return values.flatten(1)
        if self.name == "pool":
            axis = self._axis(self.target) + 1
            return values.mean([dim for dim in range(1, values.dim()) if dim != axis])
        assert valid is not None
        return values[:, valid].sum(1)

    def _at(self, place: int, valid: Tensor) -> Tensor:
        one = torch.zeros_like(valid)
        one[place] = True
        return one

    def _spread(self, vectors: Tensor, valid: Tensor | None) -> Tensor:
        """Vectors (B, rows) as cotangents (B, *target)."""
        if len(self.target) == 1 or self.name == "flat":
            return vectors.reshape(-1, *self.target)
        if self.name == "pool":
            axis = self._axis(self.target)
            places = torch.Size(self.target).numel() // self.target[axis]
            shape = [-1 if dim == axis else 1 for dim in range(len(self.target))]
            return (vectors / places).reshape(len(vectors), *shape).expand(-1, *self.target).contiguous()
        assert valid is not None
        return valid.to(vectors)[None, :, None] * vectors[:, None, :]

    def _read(self, value: Tensor, valid: Tensor | None) -> Tensor:
        """Products (B, *source) as rows (B, columns)."""
        if self.name == "flat":
            return value.flatten(1)
        if self.name == "pool":
            axis = self._axis(tuple(value.shape[1:])) + 1
            return value.sum([dim for dim in range(1, value.dim()) if dim != axis]) if value.dim() > 2 else value
        assert valid is not None
        picked = value[:, valid]
        return (self._weights(picked)[None, :, None] * picked).sum(1)

    def _weights(self, picked: Tensor) -> Tensor:
        count = picked.shape[1]
        reached = torch.ones(count, dtype=picked.dtype, device=picked.device)
        if self.average_targets and len(self.target) > 1:
            reached = torch.arange(count, 0, -1).to(reached) if self.causal else reached * count
        return 1 / (reached * count)

    def _axis(self, shape: Shape) -> int:
        return 0 if self.channels == "first" or len(shape) == 1 else len(shape) - 1


def block_size(largest: int, itemsize: int, device: torch.device) -> int:
    """Rows at once: as many as fit in a core's cache on a CPU, in a share of the memory of another device."""
    return max(1, BLOCK_BYTES.get(device.type, DEVICE_BYTES) // (largest * itemsize))


def default_reduction(target: Shape, sources: tuple[Shape, ...]) -> Name:
    """By the shapes of the states: "sum" for (tokens, width), "pool" for images of channels, else "flat"."""
    if all(len(shape) == 2 for shape in sources) and len({shape[0] for shape in sources}) == 1:
        return "sum"
    return "pool" if all(len(shape) == 3 for shape in sources) and len(target) in (1, 3) else "flat"


def checked_reduction(
    name: Name | None, target: Shape, sources: tuple[Shape, ...], channels: Channels | None
) -> tuple[Name, Channels]:
    """The reduction asked for, or that of the shapes; and where channels are.

    Raises:
        InputError: For states that a reduction does not fit, for matrices too large to keep, and for images of which
            the shapes do not say where their channels are.
    """
    name = default_reduction(target, sources) if name is None else name
    if name in ("sum", "self"):
        tokens = sources[0][0] if sources[0] else 0
        for shape in sources:
            if len(shape) != 2 or shape[0] != tokens:
                raise InputError(
                    f"got reduction='{name}' and a state of shape {shape}, expected (tokens, width) with the same "
                    "number of tokens at every depth; use reduction='flat' or 'pool'"
                )
        fits = (len(target) == 1 and name == "sum") or (len(target) == 2 and target[0] == tokens)
        if not fits:
            raise InputError(
                f"got reduction='{name}' and a target of shape {target}, expected ({tokens}, width), one row per token"
            )
    if name == "pool":
        if not all(len(shape) in (1, 3) for shape in (*sources, target)):
            raise InputError(
                f"got reduction='pool' and states of shapes {sources} and {target}, expected (channels, height, width)"
            )
        channels = _channels((*sources, target)) if channels is None else channels
    largest = max(torch.Size(shape).numel() for shape in sources) * torch.Size(target).numel()
    if name == "flat" and largest > FLAT_LIMIT:
        raise InputError(
            f"got reduction='flat' and states of shapes {sources[0]} to {target}: a matrix of {largest} elements, "
            f"expected at most {FLAT_LIMIT}; use reduction='pool', or later depths"
        )
    return name, channels or "first"


def _channels(shapes: tuple[Shape, ...]) -> Channels:
    """Where channels are, by sides of equal length; an error where the shapes leave it open."""
    images = [shape for shape in shapes if len(shape) == 3 and len(set(shape)) > 1]
    first, last = (all(shape[a] == shape[a + 1] for shape in images) for a in (1, 0))
    if not images or first == last:
        raise InputError(
            f"the shapes {list(dict.fromkeys(shapes))} do not say where the channels are; pass channels='first' or "
            "channels='last'"
        )
    return "first" if first else "last"
