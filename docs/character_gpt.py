"""A small character-level GPT, measured while it learns a text.

    python docs/character_gpt.py --text FILE [FILE ...] [--steps 1500] [--seeds 3]

GPT-2 of the transformers library from a config (6 layers of width 96, windows of 64 characters), trained from random
weights on the text of the files, nine tenths of it; the rest is held out. Before training and at some steps of it, 8
held-out windows are measured at the last token, a layer being one block: does the path of the state straighten, and do
the Jacobians of the layers, identity excluded, share their singular vectors (Aubry, Meng, Sugolov and Papyan, 2024)?

Writes docs/results/character_gpt.json with provenance, and character_gpt.svg, each metric over the steps of training.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import resdyn
from resdyn.data import TokenData, load_text
from resdyn.metrics import summarize
from resdyn.papers.results import provenance, write_whole

HERE = Path(__file__).parent / "results"
WINDOW, RANK = 64, 8
METRICS = ("line_shape_score", "collinearity", "mismatch_uv", "diagonal_energy_uv", "left_alignment", "right_alignment")
TITLES = (
    "line-shape score",
    "cosine of successive steps",
    "mismatch with $S_i$",
    "diagonal energy",
    "cosine of left vectors",
    "cosine of right vectors",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", required=True, help="text files in UTF-8")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    train, test, letters = split_text([Path(name) for name in options.text])
    runs = [course(train, test, len(letters), options.steps, seed) for seed in range(options.seeds)]
    text = {"files": [Path(name).name for name in options.text], "characters": len(letters), "windows": len(train)}
    result = {
        "text": text,
        "steps": options.steps,
        "window": WINDOW,
        "rank": RANK,
        "runs": runs,
        "provenance": provenance(0) | {"command": "python docs/character_gpt.py --text ..."},
    }
    write_whole(HERE / "character_gpt.json", json.dumps(result, indent=1) + "\n")
    draw(runs).savefig(HERE / "character_gpt.svg", bbox_inches="tight", metadata={"Date": None})


def split_text(paths: list[Path]) -> tuple[TokenData, TokenData, str]:
    """Windows to train on and held-out ones, and the characters that stand for the tokens."""
    letters = "".join(sorted(set("".join(path.read_text(encoding="utf-8") for path in paths))))
    parts = [load_text(path, lambda text: [letters.index(c) for c in text], WINDOW) for path in paths]
    held = [len(part) - len(part) // 10 for part in parts]
    train = [(part.tokens[:k], part.following[:k]) for part, k in zip(parts, held)]
    test = [(part.tokens[k:], part.following[k:]) for part, k in zip(parts, held)]
    joined = [
        TokenData(name, *(torch.cat(pieces) for pieces in zip(*rows)))
        for name, rows in (("train", train), ("held out", test))
    ]
    return joined[0], joined[1], letters


def course(train: TokenData, test: TokenData, vocabulary: int, steps: int, seed: int) -> list[dict[str, Any]]:
    """One training run: a row of numbers before it and at growing distances."""
    model, text = build(vocabulary, seed), torch.cat([train.tokens, train.following[:, None]], 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    due = sorted({0, steps, *(int(s) for s in steps * np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7]))})
    generator, rows, begun = torch.Generator().manual_seed(seed), [], time.perf_counter()
    for step in range(steps + 1):
        if step in due:
            rows.append({"step": step, "seconds": round(time.perf_counter() - begun, 1)} | measured(model, test))
            print(f"seed {seed}: {rows[-1]}", flush=True)
        if step < steps:
            batch = text[torch.randint(len(text), (32,), generator=generator)]
            loss = per_character(model.train(), batch).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return rows


def build(vocabulary: int, seed: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    size = {"vocab_size": vocabulary, "n_positions": WINDOW, "n_embd": 96, "n_layer": 6, "n_head": 4}
    plain = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0) | {"use_cache": False}
    return GPT2LMHeadModel(GPT2Config(**size, **plain, bos_token_id=None, eos_token_id=None))


def per_character(model: nn.Module, windows: Tensor) -> Tensor:
    """Cross entropy of each character but the first, given those before it in its window."""
    logits = model(windows[:, :-1]).logits
    return nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="none")


def measured(model: nn.Module, test: TokenData) -> dict[str, float | None]:
    """Loss per character of the held-out text, and the metrics at the last token."""
    model.eval()
    with torch.no_grad():
        losses = [per_character(model, part) for part in torch.cat([test.tokens, test.following[:, None]], 1).split(64)]
    with tempfile.TemporaryDirectory() as folder:
        ds = resdyn.capture(
            model,
            test,
            f"trajectory,singular(k={RANK}),coupling",
            f"{folder}/s.zarr",
            samples=8,
            kind="branch",
            position=-1,
            granularity="layer",
            show_progress=False,
        )
        found = {metric.name: metric.value for metric in summarize(ds)}
    return {"loss": float(torch.cat(losses).mean())} | {name: found[name] for name in METRICS}


def draw(runs: list[list[dict[str, Any]]]) -> Figure:
    """Each metric over the steps of training: the mean over seeds, and each seed as a thin line."""
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    steps = [row["step"] for row in runs[0]]
    for axis, name, title in zip(figure.subplots(2, 3).flat, METRICS, TITLES, strict=True):
        values = np.array([[row[name] for row in rows] for rows in runs], dtype=float)
        axis.plot(steps, values.T, color="0.75", linewidth=0.8)
        axis.plot(steps, values.mean(0), color="#2864b4", marker="o", markersize=3)
        axis.set(title=title, xlabel="step of training", xscale=("symlog"))
        axis.set_xlim(0, steps[-1])
    return figure


if __name__ == "__main__":
    main()
