"""The page of a readout: positions by depths, each cell what the lens predicts there; a click follows a position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import xarray as xr

from resdyn import _checks as checks
from resdyn._version import __version__
from resdyn.errors import InputError
from resdyn.report.page import script_json, write_page
from resdyn.report.theme import PALETTE

LENSES = {"lens": "Jacobian lens", "logit_lens": "Logit lens"}
KEPT = 10
PATHS = [PALETTE[k] for k in (0, 6, 4, 1, 3)]


def write_readout(
    ds: xr.Dataset,
    path: str | Path,
    *,
    sample: int = 0,
    inputs: Sequence[str] | None = None,
    words: Sequence[str] | Callable[[int], str] | None = None,
    title: str = "What the lens reads",
) -> Path:
    """Write a readout as one interactive page that works offline: a table of positions by depths.

    Each cell shows the first prediction; its colour says whether that is what the model predicts in the end, and how
    far down the list that is. Hover for scores, switch between lens and logit lens, click a position to follow it.
    Below the table are the paths of the model's first predictions: their scores from depth to depth, at the position
    that was clicked. For a classifier there is one column, and the paths are those of its classes.

    Args:
        ds: What `Transport.readout` returned.
        path: The file to write.
        sample: Which of its samples, from 0.
        inputs: What was read at each position, as text (default: the positions' numbers).
        words: Names of the tokens or classes, by number: a list, or a function such as a tokenizer's ``decode``
            (default: the numbers).
        title: Heading of the page.

    Returns:
        The path of the page.

    Raises:
        InputError: For what is not a readout, a sample that it does not hold, or `inputs` of another number.
    """
    if not isinstance(ds, xr.Dataset) or "lens_top" not in ds or "model_top" not in ds:
        raise InputError("got no readout; pass what Transport.readout returned")
    chosen = ds.isel(sample=checks.whole("sample", sample, 0, ds.sizes["sample"] - 1))
    positions = chosen.sizes.get("position", 1)
    if inputs is not None and len(inputs) != positions:
        raise InputError(f"got {len(inputs)} inputs, expected {positions}, one per position")
    content: dict[str, Any] = {
        "depths": [int(depth) for depth in chosen["depth"].values][::-1],
        "inputs": [str(text) for text in inputs] if inputs is not None else [str(p) for p in range(positions)],
        "lenses": {name: _cells(chosen, name)[::-1] for name in LENSES},
        "model": _cells(chosen, "model")[0],
        "places": positions,
    }
    content["words"] = _names(content, words)
    shown = {name: label for name, label in LENSES.items() if any(map(any, content["lenses"][name]))}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("resdyn.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("readout.html.jinja").render(
        title=checks.text("title", title),
        lenses=shown,
        labels=script_json(shown),
        content=script_json(content),
        colours=script_json(PATHS),
        places=positions,
        version=__version__,
    )
    return write_page(path, page)


def _cells(ds: xr.Dataset, name: str) -> list[list[list[Any]]]:
    """(depth, position) -> [[number, score], ...]; nothing where the lens says nothing."""
    top, score = (np.asarray(ds[f"{name}_{part}"].values)[..., :KEPT] for part in ("top", "score"))
    top, score = (values.reshape(-1, ds.sizes.get("position", 1), values.shape[-1]) for values in (top, score))
    return [
        [
            [[int(t), round(float(s), 3)] for t, s in zip(*cell, strict=True) if t >= 0]
            for cell in zip(*row, strict=True)
        ]
        for row in zip(top, score, strict=True)
    ]


def _names(content: dict[str, Any], words: Sequence[str] | Callable[[int], str] | None) -> dict[str, str]:
    """The name of every number on the page."""
    rows = [cell for lens in content["lenses"].values() for row in lens for cell in row] + content["model"]
    numbers = sorted({number for cell in rows for number, _ in cell})
    if words is None:
        return {str(number): str(number) for number in numbers}
    if callable(words):
        return {str(number): str(words(number)) for number in numbers}
    if numbers and numbers[-1] >= len(words):
        raise InputError(f"got {len(words)} words and the prediction {numbers[-1]}; pass the names of all of them")
    return {str(number): str(words[number]) for number in numbers}
