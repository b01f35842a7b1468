"""States and Jacobians of 40 families by chance against hooks and autograd of the models: rows for docs/zoo.md.

    python docs/zoo_values.py

Each model in float64, its weights moved by a little noise, so that no two states hold the same values. A family whose
model does not run in float64, or has no stream, gives its place to the next. Resumes as docs/zoo.py does, which writes
the page from both.
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "docs")]

import resdyn  # noqa: E402
from zoo import FAMILIES, Family, fed, in_precision, missing  # noqa: E402
from zoo_hooks import compared  # noqa: E402

SEED, FAMILIES_COMPARED = 1, 40
NOISE = 0.05


def main() -> None:
    page = module_of("zoo.py")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    page.silence_transformers()
    page.warm_up()
    path = ROOT / "out" / "zoo" / f"{page.fingerprint()}-values.jsonl"
    done = {json.loads(line)["name"] for line in path.read_text().splitlines()} if path.exists() else set()
    tasks = [task for task in everything() if task[1] not in done]
    for group, name, build in tasks:
        lines = path.read_text().splitlines() if path.exists() else []
        if sum("error" in json.loads(line) for line in lines) >= FAMILIES_COMPARED:
            return
        row = {"group": group, "name": name, "commit": page.version()} | page.apart(partial(row_of, build))
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


def module_of(file: str) -> Any:
    """A script beside this one as a module; its name is also that of one in tests/."""
    spec = importlib.util.spec_from_file_location("page_" + file.removesuffix(".py"), ROOT / "docs" / file)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def everything() -> list[tuple[str, str, Callable[[], Any]]]:
    """All families in an order by chance."""
    import zoo_generic

    libraries = ("transformers", "timm", "torchvision")
    generic = [(library, *family) for library in libraries for family in zoo_generic.families(library).items()]
    known = [("by hand", f"{f.kind}: {f.name}", partial(by_hand, f)) for f in FAMILIES if not missing(f.package)]
    tasks = [*generic, *known]
    return random.Random(SEED).sample(tasks, len(tasks))


def by_hand(family: Family) -> tuple[Any, None]:
    return family.built(torch.float32), None


def row_of(build: Callable[[], Any]) -> dict[str, Any]:
    """The comparison, or why there is none."""
    try:
        (model, x), _ = build()
        x = {k: in_precision(v, torch.float64) for k, v in x.items()} if isinstance(x, dict) else x
        x = x if isinstance(x, dict) else in_precision(x, torch.float64)
        model = moved(model.double())
        stream = fed(partial(resdyn.find_stream, model), x)
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    return {"skips": sorted({block.skip_kind for block in stream}), **asdict(compared(model, stream, x))}


def moved(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += NOISE * torch.randn_like(parameter)
    return model.requires_grad_(False)


if __name__ == "__main__":
    main()
