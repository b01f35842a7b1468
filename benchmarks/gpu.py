"""The analysis on a GPU beside one CPU core, and what share of the matrix product rate each reaches: one command.

    python benchmarks/gpu.py [--devices cuda,cpu] [--tiny] [--limit 480]

Lines: singular values of a 64 x 16 x 16 block, the ends of its eigenvalues, the number of negative real parts of a
4096-dimensional one by the sign function and by all eigenvalues (LAPACK or MAGMA), a default capture of one image of a
ResNet-20 (random weights), of one token of a GPT-2 of 124 million parameters, and the transport of one sample of it.
Each is run once to warm up and once for the table. Operations are counted in a third run; "share" is their rate over
that of a square float32 matrix product on the same device. Peak memory is torch's own count, on GPUs alone. No line
starts once `--limit` seconds have passed. `--tiny` is for a test of this script: its figures say nothing about speed.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers import GPT2Config, GPT2LMHeadModel

import resdyn
from resdyn.linalg import inertia

HEADER = "| device | work | seconds | Gflop | share of the matrix rate | peak GiB |\n|---|---|--:|--:|--:|--:|"


class Work(NamedTuple):
    """Something to measure; `prepare` builds what it needs, outside the measurement."""

    name: str
    prepare: Callable[[], Callable[[], object]]


class Operations(TorchDispatchMode):
    """Counts floating-point operations by torch's own table (`FlopCounterMode` stops derivatives inside it)."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


@cache
def block_of(width: int, side: int, device: str) -> resdyn.linalg.LinearOperator:
    torch.manual_seed(0)
    net = resdyn.nets.ResidualCNN(width=width, depth=1, image_size=2 * side).eval().to(device)
    x = torch.randn(1, 3, 2 * side, 2 * side, device=device)
    stream = resdyn.find_stream(net, x)
    return stream.jacobian(0, stream.states(x), "block")


@cache
def gpt2(tiny: bool, device: str) -> tuple[nn.Module, Tensor]:
    sizes = {"n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 64} if tiny else {}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(use_cache=False, bos_token_id=0, eos_token_id=0, **sizes)).eval().to(device)
    return model, torch.randint(0, 64, (1, 24 if tiny else 64), device=device)


def captured(model: nn.Module, x: Tensor, **options: object) -> Callable[[], object]:
    stream = resdyn.find_stream(model, x)  # `find.py` measures this

    def run() -> object:
        with tempfile.TemporaryDirectory() as folder:
            data = (x, torch.zeros(len(x), dtype=torch.long, device=x.device))
            options["store"] = Path(folder) / "s.zarr"
            return resdyn.capture(model, data, stream=stream, show_progress=False, **options)

    return run


def works(device: str, tiny: bool) -> Iterator[Work]:
    width, side = (4, 4) if tiny else (64, 16)
    k = 3 if tiny else 30

    def singular() -> Callable[[], object]:
        return partial(resdyn.svd, block_of(width, side, device), k)

    def ends() -> Callable[[], object]:
        return partial(resdyn.eigenvalues, block_of(width, side, device), ("LR", "SR"))

    def dense() -> Tensor:
        return block_of(width, side // 2, device).to_dense()

    def image() -> Callable[[], object]:
        torch.manual_seed(0)
        net = resdyn.nets.ResidualCNN(width=4, depth=1, image_size=8) if tiny else resdyn.nets.cifar_resnet(20)
        x = torch.randn(1, 3, 8 if tiny else 32, 8 if tiny else 32, device=device)
        return captured(net.eval().to(device), x, probes="trajectory,singular(k=2)" if tiny else None)

    def token() -> Callable[[], object]:
        return captured(*gpt2(tiny, device), probes=f"trajectory,singular(k={k})", position=-1)

    def lens() -> Callable[[], object]:
        model, x = gpt2(tiny, device)
        stream = resdyn.find_stream(model, x, granularity="layer")
        return partial(resdyn.transport, model, x, stream=stream, show_progress=False)

    yield Work("singular values of a block", singular)
    yield Work("ends of its eigenvalues", ends)
    yield Work("inertia, sign function", lambda: partial(inertia, dense(), method="sign"))
    yield Work("inertia, all eigenvalues", lambda: partial(torch.linalg.eigvals, dense()))
    yield Work("capture of ResNet-20, one image", image)
    yield Work("capture of GPT-2, one token", token)
    yield Work("transport of GPT-2, one sample", lens)


def synchronised(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def matrix_rate(device: str, n: int) -> float:
    """Gflop per second of a float32 matrix product, the best of five."""
    a, b, best = torch.randn(n, n, device=device), torch.randn(n, n, device=device), float("inf")
    for _ in range(5):
        start = synchronised(device)
        a @ b
        best = min(best, synchronised(device) - start)
    return 2e-9 * n**3 / best


def measured(work: Work, device: str, rate: float) -> str:
    run = work.prepare()
    run()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    start = synchronised(device)
    run()
    seconds = synchronised(device) - start
    peak = f"{torch.cuda.max_memory_allocated() / 2**30:.2f}" if device.startswith("cuda") else ""
    with Operations() as counter:
        run()
    operations = 1e-9 * counter.total
    return f"| {device} | {work.name} | {seconds:.3f} | {operations:.2f} | {operations / seconds / rate:.1%} | {peak} |"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="cuda,cpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="sizes for a test of this script")
    parser.add_argument("--limit", type=float, default=480, help="seconds after which no line starts")
    options = parser.parse_args(words)
    began = time.perf_counter()
    torch.set_num_threads(1)
    print(HEADER)
    for device in options.devices.split(","):
        rate = matrix_rate(device, 256 if options.tiny else 4096)
        for work in works(device, options.tiny):
            if time.perf_counter() - began > options.limit:
                print(f"| {device} | {work.name} | not run | | | |")
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                print(measured(work, device, rate), flush=True)
        print(f"| {device} | matrix product | | | {rate:.0f} Gflop/s | |", flush=True)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"\n{card}, {platform.machine()}, one thread, torch {torch.__version__}, resdyn {resdyn.__version__}")


if __name__ == "__main__":
    main()
