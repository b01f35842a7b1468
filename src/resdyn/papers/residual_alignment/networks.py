"""Section 2: the networks and how they are trained, at each scale.

The paper trains 500 epochs of all images with batch 128, lr 0.1, a cosine schedule, weight decay 1e-1
(convolutional) or 1e-2 or 5e-2 (fully connected, which of them where it does not say; here 5e-2). At scale
`small` epochs and images are fewer and convolutional networks see images of 16x16, so that their states are 8x8.
Type 3 has half its channels there, which pays for a quarter more images. Section 1.1 allows pre-activation blocks
without saying which networks have them: `type1_pre` and the like are types 1, 2 and 4a made of such.
At scale `paper` type 1 is trained with products in bfloat16, two and a half times as fast on processors that have them;
what that changes is measured by the experiment `precision_type1`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import xarray as xr

from resdyn.papers.case import Case
from resdyn.papers.lab import Lab, Scale, Trained
from resdyn.training import Recipe

DATASETS = ("mnist", "fashion_mnist", "cifar10", "cifar100", "imagenette")
TYPES = {f"type{name}": f"ra_type{name}" for name in ("1", "2", "3", "4a", "4b", "5a", "5b")}
TYPES |= {f"{kind}_pre": TYPES[kind] for kind in ("type1", "type2", "type4a")}
CONVOLUTIONAL = ("type2", "type2_pre", "type3", "type5a", "type5b")
WEIGHT_DECAY = {True: 1e-1, False: 5e-2}  # convolutional or not
BFLOAT16: dict[Scale, tuple[str, ...]] = {"tiny": (), "small": (), "paper": ("type1",)}

# scale -> (type, dataset) of the networks that RA1 to RA4 and table 1 look at
MAIN: dict[Scale, list[tuple[str, str]]] = {
    "tiny": [("type1", "digits"), ("type2", "digits")],
    "small": [(kind, data) for data in ("mnist", "fashion_mnist", "cifar10") for kind in ("type1", "type2")],
    "paper": [(kind, data) for kind in ("type1", "type2") for data in DATASETS],
}
SEEDS: dict[Scale, tuple[int, ...]] = {"tiny": (0, 1), "small": (0, 1, 2), "paper": (0, 1, 2)}
SAMPLES: dict[Scale, int] = {"tiny": 2, "small": 10, "paper": 10}
NULL_SAMPLES = 2  # an untrained network takes as long to measure for each image, and its numbers hardly differ
TRIPLETS: dict[Scale, int] = {"tiny": 12, "small": 30, "paper": 30}  # the paper's K


def case(scale: Scale, kind: str, data: str, seed: int = 0, classes: int | None = None, **options: Any) -> Case:
    """The network `kind` on `data` at a scale; `options` go to the network."""
    convolutional = kind in CONVOLUTIONAL
    epochs, images, own = _size(scale, kind)
    if kind.endswith("_pre"):
        own["preactivation"] = True
    if data == "imagenette" and not convolutional:
        own["in_features"] = (3, 32, 32)  # its images differ in size
    recipe = Recipe(epochs=epochs, lr=0.1, weight_decay=WEIGHT_DECAY[convolutional], batch_size=128, seed=seed)
    if kind in BFLOAT16[scale]:
        recipe = dataclasses.replace(recipe, autocast="bfloat16")
    return Case(
        network=TYPES[kind],
        data=data,
        recipe=recipe,
        images=images,
        classes=classes,
        options=tuple(sorted((own | options).items())),
    )


def main_cases(scale: Scale) -> list[tuple[str, Case]]:
    """Label and case of every network that RA1 to RA4 look at."""
    return labelled(scale, MAIN[scale])


def labelled(scale: Scale, networks: Sequence[tuple[str, str]]) -> list[tuple[str, Case]]:
    """Label and case of networks given as (type, dataset)."""
    return [(f"{kind}.{data}", case(scale, kind, data)) for kind, data in networks]


def small_data(scale: Scale) -> str:
    """The dataset of experiments that need only one."""
    return {"tiny": "digits", "small": "mnist", "paper": "cifar10"}[scale]


def measured(lab: Lab, network: Trained, state: str = "trained") -> xr.Dataset:
    """States, top-K triplets and couplings of all blocks at training images spread over the classes."""
    probes = f"trajectory,singular(k={TRIPLETS[lab.scale]}),coupling"
    samples = min(SAMPLES[lab.scale], NULL_SAMPLES) if lab.null else SAMPLES[lab.scale]
    return lab.measured(network, probes, samples, state)


def _size(scale: Scale, kind: str) -> tuple[int, int | None, dict[str, Any]]:
    """Epochs, training images and the options that make a network smaller."""
    if scale == "paper":
        return 500, None, {}
    if scale == "tiny":
        small: dict[str, Any] = {"width": 4, "image_size": 8} if kind in CONVOLUTIONAL else {"width": 24}
        return 6, 256, small | {"depth": 6}
    if kind == "type3":
        return 50, 2500, {"image_size": 16, "width": 32}
    if kind in CONVOLUTIONAL:
        return 50, 2000, {"image_size": 16}
    return 30, 10_000 if kind.startswith("type1") else 5_000, {}
