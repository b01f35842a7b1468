"""What a lens predicts at every depth, beside the logit lens and the model, and how well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn._numerics import plain_arithmetic
from resdyn._statistics import standard_error
from resdyn.capturing.run import stream_for, whole_inputs
from resdyn.errors import InputError
from resdyn.models import weights_hash
from resdyn.stream import ResidualStream, States
from resdyn.stream.arguments import Arguments
from resdyn.stream.inputs import check_model
from resdyn.stream.placement import model_device
from resdyn.stream.tail_map import head
from resdyn.stream.verify import taken_as_current
from resdyn.transporting.lens import Transport
from resdyn.transporting.plan import sample_digests
from resdyn.transporting.positions import token_mask, valid_positions
from resdyn.transporting.preparing import chosen_rows

LENSES = ("lens", "logit lens")
FIGURES = {
    "agreement": "share of positions at which the first prediction is the model's",
    "divergence": "KL divergence of the prediction from the model's, nats",
    "rank": "rank of the model's first prediction, from 0",
    "entropy": "entropy of the prediction, nats",
}


class Reader:
    """Logits by lens and by logit lens at every depth, at one sample."""

    def __init__(self, lens: Transport, stream: ResidualStream) -> None:
        self.lens, self.stream = lens, stream
        to = lens.dataset.attrs["to"]
        self.target = len(stream) if to is None else to
        self.reduction = lens.dataset.attrs["reduction"]
        if isinstance(self.target, str) and self.reduction in ("sum", "self"):
            raise InputError("this lens maps to logits at every position; for a readout fit one with to='final'")
        if lens.dataset.attrs.get("channels") == "last":
            raise InputError("got a lens of images with channels last, which readout does not support")
        depths, width = len(stream) + 1, lens.dataset.sizes["row"]
        if max(lens.depths) >= depths or (not isinstance(self.target, str) and self.target >= depths):
            raise InputError(f"got a lens of depth {max(lens.depths)} and a model of depths 0 to {depths - 1}")
        shape = self._shape(self.target) if not isinstance(self.target, str) else ()
        if shape and self._rows(shape) != width:
            raise InputError(
                f"got a lens of {width} rows and a model with states of shape {shape}: another model's lens"
            )

    def _shape(self, depth: int) -> tuple[int, ...]:
        blocks = self.stream.blocks
        return blocks[depth].shape_in if depth < len(blocks) else blocks[-1].shape_out

    def _rows(self, shape: tuple[int, ...]) -> int:
        if self.reduction == "flat":
            return torch.Size(shape).numel()
        return shape[0] if self.reduction == "pool" else shape[-1]

    def predictions(self, states: States) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """(depth, logits of the lens, logits of the logit lens or None), each ([positions,] classes)."""
        for depth in self.lens.depths:
            h = states[depth][0]
            read = self._head(states)
            J = self.lens[depth].to(h)
            if isinstance(self.target, str):
                yield depth, J @ self._flat(h) + self._bias(h), None
                continue
            same = h.shape == self._shape(self.target)
            yield depth, read(self._moved(J, h)), read(h) if same else None

    def _head(self, states: States) -> Callable[[Tensor], Tensor]:
        if isinstance(self.target, str):
            return lambda h: h
        return head(self.stream, self.target, states.inputs)

    def _flat(self, h: Tensor) -> Tensor:
        return h.flatten(1).mean(1) if self.reduction == "pool" and h.dim() > 1 else h.flatten()

    def _bias(self, h: Tensor) -> Tensor:
        """That of the last layer: what logits have besides a product with the state."""
        classifier = self.stream.classifier()
        bias = None if classifier is None else classifier[1]
        return torch.zeros((), dtype=h.dtype, device=h.device) if bias is None else bias

    def _moved(self, J: Tensor, h: Tensor) -> Tensor:
        assert not isinstance(self.target, str)
        shape = self._shape(self.target)
        if self.reduction in ("sum", "self"):
            return h @ J.T
        moved = J @ self._flat(h)
        return moved.reshape(shape) if self.reduction == "flat" else moved[:, None, None].expand(shape)


@plain_arithmetic()
def readout(lens: Transport, model: Any, inputs: Any, *, top_k: int, stream: Any) -> xr.Dataset:
    """See `Transport.readout`."""
    given = Arguments.of(dict(inputs) if isinstance(inputs, Mapping) else inputs)
    module, found = _found(lens, model, inputs, stream)
    reader = Reader(lens, found)
    samples = []
    for n in range(len(given)):
        one = given[n : n + 1].to(model_device(module))
        states = found.states(*one.args, **one.kwargs)
        samples.append(_tops(reader, states, checks.whole("top_k", top_k, 1)))
    return xr.concat(samples, "sample").assign_attrs(_same_weights(lens, module))


def _tops(reader: Reader, states: States, top_k: int) -> xr.Dataset:
    logits = states.logits[0]
    count = min(top_k, logits.shape[-1])
    rows: dict[str, list[Tensor]] = {name: [] for name in ("lens", "logit_lens")}
    for _, by_lens, plain in reader.predictions(states):
        rows["lens"].append(by_lens)
        rows["logit_lens"].append(torch.full_like(by_lens, torch.nan) if plain is None else plain)
    places = ("position",) * (logits.dim() - 1)
    arrays: dict[str, Any] = {}
    for name, values in [*((name, torch.stack(parts)) for name, parts in rows.items()), ("model", logits)]:
        dims = (*(("depth",) if name != "model" else ()), *places, "rank")
        score, top = values.double().topk(count)
        arrays[f"{name}_score"] = (dims, score.cpu().numpy())
        arrays[f"{name}_top"] = (dims, torch.where(score.isnan(), -1, top).cpu().numpy())
    return xr.Dataset(arrays, {"depth": list(reader.lens.depths)})


@plain_arithmetic()
def evaluate(lens: Transport, model: Any, data: Any, *, samples: Any, seed: int, stream: Any) -> xr.Dataset:
    """See `Transport.evaluate`."""
    found, rows = held_out(lens, model, data, samples, seed, stream)
    reader = Reader(lens, found)
    values = [_figures(reader, states, valid_of(lens, one, index, found)) for index, one, states in rows]
    stacked = np.stack(values)  # (samples, lens, depth, figure)
    arrays: dict[str, Any] = {}
    for k, (name, meaning) in enumerate(FIGURES.items()):
        dims = ("lens", "depth")
        arrays[name] = (dims, stacked[..., k].mean(0), {"long_name": meaning})
        arrays[f"{name}_standard_error"] = (dims, standard_error(stacked[..., k]))
    coords = {"lens": list(LENSES), "depth": list(lens.depths)}
    counts = {"num_samples": len(values), "lens_samples": lens.num_samples}
    return xr.Dataset(arrays, coords, counts | _same_weights(lens, found.model))


def held_out(
    lens: Transport, model: Any, data: Any, samples: Any, seed: int, stream: Any
) -> tuple[ResidualStream, Iterator[tuple[int, Arguments, States]]]:
    """The stream, and (index, inputs, states) of samples that the lens was not fitted on; two or more."""
    module = check_model(model if isinstance(model, nn.Module) else model.model)
    inputs = whole_inputs(model, module, data, ())
    rows = chosen_rows(inputs, samples, checks.seed(seed))
    if len(rows) < 2:
        raise InputError(f"got {len(rows)} sample, expected two or more: errors are over samples")
    fitted = set(lens.dataset.attrs.get("sample_digests", ()))
    seen = [int(inputs.index[row]) for row in rows if sample_digests(inputs.read(row[None]))[0] in fitted]
    if seen:
        raise InputError(f"sample {seen[0]} is one that the lens was fitted on; pass samples it has not seen")
    found = stream_for(module, inputs, stream, None, lens.dataset.attrs["granularity"]).whole

    def each() -> Iterator[tuple[int, Arguments, States]]:
        for row in rows:
            one = inputs.read(row[None])
            moved = one.to(model_device(module))
            with taken_as_current():
                states = found.states(*moved.args, **moved.kwargs)
            yield int(inputs.index[row]), one, states

    return found, each()


def _same_weights(lens: Transport, module: nn.Module) -> dict[str, Any]:
    """Whether the lens was fitted on these weights, where it says on which."""
    known = lens.dataset.attrs.get("weights_hash")
    return {} if known is None else {"fitted_on_these_weights": known == weights_hash(module)}


def valid_of(lens: Transport, one: Arguments, index: int, stream: ResidualStream) -> Tensor | None:
    positions = lens.dataset.attrs.get("positions")
    if lens.dataset.attrs["reduction"] not in ("sum", "self"):
        return None
    there = token_mask(one, stream.blocks[0].shape_in[0])
    first, last = (int((positions or {}).get(name, 0)) for name in ("skip_first", "skip_last"))
    return valid_positions(there, first, last, [index])[0]


def _figures(reader: Reader, states: States, valid: Tensor | None) -> np.ndarray:
    """(lens, depth, figure), each the mean over the valid positions of one sample."""
    final = states.logits[0]

    def pick(x: Tensor) -> Tensor:
        return x[valid.to(x.device)] if valid is not None and x.dim() == 2 else x

    rows = []
    for _, by_lens, plain in reader.predictions(states):
        both = (by_lens, torch.full_like(by_lens, torch.nan) if plain is None else plain)
        rows.append(np.stack([_compared(pick(logits), pick(final)) for logits in both]))
    return np.stack(rows, 1)


def _compared(logits: Tensor, final: Tensor) -> np.ndarray:
    if bool(logits.isnan().any()):
        return np.full(len(FIGURES), np.nan)
    ours, models = logits.double().log_softmax(-1), final.double().log_softmax(-1)
    first = models.argmax(-1, keepdim=True)
    own = ours.gather(-1, first)
    agreement = (ours.argmax(-1, keepdim=True) == first).double().mean()
    divergence = (models.exp() * (models - ours)).sum(-1).mean()
    rank = (ours > own).sum(-1).double().mean()
    entropy = -(ours.exp() * ours).sum(-1).mean()
    return torch.stack([agreement, divergence, rank, entropy]).cpu().numpy()


def _found(lens: Transport, model: Any, inputs: Any, stream: Any) -> tuple[nn.Module, ResidualStream]:
    module = check_model(model if isinstance(model, nn.Module) else model.model)
    data = whole_inputs(model, module, inputs, ())
    return module, stream_for(module, data, stream, None, lens.dataset.attrs["granularity"]).whole
