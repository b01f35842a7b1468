"""Section 5 and figure 3: are residual networks more noise-stable, by their cushions and by noise that is added?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from resdyn import metrics, noise_response
from resdyn.nets import identity_kernel
from resdyn.papers import pictures
from resdyn.papers.identity_connections.networks import DEPTHS, KINDS, fledged, pretrained, simplified, watched
from resdyn.papers.lab import Lab, Scale, Trained

FloatArray = NDArray[np.float64]
LAYER: dict[Scale, int] = {"tiny": 3, "small": 10, "paper": 10}  # counted from 1, the first convolution included
IMAGES: dict[Scale, int] = {"tiny": 20, "small": 500, "paper": 5000}
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
LEVEL = 0.1  # of the numbers; the picture shows all
ABSOLUTE = 0.01
NOISE_IMAGES, NOISE_DRAWS = 100, 6


def layers(lab: Lab) -> None:
    """Figure 3: the layer cushion of the 10th layer of both kinds at two depths; layers in which plain is above."""
    for depth in DEPTHS[lab.scale][:2]:
        found = {kind: _layer_cushions(lab, kind, depth) for kind in KINDS}
        chosen = LAYER[lab.scale] - 2  # the first convolution is in no block
        for kind, rows in found.items():
            lab.record(f"{kind}.{depth}", rows["cushion"][:, chosen], "training images", f"layer {LAYER[lab.scale]}")
        kept = found["residual"]["kept"][:, chosen]
        lab.record(f"kept.{depth}", kept, "training images", "residual, |A|_F with the 1 of the ID entries")
        shift = found["residual"]["cushion"] - found["plain"]["cushion"]
        lab.record(f"shift.{depth}", shift[:, chosen], "training images", "residual minus plain, image by image")
        lab.record(f"exceptions.{depth}", float((shift.mean(0) < 0).sum()), note=f"of {shift.shape[1]} layers")
        lab.record(
            f"kept_shift.{depth}",
            kept - found["plain"]["cushion"][:, chosen],
            "training images",
            "residual with the 1 kept in |A|_F, minus plain",
        )
        _draw_layers(lab, depth, found, chosen)


def noise(lab: Lab) -> None:
    """Relative change of the logits against Gaussian noise on all weights: both kinds, and the pretrained networks."""
    shown, found = {}, {}
    for name, model, inputs in _networks(lab):
        response = noise_response(model, inputs, LEVELS, draws=NOISE_DRAWS)
        found[name] = response.change[LEVELS.index(LEVEL)]
        lab.record(
            f"{name}.change",
            response.change[LEVELS.index(LEVEL)],
            "draws",
            f"relative change of the logits, noise of {LEVEL:g} of each weight's root mean square",
        )
        absolute = noise_response(model, inputs, [ABSOLUTE], draws=NOISE_DRAWS, relative=False)
        found[f"{name}.absolute"] = absolute.change[0]
        lab.record(f"{name}.absolute", absolute.change[0], "draws", f"noise of standard deviation {ABSOLUTE:g}")
        shown[name] = pictures.series(name, np.log10(LEVELS), response.mean, 2 * response.error)
    for name in [key.removeprefix("residual.") for key in shown if key.startswith("residual.")]:
        for suffix in ("", ".absolute"):
            ratio = found[f"plain.{name}{suffix}"] / found[f"residual.{name}{suffix}"]
            lab.record(
                f"ratio.{name}{suffix}", ratio, "draws", "change of the plain network over that of the residual one"
            )
    title, label = "relative change of the logits, noise on all weights", "log10 of noise over rms of the weight"
    lab.picture("noise", pictures.lines(title, "section 5", list(shown.values()), label, "change", log=True))


def _layer_cushions(lab: Lab, kind: str, depth: int) -> dict[str, FloatArray]:
    """`cushion` and `kept` (image, block): with the skip's 1 left out of |A|_F and in it."""
    network, _ = watched(lab, simplified(lab.scale, kind, depth))
    net: Any = network.model
    count = min(IMAGES[lab.scale], len(network.data))
    with torch.no_grad():
        h = net.input_map(network.data.inputs(range(count)).to(next(net.parameters())))
        rows = []
        for block in net.blocks:
            rows.append(_norms(block, h))
            h = block(h)
    x, product, weight, whole = (np.array(column) for column in zip(*rows, strict=True))
    return {
        "cushion": metrics.layer_cushion(product, weight[:, None], x).T,
        "kept": metrics.layer_cushion(product, whole[:, None], x).T,
    }


def _norms(block: Any, h: Tensor) -> tuple[FloatArray, FloatArray, float, float]:
    """|x| and |(rho +) A x| of each image, |A|_F without and with rho."""
    conv: nn.Conv2d = block.branch
    product = F.conv2d(h, conv.weight, None, conv.stride, conv.padding)
    rho = 0.0
    if block.shortcut is not None:
        product, rho = product + block.shortcut(h), identity_kernel(conv.weight)  # type: ignore[assignment]
    sizes = [v.double().flatten(1).norm(dim=1).cpu().numpy() for v in (h, product)]
    return sizes[0], sizes[1], float(conv.weight.double().norm()), float((conv.weight + rho).double().norm())


def _networks(lab: Lab) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Name, network and training images, as it is fed them: simplified, fully-fledged, pretrained."""
    for depth in DEPTHS[lab.scale]:
        for kind in KINDS:
            yield f"{kind}.{depth}", *_fed(watched(lab, simplified(lab.scale, kind, depth))[0])
    for kind in KINDS:
        yield f"{kind}.fledged", *_fed(watched(lab, fledged(lab.scale, kind))[0])
    for layers_, model, data in pretrained(lab):
        yield f"pretrained.{layers_}", model, data.inputs(range(NOISE_IMAGES))


def _fed(network: Trained) -> tuple[nn.Module, Tensor]:
    weight = next(network.model.parameters())
    return network.model, network.data.inputs(range(min(NOISE_IMAGES, len(network.data)))).to(weight)


def _draw_layers(lab: Lab, depth: int, found: dict[str, dict[str, FloatArray]], chosen: int) -> None:
    values = {kind: rows["cushion"][:, chosen] for kind, rows in found.items()}
    every = np.concatenate(list(values.values()))
    edges = np.linspace(every.min(), every.max(), 61)
    rows = [
        pictures.series(kind, (edges[1:] + edges[:-1]) / 2, np.histogram(v, edges)[0], style="-")
        for kind, v in values.items()
    ]
    title = f"depth {depth}: cushion of layer {LAYER[lab.scale]}"
    lab.picture(f"histogram.{depth}", pictures.lines(title, "figure 3", rows, "layer cushion", "images"))
    number = np.arange(2, next(iter(found.values()))["cushion"].shape[1] + 2)
    lines = [pictures.series(kind, number, rows["cushion"].mean(0)) for kind, rows in found.items()]
    lines.append(pictures.series("residual, 1 kept in |A|", number, found["residual"]["kept"].mean(0)))
    title = f"depth {depth}: layer cushions, mean over images"
    lab.picture(f"layers.{depth}", pictures.lines(title, "section 5", lines, "layer", "cushion"))
