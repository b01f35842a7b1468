"""Appendix A: the networks and how they are trained, at each scale.

The paper trains on all of CIFAR-10 for 200 epochs (fully-fledged networks 180), learning rate 1e-2 (1e-3 for the plain
network of depth 44; 1e-1 fully-fledged), divided by 10 after three and four fifths, weight decay 1e-4. It states
neither momentum nor augmentation; test errors of 11 % with a training loss of 0.04 are those of augmented training, so
at scale `paper` images are shifted and mirrored, and momentum is 0.9 everywhere. Batch 128: its figure 10 counts 1564
iterations in 4 epochs. At scale `small` images are 5,000 and of 16x16, batches 64, epochs 20 (fully-fledged networks
8), and depth 20 alone.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from resdyn import load_model
from resdyn.data import ImageData, load_data
from resdyn.papers.case import Case
from resdyn.papers.identity_connections.watch import Watch
from resdyn.papers.lab import Lab, Scale, Trained
from resdyn.training import Recipe

WEIGHT_DECAY = 1e-4
BATCH: dict[Scale, int] = {"tiny": 32, "small": 64, "paper": 128}
DEPTHS: dict[Scale, tuple[int, ...]] = {"tiny": (5, 8), "small": (20,), "paper": (20, 32, 44)}
KINDS = ("plain", "residual")
TINY: dict[str, Any] = {"width": 4, "image_size": 8}


def depth(scale: Scale) -> int:
    """The depth that experiments on one depth use."""
    return DEPTHS[scale][0]


def seeds(scale: Scale, layers: int) -> tuple[int, ...]:
    """The paper: 10 networks (figure 9), 13 for depth 20 (figure 8)."""
    if scale == "paper":
        return tuple(range(13 if layers == 20 else 10))
    return (0, 1) if layers == depth(scale) else (0,)


def simplified(scale: Scale, kind: str, layers: int, seed: int = 0, **options: Any) -> Case:
    """A simplified network: `plain`, `residual`, or `transferred`, a plain one drawn as the residual one."""
    own: dict[str, Any] = {"layers": layers} | _smaller(scale) | options
    if kind != "residual":
        own |= {"skip": False}
    if kind == "transferred":
        own |= {"init": "hardt_ma"}
    lr = 1e-3 if kind == "plain" and layers == 44 else 1e-2
    if own.get("kernels") == "dominant" and layers == 44:
        lr = 5e-3  # table 5
    return _case(scale, "simplified", own, 200, lr, seed)


def fledged(scale: Scale, kind: str, seed: int = 0) -> Case:
    """The fully-fledged network of two convolutions with batch norm a block: `plain` or `residual`."""
    own = _smaller(scale) | {"skip": kind == "residual"}
    if scale == "tiny":
        own |= {"in_channels": 1, "layers": 8}
    case = _case(scale, "cifar_resnet", own | {"layers": own.get("layers", 20)}, 180, 1e-1, seed)
    return replace(case, recipe=replace(case.recipe, epochs=8)) if scale == "small" else case


def watched(lab: Lab, case: Case) -> tuple[Trained, dict[str, Any]]:
    """A network after training, and its course (see `Watch`)."""
    test = case.images_of("test", lab.root)
    test = lab.inputs(case, "test", test.prepared(case.build(test)[1]))
    shown = test.subset(range(min(len(test), TEST_IMAGES[lab.scale])))
    watch = Watch(shown, FLOW_IMAGES[lab.scale])
    network = lab.trained(case, [watch])
    return network, network.found[0]


def pretrained(lab: Lab) -> list[tuple[int, nn.Module, ImageData]]:
    """Depth, network and test images of the trained CIFAR ResNets under RESDYN_MODELS; none at scale tiny.

    As the null of an experiment the same networks are untrained.
    """
    folder, found = Path(os.environ.get("RESDYN_MODELS", "")) / "cifar_resnet", []
    for layers in (20, 32, 44):
        path = folder / f"resnet{layers}.safetensors"
        if lab.scale != "tiny" and path.is_file():
            loaded = load_model(f"resdyn:cifar_resnet{layers}", None if lab.null else path)
            data = load_data("cifar10", "test", lab.root).prepared(loaded.preprocessing)
            found.append((layers, loaded.model, data))
    return found


TEST_IMAGES: dict[Scale, int] = {"tiny": 100, "small": 1000, "paper": 10_000}
FLOW_IMAGES: dict[Scale, int] = {"tiny": 4, "small": 16, "paper": 128}


def _case(scale: Scale, network: str, options: dict[str, Any], epochs: int, lr: float, seed: int) -> Case:
    sizes: dict[Scale, tuple[int, int | None]] = {"tiny": (4, 256), "small": (20, 5000), "paper": (epochs, None)}
    count, images = sizes[scale]
    recipe = Recipe(
        epochs=count,
        lr=lr,
        weight_decay=WEIGHT_DECAY,
        batch_size=BATCH[scale],
        momentum=0.9,
        schedule="step",
        augment=scale == "paper",
        seed=seed,
    )
    data = "digits" if scale == "tiny" else "cifar10"
    return Case(network, data, recipe, images=images, options=tuple(sorted(options.items())))


def _smaller(scale: Scale) -> dict[str, Any]:
    return dict(TINY) if scale == "tiny" else {"image_size": 16} if scale == "small" else {}
