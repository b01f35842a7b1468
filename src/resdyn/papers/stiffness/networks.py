"""Section 4.2.3: the networks that are measured, on CIFAR-10 test images, at each scale.

The paper says of its networks that they "have been pre-trained on CIFAR10", and no more. Ours train 30 epochs, and
1,000 test images are measured, the same for every network.
Scale `small` measures two other networks with published weights, `resnet20` and `resnet32`. The CIFAR-10 images at hand
may have been re-encoded as JPEG; each result says so where they were; accuracies are then lower than published ones.
"""

from __future__ import annotations

from collections.abc import Iterator

from resdyn.papers.case import Case, Pretrained
from resdyn.papers.lab import Lab, Scale, Trained
from resdyn.training import Recipe

IMAGES: dict[Scale, int] = {"tiny": 12, "small": 100, "paper": 1000}
TINY = Case(
    "cnn",
    "digits",
    Recipe(epochs=6, lr=0.1, weight_decay=5e-4),
    images=256,
    options=(("depth", 4), ("downsample", True), ("image_size", 8), ("width", 4)),
)


def resnet(layers: int, epochs: int) -> Case:
    """A CIFAR ResNet-18, 34 or 50, trained on all images by momentum with a cosine schedule, not augmented."""
    recipe = Recipe(
        epochs=epochs, lr=0.05, weight_decay=5e-4, batch_size=128, momentum=0.9, memory_format="channels_last"
    )
    return Case(f"cifar_resnet{layers}", "cifar10", recipe)


def published(layers: int) -> Pretrained:
    """A CIFAR ResNet-20, 32 or 44 with parameter-free shortcuts."""
    return Pretrained(f"cifar_resnet{layers}", "cifar10", f"cifar_resnet/resnet{layers}.safetensors")


MAIN: dict[Scale, dict[str, Case | Pretrained]] = {
    "tiny": {"tiny": TINY},
    "small": {
        "resnet20": published(20),
        "resnet32": published(32),
    },
    "paper": {f"resnet{layers}": resnet(layers, epochs=30) for layers in (18, 34, 50)},
}


def networks(lab: Lab) -> Iterator[tuple[str, Trained]]:
    """Label and network, one after the other, trained where it has to be."""
    for label, entry in lab.selected(MAIN[lab.scale].items()):
        yield label, lab.pretrained(entry) if isinstance(entry, Pretrained) else lab.trained(entry)
