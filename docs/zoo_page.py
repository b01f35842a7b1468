"""The page of the zoo from the rows that docs/zoo.py keeps.

    python docs/zoo_page.py

writes docs/zoo.md from the rows that there are, also from those of a run that has not ended.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "transformers", "timm", "torchvision")
GROUPS = ("by hand", "transformers", "timm", "torchvision")
Row = dict[str, Any]

WHOLE, PART, MORE = "found whole", "found in part", "found, more blocks than joins"
UNCOUNTED, NOT_BUILT = "found, without sums to count", "not built"
LIMIT, REFUSED = "refused by a documented limit", "refused otherwise"
VERDICTS = (WHOLE, PART, MORE, UNCOUNTED, LIMIT, REFUSED, NOT_BUILT)
# What a refusal says that docs/start.md or the message itself names as a limit, and how the page says it.
LIMITS = {
    "depends on values there": "sizes or branches that depend on the data",
    "torch.export cannot trace": "torch.export cannot trace it",
    "draws random numbers": "draws random numbers in eval mode",
    "holds no floating-point tensor": "returns no floating-point tensor",
    "returns no tensors": "returns no tensors",
    "because it has not been implemented yet": "an operation without a forward-mode derivative in torch",
    "or runs under torch.no_grad()": "blocks under torch.no_grad()",
    "the model gives NaN or infinity": "the model itself gives NaN here",
    "sums are of complex values": "sums of complex values",
}
WITHOUT_SUMS = {"none", "concat"}  # blocks of these kinds of skip close in no sum
NO_SUMS = "has no residual stream"
# What was found out about families in the table of differences.
WHY: dict[str, str] = {
    "mimi_encoder": "mended after this run: refused in one line, for states whose size is counted",
    "pocket_tts_audio_tokenizer_encoder": "mended after this run: refused in one line, for the same reason",
    "mvitv2_tiny": "three attentions have a max-pooled skip, no linear map; ours are the sums of queries inside",
    "sam3": "the decoder's queries are weights, so that encoder and decoder are one chain with ours",
    "sam3_video": "the decoder's queries are weights, so that encoder and decoder are one chain with ours",
    "sam3_lite_text": "the decoder's queries are weights, so that encoder and decoder are one chain with ours",
    "inkling2": "a convolution with a skip inside the first attention counts, with ours, as a block before it",
    "inkling2_text": "a convolution with a skip inside the first attention counts, with ours, as a block before it",
    "hrnet_w18_small": "branches at several scales are added to each other; ours follows one of them",
    "tnt_s_legacy_patch16_224": "inner and outer tokens in turn; ours follows the outer ones after one inner layer",
    "crossvit_tiny_240": "two streams that exchange one token; ours follows one of them",
    "higgs_audio_v2": "the audio's feed-forward layers write into the places of a mask; these sums lie in transitions",
}
# Blocks that a person counted in the code, where neither count below applies, and why.
READ: dict[str, tuple[int, str]] = {
    "ghostnet_050": (16, "a sum in each of 16 bottlenecks, written into a slice, where autograd records no sum"),
    "groupvit": (14, "two in each of three layers, four in each of two grouping blocks"),
    "groupvit_vision_model": (14, "two in each of three layers, four in each of two grouping blocks"),
    "gemma3n": (8, "prediction, attention, feed-forward and per-layer embedding in each of two layers"),
    "gemma3n_text": (8, "prediction, attention, feed-forward and per-layer embedding in each of two layers"),
    "deepseek_v4": (4, "two in each of two layers, of four streams that a matrix of the state mixes"),
    "bridgetower": (8, "two in one layer of the image's encoder, three in each of two layers across"),
    "coat_tiny": (42, "three in each of eight layers in series and of six at three scales side by side"),
    "swin2sr": (12, "two sums in each of six layers; transitions read the skip around each layer"),
    "timm: cait_xxs24_224": (
        7,
        "the first sum of the class token adds to a weight; autograd's graph shows seven too",
    ),
}

# Blocks that are no whole number for each layer that the configuration counts, and why.
OUTSIDE: dict[str, str] = {
    "unispeech-sat": "the convolution of positions is added to the state, one block before the layers",
    "unispeech": "the convolution of positions is added to the state, one block before the layers",
    "data2vec-audio": "the convolution of positions is added to the state, one block before the layers",
    "sew-d": "the convolution of positions is added to the state, one block before the layers",
    "granite_speech_encoder": "the middle prediction is added to the state, one block between the layers",
    "granite_speech_plus_encoder": "the middle prediction is added to the state, one block between the layers",
    "phi4_multimodal_vision": "the head that pools by attention has a feed-forward block of its own",
    "janus_vqgan": "a decoder of images by convolutions, whose levels the configuration counts by other names",
    "pp_ocrv5_mobile_rec": "a backbone of convolutions; the configuration counts the layers of its neck",
}


def page(rows: list[Row], left: int = 0) -> str:
    tables = [section for group in GROUPS if (section := group_tables(group, [r for r in rows if r["group"] == group]))]
    parts = [head(rows, left), differences(rows), values(values_beside()), *tables, not_built(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(row: Row) -> str:
    if row["outcome"] == "not built":
        return NOT_BUILT
    if row["outcome"] != "found":
        return LIMIT if row["outcome"] == "refused" and limit(row) else REFUSED
    joins = independent(row)
    if not joins or (set(row["skip"]) <= WITHOUT_SUMS and joins == (0, 0)):
        return UNCOUNTED
    if row["blocks"] in joins and follows_layers(row):
        return WHOLE
    return PART if row["blocks"] < min(joins) else MORE


def follows_layers(row: Row) -> bool:
    """Whether there are as many blocks for each layer that the configuration counts, or it is known why not."""
    layers = row["layers"][1] if row.get("layers") else 0
    return not layers or row["blocks"] % layers == 0 or row["name"] in OUTSIDE


def independent(row: Row) -> tuple[int, ...]:
    """The numbers of joins that a person or autograd's graph gives; the latter, in a row and in all."""
    if row["name"] in READ:
        return (READ[row["name"]][0],)
    if "implied" in row:
        return (row["implied"],)
    return tuple(row["counted"]) if isinstance(row.get("counted"), list) else ()


