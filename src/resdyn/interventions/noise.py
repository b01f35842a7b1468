"""Noise actually added: how far a network's output moves when its weights do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn._display import Displayed, Table, table
from resdyn._numerics import plain_arithmetic
from resdyn._statistics import standard_error
from resdyn.errors import InputError
from resdyn.interventions.effective import PRODUCTS, Weight, WeightsInUse, has_storage, tied
from resdyn.stream.arguments import Arguments
from resdyn.stream.graph import main_output
from resdyn.stream.preserve import preserve_state, preserved
from resdyn.stream.refusals import plain_model

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class NoiseResponse(Displayed):
    """The relative change ``|f(x; W + N) - f(x; W)| / |f(x; W)|`` of an output, for each level of noise and draw.

    Attributes:
        levels: s, as given.
        change: (level, draw) float64, mean over samples.
        weights: names of the weights that got noise.
        left_out: every other weight of two dimensions or more that the choice of layers covers, and why.
    """

    levels: tuple[float, ...]
    change: FloatArray
    weights: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def mean(self) -> FloatArray:
        """(level,) mean over draws."""
        return np.asarray(self.change.mean(1))

    @property
    def error(self) -> FloatArray:
        """(level,) standard error of the mean over draws."""
        return np.asarray(standard_error(self.change, 1))

    def _table(self) -> Table:
        rows = [
            (f"{level:g}", f"{mean:.4g}", f"{error:.2g}")
            for level, mean, error in zip(self.levels, self.mean, self.error)
        ]
        caption = f"Relative change of the output under noise on the weights, {self.change.shape[1]} draws"
        left_out = f"without noise: {len(self.left_out)} more (see left_out)" if self.left_out else ""
        return table(caption, ("level", "mean", "standard error"), rows, left_out)


def _as_list(levels: Any) -> list[Any]:
    """Levels as a list of at least one."""
    if isinstance(levels, Sequence | np.ndarray) and not isinstance(levels, str) and len(levels):
        return list(levels)
    raise InputError(f"got levels={levels!r}, expected a list of numbers, such as [0.05, 0.1]")


def noise_response(
    model: nn.Module,
    inputs: Tensor | Mapping[str, Tensor],
    levels: Sequence[float],
    *,
    draws: int = 10,
    seed: int = 0,
    layers: Sequence[str] | None = None,
    relative: bool = True,
) -> NoiseResponse:
    """Add Gaussian noise to the weights that the network multiplies by, and measure how far the output moves.

    The change is ``|f(x; W + N) - f(x; W)| / |f(x; W)|``, averaged over samples. Noise of level s on a weight W of n
    entries is N(0, s^2 ||W||_F^2 / n), or with ``relative=False`` N(0, s^2), one direction per draw, scaled to all
    levels. W is what the forward pass uses: for a weight that is computed (weight norm, spectral norm, a pruning mask,
    any other function of parameters) its computed value, of which entries that are exactly zero stay zero. Weights are
    identified by following a pass: every matrix and kernel that depends on parameters and not on the input, of a linear
    layer, a convolution, attention or a recurrent layer. A tensor with several uses is one weight, with one noise,
    wherever it is read. Biases, norms and weights that are only added or looked up get none. The model is left
    unchanged, bit for bit, also after an error.

    Args:
        model: f, the model's output in eval mode; of several tensors the one named ``logits``, otherwise the first that
            is not a single number.
        inputs: x: a tensor (N, ...), or tensors by the names of the model's arguments.
        levels: s, non-negative, at least one.
        draws: directions of noise, at least 2 (default 10).
        seed: of the noise.
        layers: module paths of the layers that get noise; None (default) for all.
        relative: whether s is relative to the root mean square of W (default True).

    Returns:
        The change for each level and draw, and which weights got noise.

    Raises:
        InputError: an unknown layer, fewer than two draws, a negative level, a model without such weights, or an output
            that is zero or not finite for some input.

    Cost:
        levels x draws + 1 forward passes; memory for three more copies of the weights.

    Source:
        Arora et al. (2018), section 3 (noise stability); Yu and Tomasi, section 5, argue from cushions alone.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> noise_response(model, torch.ones(1, 2), [0.0, 0.1], draws=2).mean[0]
        np.float64(0.0)
    """
    draws, seed, relative = checks.whole("draws", draws, 2), checks.seed(seed), checks.flag("relative", relative)
    levels = [checks.number("levels", level, "numbers of at least 0", least=0) for level in _as_list(levels)]
    layers = None if layers is None else checks.words("layers", layers)
    model = plain_model(model)
    with preserve_state(model, parameters=True), torch.no_grad(), plain_arithmetic():
        for module in model.modules():
            module.training = False
        run = _Pass(model, Arguments.of(inputs))
        reference = run()
        weights, left_out = _selected(run.in_use, model, layers)
        scale = _norms(reference)
        if not bool((scale > 0).all()):
            raise InputError("the output is zero, or not finite, for some input, so no change is relative to it")
        change = np.empty((len(levels), draws))
        for draw in range(draws):
            noise = _direction(weights, relative, seed + draw)
            for row, level in enumerate(levels):
                moved = run({key: level * direction for key, direction in noise.items()}) - reference
                change[row, draw] = float((_norms(moved) / scale).mean())
    names = tuple(weight.name for weight in weights.values())
    return NoiseResponse(tuple(float(level) for level in levels), change, names, left_out)


class _Pass:
    """The model's output at its inputs, with noise on its weights; ``in_use`` is what the last pass recorded."""

    def __init__(self, model: nn.Module, inputs: Arguments) -> None:
        self._model, self._inputs = model, inputs
        self._call = preserved(model)
        self.in_use: WeightsInUse

    def __call__(self, noise: Mapping[Any, Tensor] | None = None) -> Tensor:
        own = self._inputs.map(torch.clone)
        self.in_use = WeightsInUse(self._model, own.named, noise)
        with self.in_use:
            return main_output(self._call(*own.args, **own.kwargs)).detach()


