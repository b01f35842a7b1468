"""Noise that is really added: how far a network's output moves when its weights do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resdyn._html import table
from resdyn.errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseResponse:
    """|f(x; W + N) - f(x; W)| / |f(x; W)| for each level of noise and draw, mean over samples: `change` (level, draw).

    `mean` and `error` (level,): over draws, with the standard error of the mean.
    """

    levels: tuple[float, ...]
    change: FloatArray

    @property
    def mean(self) -> FloatArray:
        return np.asarray(self.change.mean(1))

    @property
    def error(self) -> FloatArray:
        return np.asarray(self.change.std(1, ddof=1) / self.change.shape[1] ** 0.5)

    def _repr_html_(self) -> str:
        rows = [
            (f"{level:g}", f"{mean:.4g}", f"{error:.2g}")
            for level, mean, error in zip(self.levels, self.mean, self.error)
        ]
        caption = f"Relative change of the output under noise on the weights, {self.change.shape[1]} draws"
        return table(caption, ("level", "mean", "standard error"), rows)


def noise_response(model: nn.Module, inputs: Tensor, levels: Sequence[float], *, draws: int = 10, seed: int = 0,
                   layers: Sequence[str] | None = None, relative: bool = True) -> NoiseResponse:  # fmt: skip
    """Add Gaussian noise to the weights of convolutions and linear layers, and see how far the output moves.

    Noise of level s on a weight W of n entries is N(0, s^2 |W|_F^2 / n), or with `relative=False` N(0, s^2), drawn from
    `seed` (one direction a draw, scaled to all levels); biases and norms stay. `layers`: module paths of those that get
    noise (None: all). The model, in eval mode, is left as it is. Cost: levels x draws forward passes.
    Source: Arora et al. (2018), section 3 (noise stability); Yu and Tomasi, section 5, argue from cushions alone.
    Raises InputError for an unknown layer, for fewer than two draws or a negative level.
    """
    if draws < 2 or not levels or min(levels) < 0:
        raise InputError(f"got draws={draws} and levels={list(levels)}, expected at least 2 draws, and levels >= 0")
    weights = weights_of(model, layers)
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            reference = model(inputs)
            scale = per_sample_norm(reference)
            change = np.empty((len(levels), draws))
            for draw in range(draws):
                noise = _direction(weights, relative, seed + draw)
                for row, level in enumerate(levels):
                    noisy = {name: weight + level * noise[name] for name, weight in weights.items()}
                    moved = torch.func.functional_call(model, noisy, (inputs,)) - reference
                    change[row, draw] = float((per_sample_norm(moved) / scale).mean())
    finally:
        for module, mode in was_training.items():
            module.training = mode
    return NoiseResponse(tuple(float(level) for level in levels), change)


def weights_of(model: nn.Module, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Weights of the convolutions and linear layers, or of those named, by parameter name."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    found = {path: module.weight.detach() for path, module in model.named_modules() if isinstance(module, kinds)}
    unknown = [path for path in layers or () if path not in found]
    if unknown or not found:
        known = ", ".join(list(found)[:8])
        raise InputError(f"got the layers {unknown}, expected convolutions or linear layers of the model: {known}, ...")
    return {f"{path}.weight": weight for path, weight in found.items() if layers is None or path in layers}


def per_sample_norm(values: Tensor) -> Tensor:
    """|v| of each sample, in float64."""
    return values.double().flatten(1).norm(dim=1)


def _direction(weights: dict[str, Tensor], relative: bool, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, weight in weights.items():
        unit = torch.randn(weight.shape, generator=generator).to(weight)
        drawn[name] = unit * (weight.square().mean().sqrt() if relative else 1.0)
    return drawn