def differs(row: Row) -> bool:
    return verdict(row) in (PART, MORE)


def limit(row: Row) -> str:
    """The documented limit that a refusal names, or nothing."""
    reason = row["reason"]
    joins = row.get("counted")
    no_joins = row.get("implied") == 0 or joins in ([0, 0], [1, 1])
    if NO_SUMS in reason and "complex" not in reason:
        return "no chain of residual sums" if no_joins else ""
    return next((short for words, short in LIMITS.items() if words in reason), "")


def head(rows: list[Row], left: int) -> str:
    commits = made_at(rows)
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    built = [row for row in rows if row["outcome"] != "not built"]
    neither = sum(verdict(row) in (PART, MORE, REFUSED) for row in built)
    part = neither / max(1, len(built))
    missing = (
        f"\n\n**{left} families of timm, torchvision and transformers are not on this page yet:** the run was ended "
        "before them. They are tried in\nan order by chance, so those here are a sample of all; `make zoo` tries all."
        if left
        else ""
    )
    return f"""# The zoo

{len(built)} families of models were built, and resdyn was asked for their streams without a word about their modules:
{share(built, WHOLE)} whole, {share(built, LIMIT)} refused by a documented limit, {neither}
({part:.1%}) neither.{missing}

{counts(rows)}

Written by `make zoo` (`python docs/zoo.py`), {commits}, {platform.system()} {platform.machine()},
Python {platform.python_version()}, {packages}.

- **Families.** *By hand*: the families of `tests/zoo.py`, with sizes and numbers of blocks that a person wrote, and
  a capture. *transformers*: every other model type of its configurations. *timm*, *torchvision*: a small model of
  each module. Rules of names alone (`tests/zoo_generic.py`) shrink the default configuration (2 layers, width 16, 2
  heads) and find inputs by the names that `forward` takes; what they cannot build is at the end and is no statement
  about resdyn. All have random weights, in float32, on one thread.
- **Blocks** are found and verified by `find_stream`: each reproduces the model's own value, forward and reverse
  products agree, and derivatives are compared with autograd of the model. Families by hand are also captured
  (`trajectory` and `singular`).
- **Joins** are counted without resdyn: sums in *autograd's* graph of the model's own forward pass of which one term
  is computed with weights from the other one, or from what that is a view, a multiple or a linear projection of
  (`tests/zoo_joins.py`); two projections side by side are one map, and a term that is an activation of the other one is
  no branch. The first number is the longest chain in which every path from the input passes the join
  before; a second is all such sums (towers side by side, encoders beside the decoder's chain, sums inside a
  branch). Blocks that equal either number are *whole*, if they also are a whole number for each of the layers below;
  anything else is a difference, is listed, and makes the script exit with 1.
- **Layers** of the configuration times blocks per layer, where the inputs reach one stack of layers: 2 for
  attention and feed-forward, 1 for layers in parallel and state spaces, 3 with cross-attention.
- **Inside** is the share of one sample's operations and of the parameters in the blocks. In models as small as
  these, stems and heads weigh much; the modality that was not fed counts among the parameters."""


