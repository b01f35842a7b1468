"""How the cost of a capture grows with samples, blocks and the size of a state, with fitted exponents.

    OMP_NUM_THREADS=1 python benchmarks/scale.py [--large]

Convolutional residual networks with random weights, random images, probes trajectory and singular (k = 10), one
process, one thread, CPU seconds of a second capture on a stream that has been found (least of some), less what one of
the states alone takes. An exponent of 1 is linear growth: it is the slope of a line through the logarithms. Sizes are
reduced unless `--large` is given.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from scipy.stats import linregress

import resdyn
from resdyn.nets import ResidualCNN

REPETITIONS = 2
REDUCED = {"samples": (2, 4, 8, 16), "blocks": (4, 8, 16, 32), "image size": (8, 16, 32, 64)}
LARGE = {"samples": (10, 30, 100, 300), "blocks": (8, 16, 32, 64, 96), "image size": (8, 16, 32, 64)}
USUAL = {"samples": 1, "blocks": 4, "image size": 8}
WIDTH = 16


def cost(samples: int, blocks: int, size: int) -> float:
    """CPU seconds of the singular probe in a capture."""
    torch.manual_seed(0)
    model = ResidualCNN(width=WIDTH, depth=blocks, image_size=size).eval()
    images = torch.randn(samples, 3, size, size)
    stream = resdyn.find_stream(model, images[:1])

    def seconds(probes: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            resdyn.capture(model, images, probes, Path(folder) / "store.zarr", samples=samples, stream=stream)
            return time.process_time() - start

    seconds("trajectory,singular(k=10)")  # products are traced
    both = min(seconds("trajectory,singular(k=10)") for _ in range(REPETITIONS))
    return both - min(seconds("trajectory") for _ in range(REPETITIONS))


def lines(sizes: dict[str, tuple[int, ...]]) -> Iterator[str]:
    for name, values in sizes.items():
        costs = [cost(*(USUAL | {name: value}).values()) for value in values]
        grown = [WIDTH * value**2 for value in values] if name == "image size" else list(values)
        label = "coordinates of a state" if name == "image size" else name
        fit = linregress(torch.tensor(grown).double().log(), torch.tensor(costs).double().log())
        seconds = ", ".join(f"{x}: {spent:.2f}" for x, spent in zip(grown, costs))
        yield f"| {label} | {seconds} | {fit.slope:.2f} ± {fit.stderr:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    torch.set_num_threads(1)
    sizes = LARGE if parser.parse_args().large else REDUCED
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}, CPU s, least of {REPETITIONS}\n")
    print("| growing | CPU s | exponent ± standard error |\n|---|---|--:|")
    for line in lines(sizes):
        print(line, flush=True)


if __name__ == "__main__":
    main()
