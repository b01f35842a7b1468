"""Fitting a transport beside TransformerLens, and its cost against samples, in one run on one thread.

    python benchmarks/transport.py [--width 256] [--layers 6] [--tokens 128] [--samples 4] [--curves]

A GPT-2 of random weights and random tokens. Seconds are of the processor (`time.process_time`), which other programs
on the machine disturb least. Cost per sample is the slope between half of the samples and all of them, so that what is
done once (export, trace, store) is apart, as `once`. The rate counts 2 x parameters x tokens x width operations per
sample for the layers that are transported through, as if attention were free; beside it that of a plain matrix product.
Both fits are compared entry by entry. Without TransformerLens its columns are left out.

With `--curves` only our fit, at half and at the full tokens, layers and width, beside products in bfloat16 and the
compressed transport of rank an eighth of the width; each as a ratio of the cost per sample: 2 is linear, 4 quadratic.

Writes benchmarks/results/transport.json, or transport_curves.json, with provenance.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import resdyn
from resdyn.papers.results import provenance, write_whole

HERE = Path(__file__).parent / "results"
VOCABULARY, SKIP = 200, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 256), ("layers", 6), ("tokens", 128), ("samples", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--curves", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {name: size for name, size in vars(options).items() if name != "curves"}
    if options.curves:
        curves(**sizes)
        return
    model, ids = build(options.width, options.layers, options.tokens, options.samples)
    stream = resdyn.find_stream(model, ids, granularity="layer")

    def ours(count: int) -> dict[int, Tensor]:
        depths = range(1, options.layers)
        lens = resdyn.transport(
            model, ids[:count], depths=depths, skip_first=SKIP, stream=stream, chunk_size=count, show_progress=False
        )
        return {depth - 1: lens[depth] for depth in lens}

    found = {"resdyn": measured(ours, options.samples)}
    theirs = other_fit(model, ids)
    if theirs is not None:
        found["transformer_lens"] = measured(theirs, options.samples)
        pairs = [(a, found["transformer_lens"]["lens"][layer]) for layer, a in found["resdyn"]["lens"].items()]
        difference = max(float((a - b).norm() / b.norm()) for a, b in pairs)
        ratio = found["resdyn"]["per_sample"] / found["transformer_lens"]["per_sample"]
        found |= {"relative_difference": difference, "ratio_per_sample": ratio}
    operations = 2 * 12 * options.width**2 * (options.layers - 1) * options.tokens * options.width
    result: dict[str, Any] = {
        "sizes": sizes,
        "product_gflops": product_rate(options.width, options.tokens),
        "formula_gflops": operations / found["resdyn"]["per_sample"] / 1e9,
        **{name: shown(value) for name, value in found.items()},
        "provenance": provenance(0) | {"command": "python benchmarks/transport.py"},
    }
    HERE.mkdir(exist_ok=True)
    write_whole(HERE / "transport.json", json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "provenance"}, indent=1))


def curves(width: int, layers: int, tokens: int, samples: int) -> None:
    """Cost per sample against each size alone, and of the two cheaper kinds of fit."""
    whole = {"width": width, "layers": layers, "tokens": tokens}
    base = cost(samples, **whole)["per_sample"]
    halved = {name: base / cost(samples, **(whole | {name: size // 2}))["per_sample"] for name, size in whole.items()}
    kinds = {
        "bfloat16": cost(samples, products="bfloat16", **whole)["per_sample"] / base,
        "compressed": cost(samples, rank=width // 8, **whole)["per_sample"] / base,
    }
    result = {
        "sizes": whole | {"samples": samples},
        "seconds_per_sample": base,
        "over_that_at_half": halved,
        "over_the_whole_fit": kinds,
        "provenance": provenance(0) | {"command": "python benchmarks/transport.py --curves"},
    }
    HERE.mkdir(exist_ok=True)
    write_whole(HERE / "transport_curves.json", json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "provenance"}, indent=1))


def cost(
    samples: int, width: int, layers: int, tokens: int, products: str | None = None, rank: int | None = None
) -> dict[str, Any]:
    """Processor seconds of a fit through all layers but the first."""
    model, ids = build(width, layers, tokens, samples)
    stream = resdyn.find_stream(model, ids, granularity="layer")
    asked: dict[str, Any] = {"depths": range(1, layers), "skip_first": SKIP, "stream": stream}

    def fit(count: int) -> dict[int, Tensor]:
        if rank is not None:
            resdyn.compressed_transport(model, ids[:count], rank, **asked)
        else:
            resdyn.transport(model, ids[:count], chunk_size=count, products=products, show_progress=False, **asked)
        return {}

    return measured(fit, samples)


def build(width: int, layers: int, tokens: int, samples: int) -> tuple[nn.Module, Tensor]:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_embd": width, "n_layer": layers, "n_head": max(1, width // 32), "n_positions": tokens}
    config = GPT2Config(vocab_size=VOCABULARY, use_cache=False, bos_token_id=0, eos_token_id=0, **sizes)
    return GPT2LMHeadModel(config).eval(), torch.randint(2, VOCABULARY, (samples, tokens))


def measured(fit: Callable[[int], dict[int, Tensor]], samples: int) -> dict[str, Any]:
    """Processor seconds for half of the samples and for all: what each costs, and what is done once."""
    fit(1)  # what Python and torch load at the first call is nobody's cost
    seconds = []
    for count in (samples // 2, samples):
        begun = time.process_time()
        lens = fit(count)
        seconds.append(time.process_time() - begun)
    slope = (seconds[1] - seconds[0]) / (samples - samples // 2)
    return {"per_sample": slope, "once": max(0.0, seconds[1] - samples * slope), "total": seconds[1], "lens": lens}


def shown(value: Any) -> Any:
    return {key: number for key, number in value.items() if key != "lens"} if isinstance(value, dict) else value


def product_rate(width: int, tokens: int) -> float:
    """GFLOP per processor second of the products that a feed-forward layer makes."""
    rows, inner = 8 * tokens, torch.randn(width, 4 * width)
    x = torch.randn(rows, width)
    x @ inner
    begun, repeats = time.process_time(), 30
    for _ in range(repeats):
        x @ inner
    return 2 * rows * width * 4 * width * repeats / (time.process_time() - begun) / 1e9


def other_fit(model: nn.Module, ids: Tensor) -> Callable[[int], dict[int, Tensor]] | None:
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
        settings = {"corpus": "random", "skip_first_positions": SKIP, "dim_batch": 16, "max_seq_len": ids.shape[1]}
        found: dict[int, Tensor] = JacobianLens.fit(
            bridge, list(rows)[:count], show_progress=False, **settings
        ).jacobians
        return found

    return fit


if __name__ == "__main__":
    main()
