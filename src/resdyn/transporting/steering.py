"""How well a mean transport predicts what real interventions do, on samples that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from resdyn import _checks as checks
from resdyn._numerics import plain_arithmetic
from resdyn._statistics import standard_error
from resdyn.errors import InputError
from resdyn.stream import States
from resdyn.stream.arguments import Arguments
from resdyn.stream.tail_map import head
from resdyn.transporting.lens import Transport
from resdyn.transporting.reading import Reader, held_out, valid_of

DIFFERENCE = 1e-3  # relative size of the two-sided difference that stands for the sample's own derivative


@plain_arithmetic()
def check(
    lens: Transport, model: Any, data: Any, *, sizes: Sequence[float], samples: Any, seed: int, stream: Any
) -> xr.Dataset:
    """See `Transport.check`."""
    if lens.dataset.attrs["reduction"] not in ("sum", "flat") or isinstance(lens.target, str):
        raise InputError("a steering check needs reduction 'sum' or 'flat' and to='final'; refit the lens")
    if lens.dataset.attrs.get("average_targets"):
        raise InputError("a steering check needs effects that are summed; refit the lens with average_targets=False")
    wanted = [checks.number("sizes", size, "numbers above 0", above=0) for size in sizes]
    if not wanted:
        raise InputError("got no sizes, expected one or more, relative to the norm of the state")
    found, rows = held_out(lens, model, data, samples, seed, stream)
    reader, results = Reader(lens, found), []
    for index, one, states in rows:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        results.append(_sample(reader, one, states, index, wanted, generator))
    stacked = np.stack(results)  # (samples, prediction, depth, size)
    arrays: dict[str, Any] = {
        "error": (("prediction", "depth", "size"), stacked.mean(0)),
        "error_standard_error": (("prediction", "depth", "size"), standard_error(stacked)),
    }
    coords = {"prediction": ["mean transport", "own derivative"], "depth": list(lens.depths), "size": wanted}
    return xr.Dataset(arrays, coords, {"num_samples": len(results)})


def _sample(
    reader: Reader, one: Arguments, states: States, index: int, sizes: list[float], generator: torch.Generator
) -> np.ndarray:
    """(prediction, depth, size): error relative to what the intervention did."""
    lens, errors = reader.lens, []
    valid = valid_of(lens, one, index, reader.stream)
    for depth in lens.depths:
        h = states[depth][0]
        run = head(reader.stream, depth, states.inputs, lens.target)
        v = torch.randn(h.shape[-1] if valid is not None else h.numel(), generator=generator, dtype=torch.float64).to(h)
        v = v / v.norm()
        places = None if valid is None else valid.to(h.device)
        unit = v.reshape(h.shape) if places is None else places[:, None].to(h) * v
        scale = float((h if places is None else h[places]).norm(dim=-1).mean())
        step = DIFFERENCE * scale
        own = (_total(run(h + step * unit), places) - _total(run(h - step * unit), places)) / (2 * step)
        by_mean, before = lens[depth].to(v) @ v, _total(run(h), places)
        real = [(_total(run(h + size * scale * unit), places) - before) / (size * scale) for size in sizes]
        errors.append([[_gap(guess, effect) for effect in real] for guess in (by_mean, own)])
    return np.asarray(errors).transpose(1, 0, 2)


def _total(target: Tensor, places: Tensor | None) -> Tensor:
    """The target as the lens reads it: summed over the valid positions, per source position."""
    return target.flatten() if places is None else target[places].sum(0) / int(places.sum())


def _gap(guess: Tensor, effect: Tensor) -> float:
    return float((guess - effect).double().norm() / effect.double().norm())
