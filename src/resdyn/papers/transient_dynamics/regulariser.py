"""End of section 6: the right-hand side of equation 5 for the last two layers, added to the cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resdyn.nets import LogisticResNet, layer_map
from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.transient_dynamics import theory
from resdyn.papers.transient_dynamics.networks import (
    NOISE_IMAGES,
    SEEDS,
    by_seed,
    case,
    logistic,
    states_of,
    test_errors,
)
from resdyn.papers.transient_dynamics.noise import AMPLITUDES, noise_curves, onset

STRENGTHS: dict[Scale, tuple[float, ...]] = {"tiny": (0.1,), "small": (0.01, 0.1, 1.0), "paper": (0.1, 1.0)}


@dataclass(frozen=True)
class NoisePenalty:
    """strength * sum over the last two layers of |d xi/dt|^2 / |xi|^2, xi uniform in [-amplitude, amplitude] on y.

    d xi/dt is equation 5 at the layer's residuals and its own W. The paper says "the integration of the right hand side
    of equation 5 for the last two hidden layers" and neither norm nor weight nor noise; these are ours.
    """

    strength: float
    amplitude: float = 0.5

    def __call__(self, model: nn.Module, inputs: Tensor) -> Tensor:
        assert isinstance(model, LogisticResNet)
        x, total = model.input_map(inputs.flatten(1)), inputs.new_zeros(())
        blocks = list(model.blocks)
        for number, block in enumerate(blocks):
            W = layer_map(block)
            y = torch.sigmoid(W(x))
            x = x + y
            if number >= len(blocks) - 2:
                xi = self.amplitude * (2 * torch.rand_like(y) - 1)
                rate = theory.noise_flow(y, xi, W.weight)
                total = total + (rate.square().sum(1) / xi.square().sum(1)).mean()
        return self.strength * total


def run(lab: Lab) -> None:
    """Shared weights, with and without: the amplitude at which 1 % of right answers are lost, and the test error.

    Over seeds, or over draws of the noise (the same for every network) where there is one seed.
    """
    onsets: dict[float, NDArray[np.float64]] = {}
    curves = []
    for strength in (0.0, *STRENGTHS[lab.scale]):
        penalty = NoisePenalty(strength) if strength else None
        errors, lost = [], []
        for seed in SEEDS[lab.scale]:
            network = lab.trained(case(lab.scale, "shared", seed), penalty=penalty)
            errors.append(test_errors(lab, network))
            x, labels = states_of(lab, network, NOISE_IMAGES[lab.scale])
            lost.append(noise_curves(logistic(network), x, torch.as_tensor(labels)).lost)
        key, note = (
            f"strength{strength:g}",
            f"strength {strength:g}, {len(labels)} noisy test images, {len(lost)} seed(s)",
        )
        draws, onsets[strength] = by_seed("draws", [onset(rows) for rows in lost])
        lab.record(f"{key}.amplitude", onsets[strength], draws, f"where 1 % of right answers are lost; {note}")
        images, values = by_seed("test images", errors)
        lab.record(f"{key}.error", values, images, f"test error in per cent; {note}")
        curves.append(pictures.series(f"strength {strength:g}", AMPLITUDES, np.concatenate(lost).mean(0)))
    for strength in STRENGTHS[lab.scale]:
        note = "amplitude with less amplitude without, one by one"
        lab.record(f"strength{strength:g}.moved", onsets[strength] - onsets[0.0], draws, note)
    title = "Right answers lost to noise, with the penalty on equation 5"
    lab.picture("lost", pictures.lines(title, "section 6", curves, "amplitude of the noise", "share lost", logx=True))
