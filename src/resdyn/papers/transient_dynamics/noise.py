"""Figure 4: noise in the initial state, how much of it reaches the last state, and when it changes the answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn.nets import LogisticResNet
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.transient_dynamics.networks import NOISE_IMAGES, SEEDS, by_seed, case, logistic, states_of

AMPLITUDES = np.geomspace(1e-3, 3.0, 15)
DRAWS = 10
MISCLASSIFIED = 0.01  # share of the answers that were right without noise
KINDS = ("shared", "free", "mlp")
READINGS = {"": "uniform in [-a, a]", ".positive": "uniform in [0, a]"}


@dataclass(frozen=True)
class NoiseCurves:
    """By draw and amplitude (draw, amplitude): |x~(T) - x(T)| / |x(T)|, cosine of both, share of right answers lost."""

    ratio: NDArray[np.float64]
    cosine: NDArray[np.float64]
    lost: NDArray[np.float64]


def run(lab: Lab) -> None:
    """Uniform noise on x(0), ten draws, on the same number of test images per class."""
    curves: dict[str, NoiseCurves] = {}
    for kind in KINDS:
        network = lab.trained(case(lab.scale, kind))
        x, labels = states_of(lab, network, NOISE_IMAGES[lab.scale])
        for reading, note in READINGS.items():
            found = noise_curves(logistic(network), x, torch.as_tensor(labels), positive=bool(reading))
            key, note = f"{kind}{reading}", f"noise {note}; {len(labels)} test images"
            lab.record(f"{key}.amplitude", onset(found.lost), "draws", f"where 1 % of right answers are lost; {note}")
            for amplitude in (0.1, 0.5, 1.0):
                lost = [np.interp(np.log(amplitude), np.log(AMPLITUDES), row) for row in found.lost]
                lab.record(
                    f"{key}.lost_at_{amplitude:g}", np.array(lost) * 100, "draws", f"per cent of right answers; {note}"
                )
            if not reading:
                curves[kind] = found
    small = AMPLITUDES < 0.1
    difference = curves["mlp"].ratio[:, small].mean(1) - curves["shared"].ratio[:, small].mean(1)
    lab.record(
        "ratio_below_0.1", difference, "draws", "noise-to-signal, MLP less ResNet, mean over amplitudes below 0.1"
    )
    difference = curves["mlp"].ratio[:, ~small].mean(1) - curves["shared"].ratio[:, ~small].mean(1)
    lab.record(
        "ratio_above_0.1", difference, "draws", "noise-to-signal, MLP less ResNet, mean over amplitudes above 0.1"
    )
    _draw(lab, curves)
    _record_cosines(lab, curves)


def _record_cosines(lab: Lab, first: dict[str, NoiseCurves]) -> None:
    """Figure 4B: cosine of the last states with and without noise, perceptron less ResNet, seed by seed."""
    gaps = [first["mlp"].cosine - first["shared"].cosine]
    for seed in SEEDS[lab.scale][1:]:
        found = {}
        for kind in ("mlp", "shared"):
            network = lab.trained(case(lab.scale, kind, seed))
            x, labels = states_of(lab, network, NOISE_IMAGES[lab.scale])
            found[kind] = noise_curves(logistic(network), x, torch.as_tensor(labels)).cosine
        gaps.append(found["mlp"] - found["shared"])
    for name, chosen in (("below", AMPLITUDES < 0.1), ("above", (AMPLITUDES >= 0.1) & (AMPLITUDES <= 1))):
        over, values = by_seed("draws", [gap[:, chosen].mean(1) for gap in gaps])
        note = f"cosine similarity, MLP less ResNet, mean over amplitudes {name} 0.1"
        lab.record(f"cosine_{name}_0.1", values, over, note)


def noise_curves(model: LogisticResNet, x: Tensor, labels: Tensor, *, positive: bool = False) -> NoiseCurves:
    """Ten draws of noise on states x(0) (sample, neuron), scaled to every amplitude; means over samples.

    Noise to signal: for the ResNet |sum over t = 0..T of xi(t)| / |x(T)|, and sum xi = x~(T) - x(T); for the perceptron
    |xi(T)| / |y(T)|, the same formula for its last state. Answers are compared where the noiseless one is right.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        clean = model.blocks(x)
        right = model.classifier(clean).argmax(1) == labels.to(x.device)
        rows: list[list[tuple[float, float, float]]] = []
        for _ in range(DRAWS):
            unit = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x)
            unit = unit if positive else 2 * unit - 1
            rows.append([_effect(model, x + a * unit, clean, right, labels) for a in AMPLITUDES])
    found = np.array(rows)
    return NoiseCurves(found[..., 0], found[..., 1], found[..., 2])


def onset(lost: NDArray[np.float64], level: float = MISCLASSIFIED) -> NDArray[np.float64]:
    """The amplitude (draw,) from which on more than `level` of the right answers are lost, between grid points by
    interpolation in log a; the largest amplitude where it is not reached."""
    found = []
    for row in lost:
        over = np.flatnonzero(row > level)
        if not over.size:
            found.append(AMPLITUDES[-1])
        elif over[0] == 0:
            found.append(AMPLITUDES[0])
        else:
            n = over[0]
            part = (level - row[n - 1]) / (row[n] - row[n - 1])
            found.append(float(AMPLITUDES[n - 1] * (AMPLITUDES[n] / AMPLITUDES[n - 1]) ** part))
    return np.array(found)


def _effect(
    model: LogisticResNet, x: Tensor, clean: Tensor, right: Tensor, labels: Tensor
) -> tuple[float, float, float]:
    noisy = model.blocks(x)
    ratio = (noisy - clean).norm(dim=1) / clean.norm(dim=1)
    kept = model.classifier(noisy).argmax(1)[right] == labels.to(x.device)[right]
    cosine = torch.nn.functional.cosine_similarity(noisy, clean, dim=1)
    return float(ratio.mean()), float(cosine.mean()), 1 - float(kept.double().mean()) if len(kept) else float("nan")


def _draw(lab: Lab, curves: dict[str, NoiseCurves]) -> None:
    for name, title in (("ratio", "noise to signal"), ("cosine", "cosine similarity"), ("lost", "right answers lost")):
        rows = []
        for kind, found in curves.items():
            values = getattr(found, name)
            rows.append(pictures.series(kind, AMPLITUDES, values.mean(0), values.std(0, ddof=1)))
        picture = pictures.lines(
            f"{title} at the last state",
            "figure 4",
            rows,
            "amplitude of the noise",
            title,
            log=name == "ratio",
            logx=True,
        )
        lab.picture(name, picture)
