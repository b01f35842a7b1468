"""One sample as probes see it: its states, its blocks' Jacobians, and their singular triplets, computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn.errors import ComputationError
from resdyn.linalg import DenseOperator, LinearOperator, SVDResult
from resdyn.linalg.explicit import RememberedOperator
from resdyn.stream import Block, Kind, States, Stream
from resdyn.stream.placement import model_dtype

Array = NDArray[Any]
Dims = tuple[str, ...]
Layout = dict[str, tuple[Dims, tuple[int, ...], str]]
# Above this size a product with a block is faster than one with its matrix: fifty times at 4096, two convolutions.
DENSE_PRODUCTS = 1024


@dataclass
class Sample:
    """One sample on a stream, under one reading of the Jacobian.

    Attributes:
        stream: The stream, of whole states or of one token.
        states: h_0..h_L of this sample, each (1, *shape), with the model's inputs and output.
        label: The class, -1 where it is not known.
        index: The sample's index in its data split.
        kind: The capture's reading of the Jacobian: "gated", "branch" or "block".
        seed: The capture's seed. What a probe draws must depend on it, on `index` and on the block alone, so that it is
            the same whatever the order of tasks.
        svd: The solver of the `singular` probe, called with a Jacobian and a seed.
    """

    stream: Stream
    states: States
    label: int
    index: int
    kind: Kind
    seed: int
    svd: Callable[[LinearOperator, int], SVDResult]
    _dense: dict[int, DenseOperator] = field(default_factory=dict, init=False, repr=False)

    def jacobian(self, block: int, kind: Kind | None = None) -> LinearOperator:
        """The Jacobian of a block at this sample; matrix-free, unless a small matrix was formed for the triplets.

        Args:
            block: Index of the block.
            kind: The reading of the Jacobian (default: this sample's).

        Returns:
            An operator of shape (numel of output, numel of state).

        Raises:
            InputError: There is no such block.
        """
        if block in self._dense and kind in (None, self.kind):
            return self._dense[block]
        return self.stream.jacobian(block, self.states, kind=kind or self.kind)

    @cached_property
    def triplets(self) -> list[SVDResult]:
        """The singular triplets of every block; computed once and shared by the probes, because they are expensive."""
        return [self._triplets(block) for block in self.stream.blocks]

    def _triplets(self, block: Block) -> SVDResult:
        operator = RememberedOperator(self.jacobian(block.index))
        try:
            found = self.svd(operator, block_seed(self.seed, self.index, block.index))
        except ComputationError as error:
            raise ComputationError(f"sample {self.index}, block {block.index} ({block.path}): {error}") from error
        if operator.matrix is not None and max(operator.shape) <= DENSE_PRODUCTS:
            self._dense[block.index] = DenseOperator(operator.matrix)
        return found


def block_seed(seed: int, sample: int, block: int) -> int:
    """A seed that depends on nothing else: not on chunks, not on the order of tasks, not on the machine."""
    return int(np.random.SeedSequence([seed, sample, block]).generate_state(1)[0])


def state_sizes(stream: Stream) -> list[int]:
    """Numbers of elements of h_0..h_L."""
    shapes = [block.shape_in for block in stream.blocks] + [stream.blocks[-1].shape_out]
    return [math.prod(shape) for shape in shapes]


def float_dtype(stream: Stream) -> str:
    """The dtype in which the stream's numbers are stored.

    Args:
        stream: The stream to be measured.

    Returns:
        "float64" for a float64 model, else "float32".
    """
    return "float64" if model_dtype(stream.model) == torch.float64 else "float32"


def padded(rows: Sequence[Tensor | Array], dtype: str) -> Array:
    """Stack arrays whose last axes differ in length, padded with NaN."""
    longest = max(row.shape[-1] for row in rows)
    stacked = np.full((len(rows), *rows[0].shape[:-1], longest), np.nan, dtype)
    for target, row in zip(stacked, rows):
        target[..., : row.shape[-1]] = to_numpy(row)
    return stacked


def to_numpy(values: Tensor | Array) -> Array:
    """A tensor of any device and float dtype as a numpy array."""
    if isinstance(values, np.ndarray):
        return values
    values = values.detach().cpu()
    return (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy()
