"""Fitting a transport beside TransformerLens, in narrower products, compressed, and by size; one run, one thread.

    python benchmarks/transport.py [--parts fits passes memory compressed curves]

GPT-2s of random weights (heads of 64, as the published ones) on random tokens. Seconds are of the processor
(`time.process_time`), which other programs on the machine disturb least. Fits are timed whole, trace and store
included, a stream found beforehand; the pass is also timed alone. The rate counts 2 x parameters x tokens x width
operations per sample for the layers that are transported through, as if attention were free; beside it that of plain
matrix products with the same weights, of as many rows as a block has. Both fits are compared entry by entry. Memory is
the resident peak of a fit above what its process held before, in a fresh process each, after a fit of a small model
that loads the code. Without TransformerLens its columns are left out.

Writes benchmarks/results/transport.json, with provenance.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import resdyn
from resdyn.papers.results import provenance, write_whole
from resdyn.stream.tail_map import TailMap
from resdyn.transporting.reductions import block_size

HERE = Path(__file__).parent / "results"
VOCABULARY = 200
ROWS = 16  # of TransformerLens, at once
FITS = [
    {"width": 256, "layers": 6, "tokens": 128},
    {"width": 768, "layers": 2, "tokens": 32},  # reduced
]
COMPRESSED = {"width": 768, "layers": 12, "tokens": 32}
CURVES = {"width": 128, "layers": 5, "tokens": 128}
SMALL = {"width": 64, "layers": 2, "tokens": 32}
PASSES = [FITS[0], {"width": 768, "layers": 2, "tokens": 128}]
PARTS = ("fits", "passes", "memory", "compressed", "curves")
Fit = Callable[[int], dict[int, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--peak-of", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak_of:
        print(peak(options.peak_of))
        return
    result: dict[str, Any] = {}
    for part in options.parts:
        result[part] = {"fits": fits, "passes": passes, "memory": memory, "compressed": compressed, "curves": curves}[
            part
        ]()
        print(json.dumps({part: result[part]}, indent=1), flush=True)
    result["provenance"] = provenance(0) | {"command": "python benchmarks/transport.py"}
    HERE.mkdir(exist_ok=True)
    write_whole(HERE / "transport.json", json.dumps(result, indent=1) + "\n")


def fits() -> list[dict[str, Any]]:
    """Both fits in single precision, and ours with products in bfloat16."""
    for make in (our_fit, other_fit):  # what Python and torch load at the first call is nobody's cost
        if (fit := make(*build(**SMALL))) is not None:
            fit(1)
    return [fits_of(sizes) for sizes in FITS]


def fits_of(sizes: dict[str, int]) -> dict[str, Any]:
    """Fits of one sample and of two in turn, least of two each: what the second one costs, and what is done once."""
    model, ids = build(**sizes)
    fitted = {"ours": our_fit(model, ids), "theirs": other_fit(model, ids)}
    least: dict[tuple[str, int], float] = {}
    lenses = {}
    for count in (1, 2, 1, 2):
        for name, fit in fitted.items():
            if fit is not None:
                took, lenses[name] = timed(fit, count)
                least[name, count] = min(took, least.get((name, count), took))
    seconds = {name: {"first": least[name, 1], "more": least[name, 2] - least[name, 1]} for name in lenses}
    row: dict[str, Any] = {"sizes": sizes, "seconds_per_sample": seconds}
    if "theirs" in lenses:
        row["ours_over_theirs"] = {what: seconds["ours"][what] / seconds["theirs"][what] for what in ("first", "more")}
        row["largest_difference"] = largest_difference(lenses["ours"], lenses["theirs"])
    print(json.dumps(row), flush=True)
    return row


def passes() -> list[dict[str, Any]]:
    """The backward pass alone, a block of rows in turn with plain products, least of some; exact and in bfloat16."""
    found = []
    for sizes in PASSES:
        seconds = pass_seconds(**sizes)
        rate = product_rate(**sizes)
        for _ in range(3):
            again = pass_seconds(**sizes)
            seconds = {name: min(seconds[name], again[name]) for name in seconds}
            rate = max(rate, product_rate(**sizes))
        gflops = operations(**sizes) / sizes["width"] / seconds["float32"] / 1e9
        found.append(
            {
                "sizes": sizes,
                "ms_per_row": {name: 1e3 * value for name, value in seconds.items()},
                "gflops": {"ours": gflops, "products": rate},
                "ours_over_products": gflops / rate,
                "bfloat16_over_float32": seconds["bfloat16"] / seconds["float32"],
            }
        )
    return found


def pass_seconds(width: int, layers: int, tokens: int) -> dict[str, float]:
    """Processor seconds per row, least of some blocks."""
    model, ids = build(width, layers, tokens, samples=1)
    stream = resdyn.find_stream(model, ids, granularity="layer")
    states, blocks = stream.states(ids), {}
    for name, products in (("float32", None), ("bfloat16", torch.bfloat16)):
        tail = TailMap(stream, range(1, layers), products=products)
        cotangents = torch.randn(block_size(tail.largest, 4, torch.device("cpu")), tokens, width)
        blocks[name] = tail.at(states)
    best = dict.fromkeys(blocks, float("inf"))
    for _ in range(6):
        for name, block in blocks.items():
            begun = time.process_time()
            block(cotangents)
            best[name] = min(best[name], (time.process_time() - begun) / len(cotangents))
    return best


def memory() -> dict[str, float]:
    """MiB of the resident peak of a fit above what was there before it, at the first sizes."""
    found = {}
    for kind in ("ours", "theirs"):
        done = subprocess.run(
            [sys.executable, __file__, "--peak-of", kind], stdout=subprocess.PIPE, text=True, check=True
        )
        found[kind] = float(done.stdout.split()[-1])
    return found | {"ours_over_theirs": found["ours"] / found["theirs"]}


def peak(kind: str) -> float:
    for sizes in (SMALL, FITS[0]):
        model, ids = build(**sizes)
        fit = our_fit(model, ids) if kind == "ours" else other_fit(model, ids)
        if fit is None:
            return float("nan")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
        before = resident("VmRSS")
        fit(1)
    return (resident("VmHWM") - before) / 1024


def resident(what: str) -> int:
    """KiB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1])


