"""How a model's output is read: as logits, or as the result of a final softmax, log-softmax or sigmoid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, fx

from resdyn.stream.cut import Evaluation
from resdyn.stream.graph import DataGraph, tensor_of, tensors_of
from resdyn.stream.ops import moves_nothing, operation
from resdyn.stream.preserve import preserved

if TYPE_CHECKING:
    from resdyn.stream.stream import ResidualStream

Reading = Literal["logits", "probabilities", "log-probabilities", "sigmoid"]
SOFTMAX = {"softmax", "_softmax", "_safe_softmax"}
LOG_SOFTMAX = {"log_softmax", "_log_softmax"}
SIGMOID = {"sigmoid", "log_sigmoid", "log_sigmoid_forward"}
ONE = 1e-4  # largest deviation from 1 of a sum of probabilities, in any precision but half
NOTES: dict[Reading, str] = {
    "probabilities": "The model's output is read as probabilities p, as a softmax gives them: the loss is -log p of "
    "the label, and logits are what enters the softmax (or log p, where the softmax is not an operation of its own).",
    "log-probabilities": "The model's output is read as log-probabilities, as a log-softmax gives them: the loss is "
    "minus that of the label, and logits are what enters the log-softmax.",
    "sigmoid": "The model's output passes through a sigmoid: each class has a probability p of its own, the loss is "
    "-log p of the label's class alone, and logits are what enters the sigmoid.",
}


@dataclass(frozen=True)
class Readout:
    """What the output is, and the value in the graph that holds the logits (None: only the output is known)."""

    reading: Reading
    logits: fx.Node | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, if the output is not logits."""
        return (NOTES[self.reading],) if self.reading in NOTES else ()

    def logits_of(self, output: Tensor) -> Tensor:
        """Logits (up to a constant per sample) from the output alone."""
        smallest = torch.finfo(output.dtype).tiny if output.is_floating_point() else 0
        if self.reading == "probabilities":
            return output.clamp_min(smallest).log()
        if self.reading == "sigmoid":
            return torch.logit(output) if bool((output >= 0).all()) else output - (-torch.expm1(output)).log()
        return output


def find_readout(graph: DataGraph, target: fx.Node) -> Readout:
    """By the operations that end the graph; otherwise by whether a row of the output is a distribution."""
    last = _original(target)
    changed = operation(last) in ("log", "exp")  # log(softmax(z)) is a log-softmax, and the other way round
    inner = _original(last.all_input_nodes[0]) if changed else last
    if operation(inner) in SIGMOID and len(_shape(target)) in (1, 2):  # (1,): one logit per sample
        return Readout("sigmoid", _original(inner.all_input_nodes[0]))
    if operation(inner) in (*SOFTMAX, *LOG_SOFTMAX) and _over_classes(inner, target):
        reading: Reading = "log-probabilities" if (operation(inner) in LOG_SOFTMAX) != changed else "probabilities"
        return Readout(reading, _original(inner.all_input_nodes[0]))
    row = Evaluation(graph, graph.example)(target)
    return Readout("probabilities", None) if _is_distribution(row) else Readout("logits", target)


def logits_function(stream: ResidualStream) -> Callable[[Tensor], Tensor]:
    """The model itself as a function from a batch of inputs to its logits, without side effects."""
    call, number = preserved(stream.model), stream._graph.outputs.index(stream._target)

    def logits(inputs: Tensor) -> Tensor:
        return stream.readout.logits_of(tensors_of(call(inputs))[number])

    return logits


def _original(node: fx.Node) -> fx.Node:
    """The operation whose values a node repeats, possibly in another shape."""
    while moves_nothing(node) and node.all_input_nodes and operation(node.all_input_nodes[0]) != "split":
        node = node.all_input_nodes[0]
    return node


def _shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's tensor; empty if its value is not one tensor."""
    value = tensor_of(node)
    return () if value is None else tuple(value.shape)


def _over_classes(softmax: fx.Node, target: fx.Node) -> bool:
    """Whether a softmax is over the last dimension of the output."""
    shape, output, dim = _shape(softmax), _shape(target), softmax.args[1]
    if not isinstance(dim, int) or not shape or not output:
        return False
    after = torch.Size(shape[dim % len(shape) :])
    return after.numel() == after[0] == output[-1]


def _is_distribution(row: Any) -> bool:
    """Whether the output of one sample is two or more nonnegative numbers that add up to one."""
    if not isinstance(row, Tensor) or row.dim() != 2 or row.shape[1] < 2 or not row.is_floating_point():
        return False
    return bool((row >= 0).all() and ((row.double().sum(1) - 1).abs() < ONE).all())
