"""Several runs side by side: what differs in how they were made, their numbers, and their quantities over depth."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from ..errors import InputError
from ..metrics.summary import metrics_table
from .figures.profile import MEAN_HOVER, whole_ticks
from .overlays import OVERLAYS, Overlay, Values
from .theme import MARKERS, PALETTE, SYMBOLS, figure, plain
from .view import mean_and_error

PAIRED_SAMPLES = 64  # metrics are computed anew for each sample: beyond this many it would take long
SETTINGS = (
    "model",
    "weights_hash",
    "data",
    "split",
    "samples",
    "kind",
    "position",
    "granularity",
    "dtype",
    "seed",
    "feature_samples",
)
TRAPS = {
    "data_hash": "The runs were measured on different samples: what differs between them is also the data.",
    "kind": "The runs read a block's Jacobian differently (kind): singular values and couplings are not of one thing.",
    "position": "The runs were measured at different tokens.",
    "granularity": "A block is a residual sum in one run and a whole layer in another.",
    "dtype": "The runs were measured in different precision.",
}
Key = tuple[str, int]  # a metric and the how-manieth of its places


@dataclass(frozen=True)
class Run:
    """One captured dataset under the name that it has on the page."""

    title: str
    ds: xr.Dataset

    @cached_property
    def metrics(self) -> dict[Key, dict[str, Any]]:
        """Its summary by metric and place; places are matched by their order, since depths may differ."""
        return _keyed(metrics_table(self.ds))

    @cached_property
    def by_sample(self) -> dict[Key, list[float | None]]:
        """Each metric of every sample by itself."""
        found: dict[Key, list[float | None]] = defaultdict(list)
        for s in range(self.ds.sizes["sample"]):
            for key, row in _keyed(metrics_table(self.ds.isel(sample=[s]))).items():
                found[key].append(row["value"])
        return found


def runs_of(datasets: Sequence[xr.Dataset], titles: Sequence[str]) -> list[Run]:
    """The runs of a comparison, checked."""
    if len(datasets) < 2:
        raise InputError(f"got {len(datasets)} run to compare, expected at least two")
    if len(titles) != len(datasets) or len(set(titles)) != len(titles):
        raise InputError(f"got titles {list(titles)} for {len(datasets)} runs, expected as many, all different")
    for title, ds in zip(titles, datasets, strict=True):
        if not isinstance(ds, xr.Dataset):
            raise InputError(f"got {type(ds).__name__} for run '{title}', expected what resdyn.open(store) returns")
        if not ds.attrs.get("complete", True):
            left = ds.attrs.get("tasks_remaining", "some")
            raise InputError(f"run '{title}' is not finished: {left} tasks are left; the same capture goes on with it")
    return [Run(title, ds) for title, ds in zip(titles, datasets, strict=True)]


def settings_table(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """How the runs were made, one row a setting: `values` by run, and whether they differ."""
    rows: list[dict[str, Any]] = [{"name": "blocks", "values": [run.ds.sizes.get("block") for run in runs]}]
    for name in SETTINGS:
        values = [run.ds.attrs.get(name) for run in runs]
        if any(value is not None for value in values):
            rows.append({"name": name, "values": values})
    rows += [{"name": f"probe {name}", "values": values} for name, values in _probes(runs).items()]
    return [row | {"differs": any(value != row["values"][0] for value in row["values"])} for row in rows]


def traps(runs: Sequence[Run]) -> list[str]:
    """What keeps the runs' numbers from being comparable."""
    found = [note for name, note in TRAPS.items() if len({repr(run.ds.attrs.get(name)) for run in runs}) > 1]
    for name, values in _probes(runs).items():
        settings = {repr(value) for value in values if value is not None}
        if len(settings) > 1:
            found.append(f"The probe {name} had different settings, so that its numbers may not be of one thing.")
    return found


def _probes(runs: Sequence[Run]) -> dict[str, list[dict[str, Any] | None]]:
    """The settings of each probe by run; None where a run was captured without it."""
    names = dict.fromkeys(name for run in runs for name in run.ds.attrs.get("probes") or {})
    return {name: [(run.ds.attrs.get("probes") or {}).get(name) for run in runs] for name in names}


