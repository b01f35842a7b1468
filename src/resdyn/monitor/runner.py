"""The same measurement of one network, again and again while its weights change."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resdyn.capturing.indexed import IndexedData, indexed_data, is_indexed
from resdyn.capturing.run import capture
from resdyn.capturing.selection import Data, LabelledInputs, as_pair, labelled_inputs
from resdyn.data import ImageData, TokenData
from resdyn.errors import ComputationError, InputError
from resdyn.metrics import summarize
from resdyn.metrics.summary import Metric
from resdyn.probes import Probe, Singular, resolve_probes, traits
from resdyn.stream import ResidualStream, find_stream
from resdyn.stream.placement import model_device, model_dtype
from resdyn.stream.verify import check_current

TRIPLETS = 10


def fixed_batch(inputs: Data, labels: Any | None) -> Data:
    """A batch as `capture` takes it, its arrays out of a loop's reach, a data set by index."""
    if labels is None and (isinstance(inputs, ImageData | TokenData) or is_indexed(inputs)):
        return inputs if isinstance(inputs, ImageData | TokenData) else indexed_data(inputs)
    given, own = as_pair(inputs)
    if labels is not None and (given is None or own is not None):
        raise InputError(f"got labels beside inputs of type {type(inputs).__name__}, expected them beside arrays")
    if given is None:
        return inputs  # what `capture` refuses
    labels = own if labels is None else labels
    return _copied(given) if labels is None else (_copied(given), _copied(labels))


def _copied(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {name: _copied(value) for name, value in part.items()}
    return part.detach().clone() if isinstance(part, Tensor) else copy.deepcopy(part)


class ProbeRunner:
    """Measures a fixed batch again and again while the weights of a network change.

    The network's stream is kept, and found again where the network has got other parts, another place or precision, or
    computes something else than its graph.

    Args:
        data: What `fixed_batch` returned.
        probes: None is what the data allow.
        samples: How many of the batch are measured one by one.
        seed: See `capture`.
        options: More arguments of `capture`.
    """

    def __init__(
        self, data: Data, probes: tuple[Probe, ...] | None, samples: int, seed: int, options: Mapping[str, Any]
    ) -> None:
        self.data, self.samples, self.seed, self.options = data, samples, seed, options
        self.fit = probes is None
        self.probes = self._possible() if probes is None else probes
        self._stream: ResidualStream | None = None
        self._shapes: list[Any] = []

    def groups(self) -> list[tuple[Probe, ...]]:
        """Probes that are measured together: those that require each other; single ones come first."""
        found: list[tuple[Probe, ...]] = []
        for probe in self.probes:  # required ones come before
            linked = [group for group in found if any(other.name in traits(probe).requires for other in group)]
            merged = tuple(other for group in linked for other in group)
            found = [group for group in found if group not in linked] + [(*merged, probe)]
        return sorted(found, key=lambda group: len(group) > 1)

    def has_stream(self, model: nn.Module) -> bool:
        """Whether the stream of this network is at hand."""
        return self._stream is not None and self._stream.model is model and self._shapes == _shapes(model)

    def is_outdated(self, model: nn.Module) -> bool:
        """Whether the stream at hand no longer computes what the model does: a number in its code has changed."""
        assert self._stream is not None
        try:
            first = self._inputs(model).read(torch.tensor([0])).to(model_device(model))
            check_current(self._stream, first.args, first.kwargs)
        except ComputationError:
            return True
        return False

    def find_stream(self, model: nn.Module) -> None:
        """Find the stream, at two samples, so that a model which mixes the samples of a batch is noticed."""
        inputs = self._inputs(model)
        two = inputs.read(torch.arange(min(2, len(inputs)))).to(model_device(model))
        granularity = self.options.get("granularity", "join")
        self._stream = find_stream(model, *two.args, granularity=granularity, shared=tuple(two.shared), **two.kwargs)
        self._shapes = _shapes(model)

    def measure(self, model: nn.Module, group: tuple[Probe, ...]) -> list[Metric]:
        """All metrics that some probes allow; the model in eval mode, its stream found."""
        assert self._stream is not None
        probes = tuple(self._fitted(probe, self._stream) for probe in group) if self.fit else group
        samples = min(self.samples, len(self._inputs(model)))
        measured = capture(
            model,
            self.data,
            probes,
            store=None,
            samples=samples,
            seed=self.seed,
            stream=self._stream,
            show_progress=False,
            **self.options,
        )
        return summarize(measured)

    def _possible(self) -> tuple[Probe, ...]:
        labelled = isinstance(self.data, ImageData | tuple) or (
            isinstance(self.data, IndexedData) and self.data.labelled
        )
        classes = labelled and self.options.get("position") is None
        return resolve_probes("trajectory,singular,coupling" + ",features" * classes)

    def _inputs(self, model: nn.Module) -> LabelledInputs:
        return labelled_inputs(self.data, model_dtype(model), self.options.get("shared", ()))

    def _fitted(self, probe: Probe, stream: ResidualStream) -> Probe:
        """Ten triplets, or as many as the smallest block has."""
        if not isinstance(probe, Singular):
            return probe
        position = self.options.get("position")
        most = probe.fitted(stream if position is None else stream.at(position)).k
        return dataclasses.replace(probe, k=min(TRIPLETS, most or TRIPLETS))


def names(group: Sequence[Probe]) -> str:
    """A group of probes as text."""
    return ", ".join(probe.name for probe in group)


def _shapes(model: nn.Module) -> list[Any]:
    """What a stream depends on besides the values of weights."""
    return [(name, t.shape, t.dtype, t.device) for name, t in [*model.named_parameters(), *model.named_buffers()]]
