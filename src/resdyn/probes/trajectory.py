"""Where the states of a sample travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy, logsigmoid

from resdyn.probes.protocol import described
from resdyn.probes.sample import Array, Layout, Sample, float_dtype, padded, state_sizes
from resdyn.stream import Stream

TEXTS = {
    "states": ("states h_0..h_L, flattened row-major, padded with NaN", "state"),
    "prediction": ("class of the largest logit, -1 where the output is not one row of logits", "1"),
    "loss": ("cross entropy -log p_label", "nat"),
}


@dataclass(frozen=True)
class Trajectory:
    """The states h_0..h_L of a sample, the network's prediction, and its cross entropy -log p_label; it has no
    settings.

    Steps are differences h_{i+1} - h_i of stored states. The arrays:

    - `states` (depth, coord): flattened row-major, padded with NaN, in the stream's dtype;
    - `prediction` (): the largest logit's class, int64; -1 if the output is not one row of logits;
    - `loss` (): in nats, float64, with p = softmax(z) of the logits z (what enters the last softmax of the model, if it
      has one; p = sigmoid(z) after a sigmoid); NaN if the logits are not for the data's classes, or no label is known.

    Cost:
        One forward pass.
    """

    name: ClassVar[str] = "trajectory"
    light: ClassVar[bool] = True

    def layout(self, stream: Stream, num_classes: int) -> Layout:
        """As in ``Probe.layout``: `states` (depth, coord), `prediction` (), `loss` ()."""
        sizes = state_sizes(stream)
        return {
            "states": (("depth", "coord"), (len(sizes), max(sizes)), float_dtype(stream)),
            "prediction": ((), (), "int64"),
            "loss": ((), (), "float64"),
        }

    def measure(self, sample: Sample, num_classes: int) -> dict[str, Array]:
        """As in ``Probe.measure``: states and prediction, from the forward pass that the sample holds."""
        states = padded([h.flatten() for h in sample.states], float_dtype(sample.stream))
        logits = class_logits(sample.states.logits, num_classes)
        prediction = -1 if logits is None else int(logits[0].argmax())
        return {
            "states": states,
            "prediction": np.asarray(prediction),
            "loss": np.asarray(_loss(logits, sample.label, num_classes, _reading(sample))),
        }

    def attributes(self, kind: str) -> dict[str, dict[str, str]]:
        """As in ``Probe``: long names and units; none is of a Jacobian."""
        return described(TEXTS)


def logits_of(output: Any) -> torch.Tensor | None:
    """The output if it is a table (N, C) of logits, else None."""
    if isinstance(output, torch.Tensor) and output.dim() == 2 and output.is_floating_point():
        return output
    return None


def class_logits(output: Any, num_classes: int) -> torch.Tensor | None:
    """The same, one column per class: of one logit z for two classes (0, z), so that softmax gives sigmoid(z)."""
    logits = logits_of(output)
    if logits is None or logits.shape[1] != 1 or num_classes != 2:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], 1)


def _reading(sample: Sample) -> str:
    """How the logits are read: one logit for two classes is one probability, and not one for each class."""
    reading: str = sample.stream.readout.reading
    return "logits" if sample.states.logits.shape[-1] == 1 else reading


def _loss(logits: torch.Tensor | None, label: int, num_classes: int, reading: str) -> float:
    if logits is None or logits.shape[1] != num_classes or label < 0:
        return float("nan")
    if reading == "sigmoid":
        return float(-logsigmoid(logits[0, label].double()))
    return float(cross_entropy(logits.double().cpu(), torch.tensor([label])))