def metrics_comparison(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a metric and place, JSON-able: `values` by run, and for two runs `difference` (second less first).

    `difference_error` is the standard error of the mean of the differences sample by sample (`paired`) where both
    runs measured the same samples and the metric is a mean over them; else the root of the sum of the squared
    standard errors, None where one is not known.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.metrics))
    rows = []
    for key in keys:
        found = [run.metrics.get(key) for run in runs]
        known = next(row for row in found if row is not None)
        values = [
            None if row is None else {name: row[name] for name in ("value", "standard_error", "n", "where")}
            for row in found
        ]
        row = {"name": key[0], "title": known["title"], "reading": known["reading"], "values": values}
        rows.append(row | (_difference(runs, key) if len(runs) == 2 else {}))
    return rows


def pictures(runs: Sequence[Run]) -> list[tuple[Overlay, go.Figure, list[str]]]:
    """(what, picture, titles of the runs that lack it) of each quantity that any run has."""
    drawn = []
    for overlay in OVERLAYS:
        lines = [overlay.values(run.ds) for run in runs]
        known = [
            (run, number, line) for number, (run, line) in enumerate(zip(runs, lines, strict=True)) if line is not None
        ]
        if known:
            missing = [run.title for run, line in zip(runs, lines, strict=True) if line is None]
            drawn.append((overlay, _draw(overlay, known), missing))
    return drawn


def _keyed(rows: list[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    seen: dict[str, int] = defaultdict(int)
    keyed = {}
    for row in rows:
        keyed[row["name"], seen[row["name"]]] = row
        seen[row["name"]] += 1
    return keyed


def _difference(runs: Sequence[Run], key: Key) -> dict[str, Any]:
    first, second = (run.metrics.get(key) for run in runs)
    if not first or not second or first["value"] is None or second["value"] is None:
        return {"difference": None, "difference_error": None, "paired": False}
    difference = second["value"] - first["value"]
    paired = _paired_error(runs, key, first, second)
    if paired is not None:
        return {"difference": difference, "difference_error": paired, "paired": True}
    errors = [row["standard_error"] for row in (first, second)]
    error = None if None in errors else math.hypot(*errors)
    return {"difference": difference, "difference_error": error, "paired": False}


def _paired_error(runs: Sequence[Run], key: Key, *rows: dict[str, Any]) -> float | None:
    """The standard error over samples of the difference, where the metric is the mean of its values by sample."""
    if not _same_samples(runs) or any(row["n"] != run.ds.sizes["sample"] for row, run in zip(rows, runs, strict=True)):
        return None
    values = [np.array(run.by_sample[key], dtype=np.float64) for run in runs]
    means_hold = all(
        np.isfinite(value).all() and math.isclose(value.mean(), row["value"], rel_tol=1e-6, abs_tol=1e-12)
        for value, row in zip(values, rows, strict=True)
    )
    return float((values[1] - values[0]).std(ddof=1) / len(values[0]) ** 0.5) if means_hold else None


def _same_samples(runs: Sequence[Run]) -> bool:
    if any("sample" not in run.ds.coords or not 2 <= run.ds.sizes["sample"] <= PAIRED_SAMPLES for run in runs):
        return False
    first, *others = (run.ds for run in runs)
    return all(
        ds.attrs.get("data_hash") == first.attrs.get("data_hash") and np.array_equal(ds["sample"], first["sample"])
        for ds in others
    )


def _draw(overlay: Overlay, known: list[tuple[Run, int, Values]]) -> go.Figure:
    """Means with standard errors, a line a run; over relative depth where the runs are not equally deep."""
    together = len({tuple(x) for _, _, (x, _) in known}) == 1
    traces = []
    for run, number, (x, values) in known:
        mean, error, n = mean_and_error(values)
        traces.append(
            go.Scatter(
                x=x if together else np.round(x / max(x[-1], 1), 4),
                y=mean,
                error_y={"type": "data", "array": np.nan_to_num(error), "thickness": 1.2, "width": 3},
                customdata=np.stack([error, n], axis=-1),
                mode="lines+markers",
                name=plain(run.title),
                line={"color": PALETTE[number % len(PALETTE)], "width": 2},
                marker={"size": 7, "symbol": SYMBOLS[number % len(MARKERS)]},
                hovertemplate=f"%{{x}}: {MEAN_HOVER.removesuffix('<extra></extra>')}<extra>{plain(run.title)}</extra>",
            )
        )
    drawn = figure(traces, height=380, showlegend=True)
    if together:
        drawn.update_xaxes(title_text=f"{overlay.x_title}, counted from 0", **whole_ticks(known[0][2][0]))
    else:
        drawn.update_xaxes(title_text=f"{overlay.x_title}, relative (the runs are not equally deep)")
    return drawn.update_yaxes(
        title_text=overlay.y_title, **({"type": "log"} if overlay.log else {"rangemode": "tozero"})
    )
