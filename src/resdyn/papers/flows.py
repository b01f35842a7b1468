"""Gradient flows of a network: what reaches each channel of a layer through each entry of the final activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from resdyn.errors import InputError
from resdyn.metrics import dominance_ratio, dominant_fraction
from resdyn.stream import preserve_state

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class GradientFlows:
    """Of each layer, in order: `ratio` r (sample, channel), and `fraction` sigma (layer, sample), its share above 1.

    `final`: gradients of the loss with respect to the final activation (sample, entry).
    """

    layers: tuple[str, ...]
    ratio: list[FloatArray]
    fraction: FloatArray
    final: FloatArray


def gradient_flows(
    model: nn.Module, inputs: Tensor, labels: Tensor, layers: Sequence[str], classifier: str = "classifier"
) -> GradientFlows:
    """Theta_ijp = da_j^(L)/da_ip^(l) dL/da_j^(L) of the module outputs `layers`, and what dominates them.

    a^(L) (N, F) is the input of module `classifier`, L the cross entropy of each sample with its label; layers are
    channels-first, (N, D, *pixels) with D <= F. Only the sums that r needs are kept, never Theta itself.
    Cost: one forward pass and F + 1 backward passes of the batch. The model keeps its mode; use eval.
    Source: Yu and Tomasi, equations 5, 6 and 13.
    """
    with preserve_state(model):
        return _with_hooks(model, inputs, labels, layers, classifier)


def _with_hooks(
    model: nn.Module, inputs: Tensor, labels: Tensor, layers: Sequence[str], classifier: str
) -> GradientFlows:
    taken: dict[str, Tensor] = {}
    hooks = [model.get_submodule(name).register_forward_hook(_taker(taken, name)) for name in layers]
    hooks.append(model.get_submodule(classifier).register_forward_pre_hook(_feature_taker(taken)))
    try:
        with torch.enable_grad():
            logits = model(inputs)
            loss = F.cross_entropy(logits, labels.to(logits.device), reduction="sum")
            features = taken.pop("features")
            activations = [taken[name] for name in layers]
            return _measured(loss, features, activations, tuple(layers))
    finally:
        for hook in hooks:
            hook.remove()


def _measured(loss: Tensor, features: Tensor, activations: list[Tensor], layers: tuple[str, ...]) -> GradientFlows:
    widest = max(a.shape[1] for a in activations)
    if features.dim() != 2 or widest > features.shape[1]:
        raise InputError(
            f"got a final activation of shape {tuple(features.shape)} and a layer of {widest} channels, expected "
            "(N, F) with at least as many entries as any layer has channels"
        )
    (final,) = torch.autograd.grad(loss, features, retain_graph=True)
    totals = torch.autograd.grad(features, activations, final, retain_graph=True)
    own = [torch.zeros_like(a) for a in activations]
    for i in range(widest):
        cotangent = torch.zeros_like(final)
        cotangent[:, i] = final[:, i]
        reached = [k for k, a in enumerate(activations) if a.shape[1] > i]
        grads = torch.autograd.grad(features, [activations[k] for k in reached], cotangent, retain_graph=True)
        for k, grad in zip(reached, grads, strict=True):
            own[k][:, i] = grad[:, i]
    ratios = [dominance_ratio(_flat(mine), _flat(total)) for mine, total in zip(own, totals, strict=True)]
    return GradientFlows(layers, ratios, np.stack([dominant_fraction(r) for r in ratios]), _flat(final)[..., 0])


def _taker(taken: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        taken[name] = output

    return hook


def _feature_taker(taken: dict[str, Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        taken["features"] = args[0]

    return hook


def _flat(values: Tensor) -> FloatArray:
    """(N, D, pixels) in float64."""
    return values.detach().cpu().double().reshape(*values.shape[:2], -1).numpy()
