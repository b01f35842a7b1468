"""`resdyn prune`: which blocks of a trained network can go."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from rich.markup import escape
from rich.table import Table

from resdyn.cli.options import Whole
from resdyn.cli.output import print_json, quantity, say, terminal
from resdyn.data import load_data
from resdyn.interventions.pruning import Accuracy, BlockEffect, Pruning, drop, save_pruned
from resdyn.interventions.pruning import prune as run_prune
from resdyn.interventions.pruning.files import check_own_folder
from resdyn.models import load_model

Json = Annotated[bool, Parameter(help="Print results as one JSON object.", group=Group("Every command"))]


def prune(
    model: str,
    /,
    *,
    data: str,
    weights: Path | None = None,
    split: str = "test",
    out: Path = Path("out/pruned"),
    tolerance: float = 0.5,
    choose_by: Whole = 1000,
    seed: Whole = 0,
    data_root: Path | None = None,
    json: Json = False,
) -> None:
    """Rank the blocks of a trained network by what their removal changes, and write a shorter network.

    Blocks are found by dataflow. Accuracy before and after is measured on images that had no part in the choice.

    Parameters
    ----------
    model
        file.py:factory, resdyn:NET, hf:ID, timm:NAME or torchvision:NAME.
    data
        digits, mnist, fashion_mnist, cifar10, cifar100, imagenette, or a folder of images by class.
    weights
        Weights: safetensors, or a torch file of tensors only.
    split
        Split of the data.
    out
        Folder for weights.safetensors and pruned.json (read again by resdyn.pruning.load_pruned).
    tolerance
        Percentage points of accuracy that may be lost, on the images that blocks are chosen by.
    choose_by
        Images that blocks are chosen by; accuracy is told for the others.
    seed
        Seed of the choice of these images.
    data_root
        Folder of datasets (default: RESDYN_DATA).
    """
    check_own_folder(out)
    loaded = load_model(model, weights)
    images = load_data(data, split, data_root)
    notes = [*loaded.notes, *images.notes]
    for note in notes:
        say(f"note: {note}", quiet=json)
    found = run_prune(loaded, images, tolerance / 100, choose_by, seed)
    command = shlex.join(["resdyn", *sys.argv[1:]])
    facts = as_plain(found) | {
        "data": data,
        "split": split,
        "seed": seed,
        "tolerance": tolerance / 100,
        "notes": notes,
        "command": command,
    }
    drop(loaded.model, found.modules)
    save_pruned(out, loaded, found.modules, facts)
    if json:
        return print_json(facts | {"dropped_modules": found.modules, "out": str(out)})
    return _print(found, out)


def as_plain(found: Pruning) -> dict[str, Any]:
    """What was found as plain data; NaN becomes null."""
    content = dataclasses.asdict(found)
    content["dropped_blocks"] = content.pop("dropped")
    content.pop("modules")
    return _finite(content)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(found: Pruning, out: Path) -> None:
    console = terminal()
    table = _table(
        f"Each block alone, on {found.chosen_by} images; least change of the logits first",
        "block",
        "module",
        "residual",
        "logits",
        "accuracy, points",
        "why it stays",
    )
    for effect in found.effects:
        table.add_row(
            str(effect.index),
            escape(effect.path),
            _number(effect.step),
            _number(effect.logits),
            _points(effect),
            escape(effect.droppable.reason),
        )
    console.print(table)
    table = _table("One after the other", "blocks left", "dropped last", "logits", "accuracy, points", "proposed")
    for rung in found.rungs:
        here = "<-" if set(rung.dropped) == set(found.dropped) else ""
        change = quantity(100 * rung.accuracy, 100 * rung.accuracy_error)
        table.add_row(str(found.blocks - len(rung.dropped)), str(rung.dropped[-1]), _number(rung.logits), change, here)
    console.print(table)
    console.print(f"proposal: drop {_listed(found.dropped)} of {found.blocks} blocks")
    change = quantity(100 * found.change, 100 * found.change_error)
    console.print(
        f"accuracy on {found.before.images} other images: {_percent(found.before)} before, "
        f"{_percent(found.after)} after; change {change} points"
    )
    console.print(f"written: {out}", markup=False, soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _points(effect: BlockEffect) -> str:
    return quantity(100 * effect.accuracy, 100 * effect.accuracy_error) if math.isfinite(effect.accuracy) else "-"


def _percent(accuracy: Accuracy) -> str:
    between = "" if accuracy.error else f" (95 %: {100 * accuracy.low:.4g} to {100 * accuracy.high:.4g} %)"
    return f"{quantity(100 * accuracy.value, 100 * accuracy.error)} %{between}"


def _listed(blocks: tuple[int, ...]) -> str:
    return ", ".join(map(str, blocks)) if blocks else "none"
