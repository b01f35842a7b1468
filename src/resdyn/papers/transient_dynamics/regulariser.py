"""End of section 6: the right-hand side of equation 5 for the last two layers, added to the cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from resdyn.nets.logistic import LogisticResNet, layer_map
from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.transient_dynamics import theory
from resdyn.papers.transient_dynamics.networks import NOISE_IMAGES, case, logistic, states_of, test_errors
from resdyn.papers.transient_dynamics.noise import AMPLITUDES, noise_curves, onset

STRENGTHS = (0.01, 0.1, 1.0)
SEEDS: dict[Scale, tuple[int, ...]] = {"tiny": (0,), "small": (0, 1, 2), "paper": (0, 1, 2)}


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
    """Shared weights, with and without: the amplitude at which 1 % of right answers are lost, and the test error."""
    scale: Scale = "tiny" if lab.scale == "tiny" else "small"  # 256 neurons, 10,000 images also at scale paper
    onsets: dict[float, list[float]] = {}
    curves = []
    for strength in (0.0, *STRENGTHS):
        errors, lost = [], []
        for seed in SEEDS[lab.scale]:
            penalty = NoisePenalty(strength) if strength else None
            network = lab.trained(case(scale, "shared", seed), penalty=penalty)
            errors.append(test_errors(lab, network).mean())
            x, labels = states_of(lab, network, NOISE_IMAGES[scale])
            lost.append(noise_curves(logistic(network), x, torch.as_tensor(labels)).lost)
        onsets[strength] = [float(onset(rows).mean()) for rows in lost]
        note = f"strength {strength:g}, {x.shape[1]} neurons, {len(network.data)} images"
        lab.record(
            f"strength{strength:g}.amplitude", onsets[strength], "seeds", f"where 1 % of right answers are lost; {note}"
        )
        lab.record(f"strength{strength:g}.error", errors, "seeds", f"test error in per cent; {note}")
        mean = np.concatenate(lost).mean(0)
        curves.append(pictures.series(f"strength {strength:g}", AMPLITUDES, mean))
    for strength in STRENGTHS:
        moved = np.array(onsets[strength]) - np.array(onsets[0.0])
        lab.record(f"strength{strength:g}.moved", moved, "seeds", "amplitude with less amplitude without, seed by seed")
    title = "Right answers lost to noise, with the penalty on equation 5"
    lab.picture("lost", pictures.lines(title, "section 6", curves, "amplitude of the noise", "share lost", logx=True))
