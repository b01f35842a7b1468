"""Tables 2, 5 and 8 without training: how much of the printed columns does an untrained network show?

The paper reads its columns as what training made of the blocks. Here the same networks are measured as they are drawn,
by the reading of the tables (slices). What they explain of the printed variance over blocks needs no training; how much
of it needs no weight either is in `geometry`. Of ResNet-50 the paper prints the last block alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn import metrics
from resdyn.data import load_data
from resdyn.nets import NETS
from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.stiffness.measure import QUANTITIES, slices
from resdyn.papers.stiffness.printed import printed
from resdyn.papers.trained import device
from resdyn.stream import ResidualStream, States, find_stream

NETWORKS: dict[Scale, tuple[str, ...]] = {
    "tiny": (),
    "small": ("resnet18", "resnet34"),
    "paper": ("resnet18", "resnet34"),
}
SEEDS: dict[Scale, int] = {"tiny": 2, "small": 3, "paper": 3}
IMAGES: dict[Scale, int] = {"tiny": 1, "small": 1, "paper": 100}


def run(lab: Lab) -> None:
    """By seed, the share of the variance of the printed columns over blocks that the untrained network explains."""
    networks = {name: f"cifar_{name}" for name in NETWORKS[lab.scale]} or {"tiny": "cnn"}
    for label, net in networks.items():
        found = np.array([measure(lab, net, seed) for seed in range(SEEDS[lab.scale])])  # (seed, quantity, block)
        blocks = np.arange(1, found.shape[-1] + 1)
        for quantity, values in zip(QUANTITIES, found.swapaxes(0, 1), strict=True):
            paper = printed([f"{label}.block{number}.slices.{quantity}" for number in blocks])
            for number, column in zip(blocks, values.T, strict=True):
                lab.record(f"{label}.block{number}.{quantity}", column, "seeds", f"{IMAGES[lab.scale]} test image(s)")
            shares = [metrics.pearson(row, paper).coefficient ** 2 for row in values if np.isfinite(paper).all()]
            note = f"R^2 over {len(blocks)} blocks of the printed column"
            lab.record(f"{label}.{quantity}_explained", shares, "seeds", note)
            spread = values.std(0, ddof=1) if len(values) > 1 else None
            rows = [
                pictures.series("untrained", blocks, values.mean(0), spread),
                pictures.series("paper", blocks, paper),
            ]
            title = f"{label}: {quantity.replace('_', ' ')} of slices, untrained"
            lab.picture(f"{label}.{quantity}", pictures.lines(title, "tables 2, 5", rows, "block", quantity))


def run_last(lab: Lab) -> None:
    """Both quantities of the last block of untrained ResNet-50s, by seed."""
    label, net = ("tiny", "cnn") if lab.scale == "tiny" else ("resnet50", "cifar_resnet50")
    found = np.array([measure(lab, net, seed, last=True) for seed in range(SEEDS[lab.scale])])[..., 0]
    for quantity, values in zip(QUANTITIES, found.T, strict=True):
        lab.record(f"{label}.last.{quantity}", values, "seeds", f"{IMAGES[lab.scale]} test image(s)")
        paper = printed([f"{label}.block16.slices.{quantity}"] * len(values))
        seeds = np.arange(len(values))
        rows = [pictures.series("untrained", seeds, values, style="o"), pictures.series("paper", seeds, paper)]
        title = f"{label}: {quantity.replace('_', ' ')} of the last block, untrained"
        lab.picture(f"{label}.{quantity}", pictures.lines(title, "table 8", rows, "draw of the weights", quantity))


def measure(lab: Lab, network: str, seed: int, *, last: bool = False) -> NDArray[np.float64]:
    """Means over test images of stiffness index and per cent of negative real parts, (quantity, block), by slices.

    Of all blocks, or of the `last` one alone.
    """
    data = load_data("digits" if network == "cnn" else "cifar10", "test", lab.root)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        small = {"depth": 4, "downsample": True, "image_size": 8, "width": 4, "in_channels": 1}
        model = NETS[network](classes=10, **(small if network == "cnn" else {})).eval().to(device())
    inputs = data.in_memory().inputs(range(IMAGES[lab.scale])).to(device())
    stream = find_stream(model, inputs[:1])
    numbers = range(len(stream) - 1 if last else 0, len(stream))
    rows = [[slices(stream, number, states) for number in numbers] for states in _states(stream, inputs)]
    return np.array(rows).mean(0).T


def _states(stream: ResidualStream, inputs: Tensor) -> Iterator[States]:
    for n in range(len(inputs)):
        yield stream.states(inputs[n : n + 1])
