"""The states h_0..h_L of an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


class States(Sequence[Tensor]):
    """The states h_0..h_L of N samples: a sequence of L+1 tensors of shape (N, *shape_i).

    h_i is the input of block i; h_L is the output of the last block. `outputs[i]` is what block i returns
    (equal to h_{i+1} unless a transition between stages stands in between), `output` what the model returns,
    `logits` the same unless a softmax or sigmoid ends the model (then what enters it), `features` the input of the
    final linear map (None if there is none), `inputs` the flat model inputs, `batched` which of them hold one entry a
    sample.
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

    @property
    def num_samples(self) -> int:
        """How many samples the states belong to."""
        return len(self._tensors[0])

    def sample(self, n: int) -> States:
        """The states of sample `n` alone (N = 1)."""
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
