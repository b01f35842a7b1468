"""`resdyn prune`: which blocks of a trained network can be removed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from resdyn._format import with_error
from resdyn.cli.options import DataRoot, Device, Dtype, Json, Weights, Whole
from resdyn.cli.output import print_json, print_table, say, terminal

if TYPE_CHECKING:
    from resdyn.interventions.pruning import Accuracy, BlockEffect, Pruning


def prune(
    model: str,
    /,
    *,
    data: str,
    weights: Weights = None,
    split: str = "test",
    out: Path = Path("out/pruned"),
    max_accuracy_loss: float = 0.005,
    num_selection_images: Whole | None = None,
    seed: Whole = 0,
    data_root: DataRoot = None,
    device: Device = "auto",
    dtype: Dtype = None,
    tolerance: Annotated[float | None, Parameter(show=False)] = None,
    choose_by: Annotated[Whole | None, Parameter(show=False)] = None,
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
    split
        Split of the data.
    out
        Folder for weights.safetensors and pruned.json (read by resdyn.interventions.pruning.load_pruned).
    max_accuracy_loss
        Share of correct predictions that may be lost on the selection images: 0.005 is half a percentage point.
    num_selection_images
        Images that blocks are chosen by (default: half, at most 1000); accuracy is reported for the others.
    seed
        Seed of the choice of these images.
    """
    from resdyn.cli.measure import command_line, load
    from resdyn.data import load_data
    from resdyn.interventions.pruning import drop, save_pruned
    from resdyn.interventions.pruning import prune as run_prune
    from resdyn.interventions.pruning.files import check_own_folder

    if tolerance is not None:
        max_accuracy_loss = tolerance / 100
        say(f"note: --tolerance (in points) will be removed; use --max-accuracy-loss {max_accuracy_loss:g}")
    if choose_by is not None:
        num_selection_images = choose_by
        say(f"note: --choose-by will be removed; use --num-selection-images {choose_by}")
    check_own_folder(out)
    loaded = load(model, weights, device, dtype)
    images = load_data(data, split, data_root)
    notes = [*loaded.notes, *images.notes]
    for note in notes:
        say(f"note: {note}", quiet=json)
    found = run_prune(loaded, images, max_accuracy_loss, num_selection_images, seed)
    facts = as_plain(found) | {
        "data": data,
        "split": split,
        "seed": seed,
        "max_accuracy_loss": max_accuracy_loss,
        "notes": notes,
        "command": command_line(),
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
    title = f"Each block alone, on {found.chosen_by} images; least change of the logits first"
    alone = [
        {
            "block": str(effect.index),
            "module": effect.path,
            "residual": _number(effect.step),
            "logits": _number(effect.logits),
            "accuracy, points": _points(effect),
            "why it stays": effect.droppable.reason,
        }
        for effect in found.effects
    ]
    print_table(alone, title=title)
    together = [
        {
            "blocks left": str(found.blocks - len(rung.dropped)),
            "dropped last": str(rung.dropped[-1]),
            "logits": _number(rung.logits),
            "accuracy, points": with_error(100 * rung.accuracy, 100 * rung.accuracy_error),
            "proposed": "<-" if set(rung.dropped) == set(found.dropped) else "",
        }
        for rung in found.rungs
    ]
    print_table(together, title="One after the other")
    console.print(f"proposal: drop {_listed(found.dropped)} of {found.blocks} blocks")
    change = with_error(100 * found.change, 100 * found.change_error)
    console.print(
        f"accuracy on {found.before.images} other images: {_percent(found.before)} before, "
        f"{_percent(found.after)} after; change {change} points"
    )
    console.print(f"written: {out}", markup=False, soft_wrap=True)


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _points(effect: BlockEffect) -> str:
    return with_error(100 * effect.accuracy, 100 * effect.accuracy_error) if math.isfinite(effect.accuracy) else "-"


def _percent(accuracy: Accuracy) -> str:
    between = "" if accuracy.error else f" (95 %: {100 * accuracy.low:.4g} to {100 * accuracy.high:.4g} %)"
    return f"{with_error(100 * accuracy.value, 100 * accuracy.error)} %{between}"


def _listed(blocks: tuple[int, ...]) -> str:
    return ", ".join(map(str, blocks)) if blocks else "none"