def made_at(rows: list[Row]) -> str:
    """The commit of some rows; where groups differ, of each."""
    groups: dict[str, list[str]] = {}
    for group, commit in dict.fromkeys((row["group"], row["commit"]) for row in rows):
        groups.setdefault(commit, []).append(group)
    if len(groups) == 1:
        return f"from commit {next(iter(groups))}"
    return "from commits " + ", ".join(f"{commit} ({', '.join(names)})" for commit, names in groups.items())


def share(rows: list[Row], kind: str) -> str:
    number = sum(verdict(row) == kind for row in rows)
    return f"{number} ({number / max(1, len(rows)):.1%})"


def counts(rows: list[Row]) -> str:
    groups = [group for group in GROUPS if any(row["group"] == group for row in rows)]
    lines = [f"| | {' | '.join(groups)} | all |", "|---" * (len(groups) + 2) + "|"]
    for kind in VERDICTS:
        numbers = [sum(verdict(row) == kind for row in rows if row["group"] == group) for group in groups]
        if any(numbers):
            lines.append(f"| {kind} | {' | '.join(map(str, numbers))} | {sum(numbers)} |")
    totals = [sum(row["group"] == group for row in rows) for group in groups]
    return "\n".join([*lines, f"| tried | {' | '.join(map(str, totals))} | {sum(totals)} |"])


def differences(rows: list[Row]) -> str:
    """Where ours and the independent count differ, and what is refused without being a limit."""
    wrong = [row for row in rows if verdict(row) in (PART, MORE, REFUSED)]
    lines = [f"| {row['name']} | {verdict(row)} | {numbers(row)} | {detail(row)} |" for row in wrong]
    read = [f"- {row['name']}: {READ[row['name']][0]}, {READ[row['name']][1]}" for row in rows if row["name"] in READ]
    parts = ["## Differences\n"]
    parts += ["| family | | blocks, joins | inside, or the reason |\n|---|---|---|---|", *lines] if lines else ["None."]
    if read:
        parts += ["\nCounted by a person in the code, where autograd's graph shows other sums:\n", *read]
    outside = [f"- {row['name']}: {row['blocks']}; {OUTSIDE[row['name']]}" for row in rows if row["name"] in OUTSIDE]
    if outside:
        parts += ["\nBlocks outside the layers that the configuration counts:\n", *outside]
    return "\n".join(parts)


def numbers(row: Row) -> str:
    joins = " or ".join(map(str, dict.fromkeys(independent(row))))
    return f"{row.get('blocks', 'none')}, {joins or 'not counted'}"


def detail(row: Row) -> str:
    said = inside(row) if row["outcome"] == "found" else short(row["reason"])
    return f"{said} ({WHY[row['name']]})" if row["name"] in WHY else said


def inside(row: Row) -> str:
    return ", ".join(f"{row[key]:.0%}" for key in ("operations", "parameters") if key in row)


def short(reason: str, length: int = 200) -> str:
    reason = reason.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
    return reason if len(reason) <= length else reason[:length].rsplit(" ", 1)[0] + " ..."


