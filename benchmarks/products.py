"""Products with the Jacobian of a block: traced, as `stream.jacobian` takes them, beside plain torch.func.

    python benchmarks/products.py [--threads 1]

Plain products are `torch.func.vmap` of `jvp` and of one `vjp` on the same function. Both give the same numbers: the
column `difference` is the relative one between them. Times are the best of several interleaved repetitions. Weights are
random, which changes no time.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import resdyn
from resdyn.linalg import LinearOperator
from resdyn.models import load_model
from resdyn.stream.jacobian import block_jacobian

REPETITIONS = 15
COLUMNS = (8, 40)


def transformers_models() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """A GPT-2 and a Llama of width 256, 64 tokens; needs the extra `hf`."""
    from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel

    tokens = torch.randint(0, 100, (1, 64))
    sizes = {"vocab_size": 100, "bos_token_id": 0, "eos_token_id": 0, "attn_implementation": "eager"}
    gpt = GPT2Config(n_layer=1, n_head=8, n_embd=256, n_positions=64, **sizes)
    llama = LlamaConfig(
        num_hidden_layers=1, num_attention_heads=8, hidden_size=256, intermediate_size=1024, use_cache=False, **sizes
    )
    yield "GPT-2", GPT2Model(gpt), tokens
    yield "Llama", LlamaModel(llama), tokens


def cases() -> Iterator[tuple[str, LinearOperator, LinearOperator]]:
    """Name, traced and plain Jacobian of one block after another."""
    torch.manual_seed(0)
    networks = [
        ("ResNet-20", load_model("resdyn:cifar_resnet20").model, torch.randn(1, 3, 32, 32)),
        ("64 x 16 x 16", resdyn.nets.ResidualCNN(depth=1), torch.randn(1, 3, 32, 32)),
        *transformers_models(),
    ]
    for name, model, x in networks:
        stream = resdyn.find_stream(model.float().eval(), x)
        states = stream.states(x)
        for block in list(stream)[:2]:
            traced = stream.jacobian(block.index, states)
            state = states[block.index].reshape(block.graph_shape_in)
            yield (
                f"{name}, {block.path} ({block.branch_modules[-1]})",
                traced,
                block_jacobian(block, "gated", state, states.inputs, trace=False),
            )


def best(runs: list[Callable[[], Tensor]]) -> list[float]:
    """The least milliseconds of each."""
    times = [float("inf")] * len(runs)
    for _ in range(REPETITIONS):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run()
            times[index] = min(times[index], 1e3 * (time.perf_counter() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, "
        f"torch {torch.__version__}, float32\n"
    )
    print(
        "| block | product | columns | plain ms | traced ms | share | difference |\n|---|---|---:|---:|---:|---:|---:|"
    )
    for name, traced, plain in cases():
        for product in ("matmat", "rmatmat"):
            for columns in COLUMNS:
                rows = traced.shape[1 if product == "matmat" else 0]
                X = torch.randn(columns, rows).T
                runs = [lambda op=op: getattr(op, product)(X) for op in (plain, traced)]  # noqa: B023
                expected, found = (run() for run in runs)
                slow, fast = best(runs)
                difference = float((found - expected).norm() / expected.norm())
                print(
                    f"| {name} | {'J X' if product == 'matmat' else 'J^T X'} | {columns} | {slow:.2f} | {fast:.2f} "
                    f"| {fast / slow:.2f} | {difference:.0e} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
