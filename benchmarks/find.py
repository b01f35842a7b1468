"""Finding and verifying a stream beside torch.export and its decompositions of the same model: CPU seconds, one thread.

A GPT-2 of 124 million parameters at 64 tokens, a ViT of 12 layers, and narrow GPT-2s of growing depth, all with random
weights. Run: python benchmarks/find.py [--quick] [--runs 3]
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import metadata

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, ViTConfig, ViTForImageClassification

import resdyn

DEPTHS = (12, 24, 48, 96)


def gpt2(tokens: int = 64, **config: int) -> tuple[nn.Module, Tensor]:
    return GPT2LMHeadModel(GPT2Config(use_cache=False, **config)).eval(), torch.randint(0, 50, (2, tokens))


def vit() -> tuple[nn.Module, Tensor]:
    return ViTForImageClassification(ViTConfig()).eval(), torch.randn(2, 3, 224, 224)


def narrow(depth: int) -> tuple[nn.Module, Tensor]:
    return gpt2(tokens=16, n_layer=depth, n_embd=64, n_head=4, vocab_size=64)


def cpu_seconds(work: Callable[[], object], runs: int) -> float:
    """The median over some runs."""

    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return statistics.median(once() for _ in range(runs))


def exported(model: nn.Module, x: Tensor) -> object:
    return torch.export.export(model, (x[:1],), strict=False).run_decompositions({})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only the two shallowest narrow networks, once")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    depths, runs = (DEPTHS[:2], 1) if options.quick else (DEPTHS, options.runs)
    cases = {f"GPT-2 of width 64, {depth} layers": partial(narrow, depth) for depth in depths}
    if not options.quick:
        cases = {"GPT-2, 124 million parameters, 64 tokens": gpt2, "ViT, 12 layers, 224 x 224": vit} | cases
    print("| model | blocks | export | find_stream | ratio |\n|---|--:|--:|--:|--:|")
    found = []
    for name, build in cases.items():
        torch.manual_seed(0)
        model, x = build()
        exporting = cpu_seconds(partial(exported, model, x), runs)
        finding = cpu_seconds(partial(resdyn.find_stream, model, x), runs)
        blocks = len(resdyn.find_stream(model, x))
        found.append(finding)
        print(f"| {name} | {blocks} | {exporting:.2f} | {finding:.2f} | {finding / exporting:.2f} |", flush=True)
    last = found[-len(depths) :]
    exponent = math.log(last[-1] / last[0]) / math.log(depths[-1] / depths[0])
    print(f"\nGrowth of find_stream with depth, {depths[0]} to {depths[-1]} layers: exponent {exponent:.2f}")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "resdyn"))
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, Python {platform.python_version()}, {versions}")


if __name__ == "__main__":
    main()