def compressed() -> dict[str, Any]:
    """Rank 32 beside the whole fit, one sample."""
    model, ids = build(**COMPRESSED)
    asked = settings(model, ids)
    begun = time.process_time()
    whole = resdyn.transport(model, ids[:1], show_progress=False, **asked)
    between = time.process_time()
    found = resdyn.compressed_transport(model, ids[:1], 32, **asked)
    seconds = between - begun, time.process_time() - between
    left_out = [float((whole[depth] - found[depth]).norm() / whole[depth].norm()) for depth in whole]
    norms = torch.stack([whole[depth].double().norm() for depth in whole])
    return {
        "sizes": COMPRESSED,
        "seconds": {"whole": seconds[0], "compressed": seconds[1]},
        "ratio": seconds[1] / seconds[0],
        "left_out": max(left_out),
        "bound": float((found.remainder_bound / norms).max()),
    }


def curves() -> dict[str, Any]:
    """Cost against each size alone: 2 is linear in it, 4 quadratic."""
    model, ids = build(samples=8, **CURVES)
    fit = our_fit(model, ids)
    fit(1)
    seconds = {count: timed(fit, count)[0] for count in (2, 4, 8)}
    base = pass_seconds(**CURVES)["float32"] * CURVES["width"]
    doubled = {}
    for name, size in CURVES.items():
        larger = CURVES | {name: 2 * size - (name == "layers")}  # the first layer is not transported through
        doubled[name] = pass_seconds(**larger)["float32"] * larger["width"] / base
    return {"sizes": CURVES, "seconds_of_samples": seconds, "of_twice_the_size": doubled}