def _selected(
    in_use: WeightsInUse, model: nn.Module, layers: Sequence[str] | None
) -> tuple[dict[Any, Weight], dict[str, str]]:
    """The weights that get noise, in the order of the model's parameters, and those that get none, with the reason."""
    place = {name: index for index, (name, _) in enumerate(model.named_parameters(remove_duplicate=False))}
    plain = {name for weight in in_use.weights.values() if not weight.computed for name in weight.parameters}
    weights = {  # what is computed from a weight with noise already contains it
        key: weight
        for key, weight in sorted(in_use.weights.items(), key=lambda item: place[item[1].parameters[0]])
        if not (weight.computed and plain & set(weight.parameters))
    }
    known = sorted({layer for weight in weights.values() for layer in weight.layers})
    unknown = [path for path in layers or () if path not in known]
    if not weights:
        raise InputError(
            f"{type(model).__name__} multiplies its input by no weight in a product of matrices or a convolution, "
            "so no weight would get noise; pass a network of linear layers, convolutions, attention or recurrent layers"
        )
    if unknown:
        raise InputError(
            f"got the layers {unknown}, expected layers whose weights the model multiplies its input by: "
            f"{', '.join(known[:8])}, ..."
        )
    covered = {name for weight in in_use.weights.values() for name in weight.parameters}
    left_out = {
        name: f"its values are in a {type(value).__name__}"
        for name, value in model.named_parameters()
        if not has_storage(value)
    }
    left_out |= {
        names[0]: _reason(in_use, names, value)
        for names, value in tied(model)
        if not covered & set(names)
        and value.dim() > 1
        and (isinstance(value, nn.Parameter) or any(PRODUCTS & in_use.uses.get(name, {}).keys() for name in names))
    }
    if layers is not None:
        weights = {key: weight for key, weight in weights.items() if weight.layers & set(layers)}
        left_out = {name: why for name, why in left_out.items() if name.rpartition(".")[0] in layers}
    return weights, left_out


def _reason(in_use: WeightsInUse, names: tuple[str, ...], value: Tensor) -> str:
    uses = list(dict.fromkeys(use for name in names for use in in_use.uses.get(name, ())))
    if not isinstance(value, nn.Parameter):
        return "it is not a parameter"
    return f"read by {', '.join(uses)}" if uses else "not read on the path from these inputs"


def _direction(weights: Mapping[Any, Weight], relative: bool, seed: int) -> dict[Any, Tensor]:
    """Noise of level 1 for every weight."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for key, weight in weights.items():
        dtype = torch.complex64 if weight.value.is_complex() else torch.float32
        unit = torch.randn(weight.value.shape, generator=generator, dtype=dtype).to(weight.value)
        drawn[key] = unit * (weight.value.abs().square().mean().sqrt() if relative else 1.0)
    return drawn


def _norms(values: Tensor) -> Tensor:
    """``|v|`` for each sample, in float64; NaN where it is not finite."""
    values = values.cpu().to(torch.complex128 if values.is_complex() else torch.float64)
    norms: Tensor = torch.linalg.vector_norm(values.reshape(len(values), -1), dim=1)
    return torch.where(norms.isfinite(), norms, torch.nan)
