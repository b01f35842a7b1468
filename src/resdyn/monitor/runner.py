"""The same questions to one network again and again while its weights change."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resdyn.capturing.run import capture
from resdyn.capturing.selection import Data, LabelledInputs, labelled_inputs
from resdyn.data import ImageData
from resdyn.errors import ComputationError, InputError
from resdyn.metrics import summarize
from resdyn.metrics.summary import Metric
from resdyn.probes import Probe, Singular, resolve_probes, traits
from resdyn.stream import ResidualStream, find_stream
from resdyn.stream.placement import model_device, model_dtype
from resdyn.stream.verify import check_current

TRIPLETS = 10


def fixed_batch(inputs: Data, labels: Tensor | None) -> Data:
    """A batch as `capture` takes it, its tensors out of a loop's reach."""
    if labels is not None and not isinstance(inputs, Tensor | Mapping):
        raise InputError(f"got labels beside inputs of type {type(inputs).__name__}, expected them beside tensors")
    data: Any = inputs if labels is None else (inputs, labels)
    if isinstance(data, tuple):
        return tuple(_copied(part) for part in data)  # type: ignore[return-value]
    return _copied(data)


def _copied(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {name: _copied(value) for name, value in part.items()}
    return part.detach().clone() if isinstance(part, Tensor) else part


class Questions:
    """Probes of a fixed batch. `options` are those of `capture`; `probes` None: what the data allow.

    The network's stream is kept, and found again where the network has got other parts, another place or precision, or
    computes something else than its graph.
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

    def knows(self, model: nn.Module) -> bool:
        """Whether the stream of this network is at hand."""
        return self._stream is not None and self._stream.model is model and self._shapes == _shapes(model)

    def outdated(self, model: nn.Module) -> bool:
        """Whether the stream at hand no longer computes what the model does: a number in its code has changed."""
        assert self._stream is not None
        try:
            first = self._inputs(model).read(torch.tensor([0])).to(model_device(model))
            check_current(self._stream, first.args, first.kwargs)
        except ComputationError:
            return True
        return False

    def find(self, model: nn.Module) -> None:
        """Find the stream, at two samples, so that a model which mixes the samples of a batch is noticed."""
        inputs = self._inputs(model)
        two = inputs.read(torch.arange(min(2, len(inputs)))).to(model_device(model))
        granularity = self.options.get("granularity", "join")
        self._stream = find_stream(model, *two.args, granularity=granularity, **two.kwargs)
        self._shapes = _shapes(model)

    def answers(self, model: nn.Module, group: tuple[Probe, ...]) -> list[Metric]:
        """All metrics that some probes allow; the model in eval mode, its stream found."""
        assert self._stream is not None
        probes = tuple(self._fitted(probe, self._stream) for probe in group) if self.fit else group
        samples = min(self.samples, len(self._inputs(model)))
        with tempfile.TemporaryDirectory(prefix="resdyn-monitor-") as folder:
            measured = capture(
                model,
                self.data,
                probes,
                Path(folder) / "store.zarr",
                samples=samples,
                seed=self.seed,
                stream=self._stream,
                quiet=True,
                **self.options,
            )
            found = summarize(measured)
            measured.close()
        return found

    def _possible(self) -> tuple[Probe, ...]:
        classes = isinstance(self.data, ImageData | tuple) and self.options.get("position") is None
        return resolve_probes("trajectory,singular,coupling" + ",features" * classes)

    def _inputs(self, model: nn.Module) -> LabelledInputs:
        return labelled_inputs(self.data, model_dtype(model))

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