def build(width: int, layers: int, tokens: int, samples: int = 2) -> tuple[nn.Module, Tensor]:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_embd": width, "n_layer": layers, "n_head": max(1, width // 64), "n_positions": tokens}
    config = GPT2Config(vocab_size=VOCABULARY, use_cache=False, bos_token_id=0, eos_token_id=0, **sizes)
    return GPT2LMHeadModel(config).eval(), torch.randint(2, VOCABULARY, (samples, tokens))


def settings(model: nn.Module, ids: Tensor) -> dict[str, Any]:
    """Every layer but the first; the stream is found beforehand."""
    stream = resdyn.find_stream(model, ids[:1], granularity="layer")
    return {"depths": range(1, len(stream)), "skip_first": skip(ids), "stream": stream}


def skip(ids: Tensor) -> int:
    return min(16, ids.shape[1] // 4)


def our_fit(model: nn.Module, ids: Tensor, products: str | None = None) -> Fit:
    asked = settings(model, ids)

    def fit(count: int) -> dict[int, Tensor]:
        lens = resdyn.transport(model, ids[:count], chunk_size=count, products=products, show_progress=False, **asked)
        return {depth - 1: lens[depth] for depth in lens}

    return fit


def timed(fit: Fit, count: int) -> tuple[float, dict[int, Tensor]]:
    begun = time.process_time()
    lens = fit(count)
    return time.process_time() - begun, lens


def largest_difference(ours: dict[int, Tensor], other: dict[int, Tensor]) -> float:
    """Relative to the norm of a layer's matrix."""
    return max(float((ours[layer] - other[layer]).norm() / ours[layer].norm()) for layer in ours)


def operations(width: int, layers: int, tokens: int) -> float:
    return 2.0 * 12 * width**2 * (layers - 1) * tokens * width


def product_rate(width: int, layers: int, tokens: int) -> float:
    """GFLOP per processor second of the four products with a layer's weights, best of some tries."""
    rows = max(1, (4 << 20) // (16 * width * tokens)) * tokens
    factors = [
        (torch.randn(rows, k), torch.randn(k, n))
        for k, n in ((1, 4), (4, 1), (1, 1), (3, 1))
        for k, n in [(k * width, n * width)]
    ]
    best = float("inf")
    for _ in range(10):
        begun = time.process_time()
        for x, weight in factors:
            x @ weight
        best = min(best, time.process_time() - begun)
    return 2 * rows * 12 * width**2 / best / 1e9


def other_fit(model: nn.Module, ids: Tensor) -> Fit | None:
    """TransformerLens's own fit on the same tokens, 16 rows at once."""
    try:
        from tokenizers import Tokenizer, models
        from transformer_lens.model_bridge import TransformerBridge
        from transformer_lens.tools.analysis import JacobianLens
        from transformers import PreTrainedTokenizerFast
    except ImportError as error:
        print(f"without TransformerLens: {error}")
        return None
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCABULARY)}, unk_token="t1"))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        special = {"bos_token": "t0", "eos_token": "t0", "pad_token": "t0", "unk_token": "t1"}
        PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(
            folder, hf_model=copy.deepcopy(model), tokenizer=tokenizer, device="cpu"
        ).eval()
    rows = {str(n): row[None] for n, row in enumerate(ids)}
    object.__setattr__(bridge, "to_tokens", lambda prompt, **_: rows[prompt])  # the same ids, whatever the tokenizer

    def fit(count: int) -> dict[int, Tensor]:
        settings = {
            "corpus": "random",
            "skip_first_positions": skip(ids),
            "dim_batch": ROWS,
            "max_seq_len": ids.shape[1],
        }
        found: dict[int, Tensor] = JacobianLens.fit(
            bridge, list(rows)[:count], show_progress=False, **settings
        ).jacobians
        return found

    return fit


if __name__ == "__main__":
    main()
