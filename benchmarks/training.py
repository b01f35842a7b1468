"""CPU time per image of training in float32, with channels last, with bfloat16 autocast, and with both.

Networks of the papers at their own sizes, on random images, interleaved in one run.
Run: OMP_NUM_THREADS=1 python benchmarks/training.py [--images 256] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import replace
from statistics import median

import torch

from resdyn.data import ImageData
from resdyn.data.sources import TensorSource
from resdyn.nets import NETS
from resdyn.training import Recipe, train

NETWORKS = {
    "type 2 (64 x 16 x 16)": ("ra_type2", {}),
    "type 3": ("ra_type3", {}),
    "ResNet-18": ("cifar_resnet18", {}),
    "simplified, depth 20": ("simplified", {"layers": 20}),
}
RECIPES = {
    "float32": {},
    "channels last": {"memory_format": "channels_last"},
    "bfloat16": {"autocast": "bfloat16"},
    "both": {"memory_format": "channels_last", "autocast": "bfloat16"},
}


def random_images(count: int) -> ImageData:
    """Images of CIFAR's size and ten classes."""
    generator = torch.Generator().manual_seed(0)
    return ImageData(
        name="random",
        split="train",
        class_names=tuple("0123456789"),
        labels=torch.arange(count) % 10,
        sample_index=torch.arange(count),
        source=TensorSource(torch.randn(count, 3, 32, 32, generator=generator)),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )


def cpu_seconds(network: str, options: dict, data: ImageData, recipe: Recipe) -> float:
    """Of one epoch, all threads together."""
    torch.manual_seed(0)
    model = NETS[network](classes=10, **options)
    start = time.process_time()
    train(model, data, recipe)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = random_images(options.images)
    base = Recipe(epochs=1, lr=0.01, weight_decay=5e-4, batch_size=128, momentum=0.9)
    print(f"| CPU ms per image | {' | '.join(RECIPES)} | both over float32 |\n|---|{'--:|' * (len(RECIPES) + 1)}")
    for title, (network, settings) in NETWORKS.items():
        taken: dict[str, list[float]] = {name: [] for name in RECIPES}
        for _ in range(options.rounds + 1):
            for name, changes in RECIPES.items():
                taken[name].append(cpu_seconds(network, settings, data, replace(base, **changes)))
        found = {name: 1000 * median(times[1:]) / options.images for name, times in taken.items()}  # the first warms up
        cells = " | ".join(f"{value:.2f}" for value in found.values())
        print(f"| {title} | {cells} | {found['both'] / found['float32']:.2f} |", flush=True)
    bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    units = f"bfloat16 units: {'yes' if bfloat16 else 'no'}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(f"\n{machine}, {units}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
