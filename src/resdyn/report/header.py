"""The head of the page: what was measured, on what, and the numbers in short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from resdyn._format import counted, percent, short, with_error
from resdyn.metrics.share import share_interval
from resdyn.report.sections.build import outline
from resdyn.report.sections.section import Section
from resdyn.report.sentences import Rows, by_chance, quantity, readable
from resdyn.report.view import has, labels, mean_and_error, num_classes


@dataclass(frozen=True)
class Tile:
    """One headline number."""

    value: str
    title: str
    detail: str
    anchor: str


def tiles(metrics: Rows, sections: Sequence[Section]) -> list[Tile]:
    """Headline numbers; of a metric that was taken in several places, the deepest one."""
    found = []
    for section in sections:
        for name, title in section.tiles:
            rows = [row for row in metrics if row["name"] == name and row["value"] is not None]
            if rows:
                found.append(_tile(rows[-1], title, section.anchor))
    return found


def _tile(row: dict[str, Any], title: str, anchor: str) -> Tile:
    value, _, error = quantity(row).partition(" ± ")
    value, _, interval = value.partition(" (")
    count = f"n = {short(row['n'])}" if row["n"] else ""
    infinite = row["note"] if not math.isfinite(row["value"]) else ""
    chance = by_chance(row)
    known = f"{chance} by chance" if chance else ""
    detail = [f"± {error}" if error else "", interval.rstrip(")"), known, count, readable(row["where"]), infinite]
    return Tile(value, title, ", ".join(part for part in detail if part), anchor)


def lead(ds: xr.Dataset) -> str:
    """One sentence on what this page measures."""
    if not ds.attrs.get("probes"):
        own = [section.lead for _, section, present in outline(ds) if present and section.lead is not None]
        if own:
            return own[0](ds)
    blocks = ds.sizes.get("block") or max(ds.sizes.get("depth", 1) - 1, 0)
    through = "the one residual block" if blocks == 1 else f"the {blocks} residual blocks"
    split = f"the {ds.attrs['split']} split of " if ds.attrs.get("split") else ""
    data, model = ds.attrs.get("data", "the data"), ds.attrs.get("model", "the model")
    position = ds.attrs.get("position")
    at = "" if position is None else f" at token {position}"
    jacobians = "what the Jacobian of each block does to them"
    classes = f", {jacobians}, and how the classes separate" if "class_count" in ds else f" and {jacobians}"
    return f"{_samples(ds)} {split}{data}, followed through {through} of {model}{at}: where the states travel{classes}."


def facts(ds: xr.Dataset) -> list[tuple[str, str]]:
    """Name and value of what a reader looks for first; only what the dataset knows."""
    known = [
        ("Model", ds.attrs.get("model")),
        ("Data", _data(ds)),
        ("Samples", _count(ds)),
        ("Accuracy on these samples", _accuracy(ds)),
        ("Mean loss", _loss(ds)),
        ("Classes", num_classes(ds)),
        ("Jacobian", jacobian_kinds(ds)),
        ("In the blocks", _coverage(ds)),
        ("Token", ds.attrs.get("position")),
        ("Blocks are", {"layer": "layers"}.get(ds.attrs.get("granularity", ""))),
        ("Triplets per block", ds.sizes.get("rank")),
        ("Images in class means", _images(ds)),
        ("Precision", ds.attrs.get("dtype")),
    ]
    return [(name, str(value)) for name, value in known if value is not None]


def _coverage(ds: xr.Dataset) -> str | None:
    """What share of the model the blocks hold; older stores do not say."""
    inside = ds.attrs.get("coverage")
    if not isinstance(inside, dict):
        return None
    return f"{percent(inside['parameters'])} of the parameters, {percent(inside['operations'])} of the operations"


def jacobian_kinds(ds: xr.Dataset) -> str | None:
    """Which reading of the Jacobian the arrays have: each one says so itself, in older stores only the capture does."""
    by_kind: dict[str, list[str]] = {}
    for array in ds.data_vars.values():
        if kind := array.attrs.get("kind"):
            by_kind.setdefault(str(kind), []).append(str(array.attrs.get("probe", array.name)))
    if not by_kind:
        return ds.attrs.get("kind")
    if len(by_kind) == 1:
        return next(iter(by_kind))
    return "; ".join(f"{kind} ({', '.join(dict.fromkeys(probes))})" for kind, probes in by_kind.items())


def _data(ds: xr.Dataset) -> str | None:
    data, split = ds.attrs.get("data"), ds.attrs.get("split")
    return f"{data}, {split}" if data and split else data


def _images(ds: xr.Dataset) -> str | None:
    """Number of images of the features probe; a store that is not complete may hold none yet."""
    count = int(ds["num_images"]) if "num_images" in ds else 0
    return short(count) if count > 0 else None


def _samples(ds: xr.Dataset) -> str:
    count = ds.sizes.get("sample")
    if count is None:
        return "Images of"
    return "One sample of" if count == 1 else f"{count} samples of"


def _count(ds: xr.Dataset) -> str | None:
    """How many samples the dataset holds, or is a mean of."""
    count = ds.sizes.get("sample", ds.attrs.get("num_samples"))
    return None if count is None else short(count)


def _accuracy(ds: xr.Dataset) -> str | None:
    truth = labels(ds) if "label" in ds.coords else None
    if truth is None or "prediction" not in ds:
        return None
    predicted = ds["prediction"].values
    known = (predicted >= 0) & (truth >= 0)
    if not known.any():
        return None
    right, n = int((predicted == truth)[known].sum()), int(known.sum())
    share = right / n
    return counted(percent(share, np.sqrt(share * (1 - share) / n), share_interval(right, n)), n)


def _loss(ds: xr.Dataset) -> str | None:
    if not has(ds, "loss"):
        return None
    mean, error, n = mean_and_error(ds["loss"].values.astype(np.float64))
    return f"{with_error(float(mean), float(error))} (n = {int(n)})"
