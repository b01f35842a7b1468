"""Which families of models resdyn takes apart: writes docs/zoo.md from one run.

    python docs/zoo.py

The families of tests/zoo.py have counts that a person wrote; those of tests/zoo_generic.py are all types of
transformers, and one model per module of timm and torchvision, that generic rules can build. Each family is tried in
a process of its own with a time limit; its row is kept in out/zoo/, so that a run that was cut short resumes. Exits
with 1 where our count and an independent one differ.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "docs")]

import zoo_page  # noqa: E402

import resdyn  # noqa: E402
import zoo_generic  # noqa: E402
from resdyn.errors import ResdynError  # noqa: E402
from zoo import FAMILIES, Family, Inputs, fed, missing  # noqa: E402
from zoo_joins import joins_of_autograd, layers_of  # noqa: E402

Row = dict[str, Any]
LIMIT = 120  # seconds per family
MAKES_ROWS = ("tests/zoo.py", "tests/zoo_generic.py", "tests/zoo_joins.py", "docs/zoo.py")


def main() -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    silence_transformers()
    warm_up()
    rows = [resumed(group, name, task) for group, name, task in tasks()]
    (ROOT / "docs" / "zoo.md").write_text(zoo_page.page(rows))
    return int(any(zoo_page.differs(row) for row in rows))


def silence_transformers() -> None:
    if not missing("transformers"):
        import transformers

        transformers.logging.set_verbosity_error()


def warm_up() -> None:
    """Import and trace here once what every family's process then finds done."""
    for family in FAMILIES:
        if family.name in ("ViT", "Bert", "Llama", "resnet18") and not missing(family.package):
            model, x = family.built(torch.float32)
            joins_of_autograd(model, x)
            fed(partial(resdyn.find_stream, model.requires_grad_(False)), x)
    gc.freeze()


def tasks() -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Group, name and what makes the row, in an order by chance, so that a part of a run is a sample of the whole."""
    libraries = ("transformers", "timm", "torchvision")
    others = [(library, *family) for library in libraries for family in zoo_generic.families(library).items()]
    for library, name, build in random.Random(0).sample(others, len(others)):
        yield library, name, partial(generic, build)
    for family in FAMILIES:
        if not missing(family.package):
            yield "by hand", f"{family.kind}: {family.name}", partial(by_hand, family)


def resumed(group: str, name: str, task: Callable[[], Row]) -> Row:
    """The row of a family from an earlier part of this run, or from a process of its own."""
    path = ROOT / "out" / "zoo" / f"{fingerprint()}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    for row in map(json.loads, lines):
        if (row["group"], row["name"]) == (group, name):
            return dict(row)
    row = {"group": group, "name": name, "commit": version()} | apart(task)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)
    return row


def apart(task: Callable[[], Row]) -> Row:
    """What a task returns in a fork of this process; where that takes too long or dies, a row that says so."""
    start = time.perf_counter()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT)
        gc.disable()  # what the parent imported would be searched again and again
        torch.manual_seed(0)
        os.write(writing, json.dumps(task()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        written = file.read()
    os.waitpid(child, 0)
    seconds = time.perf_counter() - start
    ended = f"took more than {LIMIT} s" if seconds > LIMIT - 1 else "the process died"
    return (json.loads(written) if written else {"outcome": "error", "reason": ended}) | {"seconds": seconds}


def by_hand(family: Family) -> Row:
    model, x = family.built(torch.float32)
    return found(model, x) | {"kind": family.kind, "implied": family.blocks, "captured": captured(model, x)}


def generic(build: Callable[[], Any]) -> Row:
    """The row of a family that nobody described: built, counted on its own, then taken apart."""
    try:
        (model, x), config = build()
    except Exception as error:
        return {"outcome": "not built", "reason": one_line(error)}
    shown = ", ".join(x) if isinstance(x, dict) else "an image"
    layers = layers_of(config, x) if config is not None else None
    try:
        counted: Any = joins_of_autograd(model, x)
    except Exception as error:
        counted = one_line(error)
    row = found(model.requires_grad_(False), x)
    return row | {"fed": shown, "layers": layers, "counted": counted, "class": type(model).__name__}


def found(model: torch.nn.Module, x: Inputs) -> Row:
    try:
        stream = fed(partial(resdyn.find_stream, model), x)
    except ResdynError as error:
        return {"outcome": "refused", "reason": one_line(error)}
    except Exception as error:
        return {"outcome": "error", "reason": one_line(error)}
    return {
        "outcome": "found",
        "blocks": len(stream),
        "states": list(dict.fromkeys(" x ".join(map(str, block.shape_in)) for block in stream)),
        "skip": Counter(block.skip_kind for block in stream),
        "gate": Counter(block.gate_kind for block in stream),
        "operations": stream.coverage.operations,
        "parameters": stream.coverage.parameters,
        "notes": [str(note) for note in stream.notes],
    }


def captured(model: torch.nn.Module, x: Inputs) -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        data, store = (x, torch.tensor([0])), Path(folder) / "zoo.zarr"
        try:
            resdyn.capture(model, data, "trajectory,singular(k=3)", store, samples=1, show_progress=False)
        except Exception as error:  # whatever it is, the page says so
            return f"no: {one_line(error)}"
    return "yes"


def one_line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).split("\n") if line.strip()), "")
    return f"{type(error).__name__}: {first}"


@cache
def fingerprint() -> str:
    """Names what a row depends on: this package and the families, not the words of the page."""
    files = [*sorted((ROOT / "src" / "resdyn").rglob("*.py")), *(ROOT / path for path in MAKES_ROWS)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


@cache
def version() -> str:
    """The commit that rows are made at; computed once, for the page may change while a run lasts."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout

    changed = git("status", "--porcelain", "--", "src", *MAKES_ROWS)
    return git("rev-parse", "--short", "HEAD").strip() + (" with uncommitted changes" if changed else "")


if __name__ == "__main__":
    sys.exit(main())