def group_tables(group: str, rows: list[Row]) -> str:
    rows = sorted((row for row in rows if row["outcome"] != "not built"), key=lambda row: row["name"].lower())
    if not rows:
        return ""
    found = [row for row in rows if row["outcome"] == "found"]
    refused = [row for row in rows if row["outcome"] != "found"]
    last = "captured" if group == "by hand" else "fed"
    lines = [
        f"## {group[0].upper() + group[1:]}\n",
        f"| family | blocks | joins | layers | inside: operations, parameters | states | skip | gate | {last} |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(line, found),
    ]
    if refused:
        lines += ["\nRefused:\n", "| family | joins | reason |", "|---|---|---|"]
        lines += [f"| {row['name']} | {joins(row)} | {limit(row) or short(row['reason'])} |" for row in refused]
    return "\n".join(lines)


def line(row: Row) -> str:
    mark = " **differs**" if differs(row) else ""
    states = row["states"] if len(row["states"]) <= 4 else [*row["states"][:2], "...", row["states"][-1]]
    last = row.get("captured", row.get("fed"))
    cells = (row["name"], f"{row['blocks']}{mark}", joins(row), layers(row), inside(row), ", ".join(states))
    return f"| {' | '.join(map(str, (*cells, kinds(row['skip']), kinds(row['gate']), last)))} |"


def joins(row: Row) -> str:
    return ", ".join(map(str, dict.fromkeys(independent(row)))) or "not counted"


def layers(row: Row) -> str:
    if not row.get("layers"):
        return ""
    number = row["layers"][1]
    return f"{number} x {row['blocks'] // number}" if number and row["blocks"] % number == 0 else f"{number}"


def kinds(counted: dict[str, int]) -> str:
    return next(iter(counted)) if len(counted) == 1 else ", ".join(f"{kind} {count}" for kind, count in counted.items())


def values(rows: list[Row]) -> str:
    """The comparison of states and Jacobians with hooks."""
    compared = [row for row in rows if "error" in row]
    if not compared:
        return ""
    used = [row for row in compared if row["products"]]
    errors = [row["error"] for row in used]
    states, seen, products = (sum(row[key] for row in compared) for key in ("states", "seen", "products"))
    unseen = [row["name"] for row in compared if not row["products"]]
    lines = [values_line(row) for row in compared]
    without = " Without such a pair: " + ", ".join(unseen) + "." if unseen else ""
    return f"""## Values

{len(compared)} families by chance, in float64, against forward hooks and autograd of the models as they are,
without our graph (`docs/zoo_values.py`, {made_at(rows)}). Hooks look for modules that take or return a tensor
equal to a state: {seen} of {states} states are seen so (a sum inside the forward of a layer is not, unless it
enters a module whole). A state that a module returns is then replaced by a leaf, and u^T times the derivative of a
later seen state comes from autograd of the model; the Jacobians of the blocks between the two are multiplied with the
same u. **Largest relative error of {products} products: {max(errors, default=0):.1e}** (0 where both ran the same
kernels in the same order).{without}

| family | states seen by hooks | products | largest relative error |
|---|---|---|---|
""" + "\n".join(lines)


def values_line(row: Row) -> str:
    return f"| {row['name']} | {row['seen']} of {row['states']} | {row['products']} | {row['error']:.0e} |"


def not_built(rows: list[Row]) -> str:
    rows = [row for row in rows if row["outcome"] == "not built"]
    lines = [f"| {row['name']} | {short(row['reason'], 140)} |" for row in sorted(rows, key=lambda row: row["name"])]
    return "\n".join(["## Not built\n", "| family | what building it, or running it, said |", "|---|---|", *lines])


def rows_file() -> Path:
    """The rows written last."""
    files = [path for path in (ROOT / "out" / "zoo").glob("*.jsonl") if "-values" not in path.name]
    return max(files, key=lambda path: path.stat().st_mtime)


def values_beside() -> list[Row]:
    path = rows_file().with_name(f"{rows_file().stem}-values.jsonl")
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    from zoo_values import everything

    rows = [json.loads(text) for text in rows_file().read_text().splitlines()]
    (ROOT / "docs" / "zoo.md").write_text(page(rows, len(everything()) - len(rows)))
    print(Counter(map(verdict, rows)))


if __name__ == "__main__":
    main()
