"""The states h_0..h_L of an input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from torch import Tensor

from resdyn._display import Displayed, Table, table
from resdyn.stream.table import shape


class States(Displayed, Sequence[Tensor]):
    """The states h_0..h_L of N samples: a sequence of L+1 tensors of shape (N, *shape_i), made by `stream.states`.

    h_i is the input of block i; h_L is the output of the last block. A slice is a tuple of tensors.

    Attributes:
        outputs: What each block returns, L tensors (N, *shape); equal to h_{i+1} unless a transition between stages
            comes after the block.
        output: What the model returns.
        logits: The same, or what enters the softmax or sigmoid that ends the model.
        features: The input of the final linear map, (N, d); None if there is none.
        inputs: The flat model inputs.
        batched: Which of `inputs` hold one entry per sample.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        output: Tensor,
        features: Tensor | None,
        inputs: Sequence[Any],
        batched: Sequence[bool],
        logits: Tensor | None = None,
    ) -> None:
        """Internal: made by `stream.states`.

        Args:
            tensors: The states h_0..h_L, each (N, *shape_i).
            outputs: What each block returns.
            output: What the model returns.
            features: The input of the final linear map, (N, d), or None.
            inputs: The flat model inputs.
            batched: Which of `inputs` hold one entry per sample.
            logits: What enters the softmax or sigmoid that ends the model (default: `output`).
        """
        self._tensors = tuple(tensors)
        self.outputs = tuple(outputs)
        self.output = output
        self.logits = output if logits is None else logits
        self.features = features
        self.inputs = tuple(inputs)
        self.batched = tuple(batched)

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, index: Any) -> Any:
        return self._tensors[index]

    def _table(self) -> Table:
        rows = [
            (_span(run), shape(run[0][1].shape[1:]) or "1", run[0][1].dtype, run[0][1].device)
            for run in map(list, _runs(self._tensors))
        ]
        samples = f"{self.num_samples} sample{'s' if self.num_samples != 1 else ''}"
        return table(f"{len(self)} states of {samples}", ("depth", "shape per sample", "dtype", "device"), rows)

    @property
    def num_samples(self) -> int:
        """How many samples the states belong to."""
        return len(self._tensors[0])

    def sample(self, n: int) -> States:
        """The states of one sample alone (N = 1).

        Args:
            n: Index of the sample, from 0.

        Returns:
            Views of the same tensors, each (1, *shape_i).
        """
        pick = slice(n, n + 1)
        inputs = [value[pick] if many and len(value) > 1 else value for value, many in zip(self.inputs, self.batched)]
        features = None if self.features is None else self.features[pick]
        return States(
            [t[pick] for t in self._tensors],
            [t[pick] for t in self.outputs],
            self.output[pick],
            features,
            inputs,
            self.batched,
            self.logits[pick],
        )


def _runs(tensors: Sequence[Tensor]) -> Iterator[Iterator[tuple[int, Tensor]]]:
    """Consecutive states of one shape, dtype and device, with their depths."""
    alike = groupby(enumerate(tensors), key=lambda pair: (pair[1].shape, pair[1].dtype, pair[1].device))
    return (run for _, run in alike)


def _span(run: Sequence[tuple[int, Tensor]]) -> str:
    first, last = run[0][0], run[-1][0]
    return str(first) if first == last else f"{first} to {last}"
