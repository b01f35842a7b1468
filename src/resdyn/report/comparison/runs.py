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

from resdyn._format import with_error
from resdyn._statistics import standard_error
from resdyn.errors import InputError
from resdyn.metrics.summary import Metric, chance_text, summarize
from resdyn.report.comparison.overlay import Overlay, Values
from resdyn.report.figures.profile import MEAN_HOVER, whole_ticks
from resdyn.report.theme import MARKERS, PALETTE, SYMBOLS, figure, log_ticks, plain
from resdyn.report.view import mean_and_error

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
WARNINGS = {
    "data_hash": "The runs were measured on different samples: what differs between them is also the data.",
    "kind": "The runs read a block's Jacobian differently (kind): singular values and couplings cannot be compared.",
    "position": "The runs were measured at different tokens.",
    "granularity": "A block is a residual sum in one run and a whole layer in another.",
    "dtype": "The runs were measured in different precision.",
}
Key = tuple[str, int]  # a metric and the ordinal of its places


@dataclass(frozen=True)
class Run:
    """One captured dataset under the name that it has on the page."""

    title: str
    ds: xr.Dataset

    @cached_property
    def metrics(self) -> dict[Key, Metric]:
        """Its summary by metric and place; places are matched by their order, since depths may differ."""
        seen: dict[str, int] = defaultdict(int)
        keyed = {}
        for metric in summarize(self.ds):
            keyed[metric.name, seen[metric.name]] = metric
            seen[metric.name] += 1
        return keyed


def runs_of(datasets: Sequence[xr.Dataset], titles: Sequence[str]) -> list[Run]:
    """The runs of a comparison, checked."""
    if len(datasets) < 2:
        raise InputError(f"got {len(datasets)} run to compare, expected at least two")
    if len(titles) != len(datasets) or len(set(titles)) != len(titles):
        raise InputError(f"got titles {list(titles)} for {len(datasets)} runs, expected one per run, all different")
    for title, ds in zip(titles, datasets, strict=True):
        if not isinstance(ds, xr.Dataset):
            raise InputError(
                f"got {type(ds).__name__} for run '{title}', expected what resdyn.open_store(store) returns"
            )
        if not ds.attrs.get("complete", True):
            left = ds.attrs.get("tasks_remaining", "some")
            raise InputError(f"run '{title}' is not finished: {left} tasks are left; the same capture resumes it")
    return [Run(title, ds) for title, ds in zip(titles, datasets, strict=True)]


def settings_table(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """How the runs were made, one row per setting: `values` by run, and whether they differ."""
    rows: list[dict[str, Any]] = [{"name": "blocks", "values": [run.ds.sizes.get("block") for run in runs]}]
    for name in SETTINGS:
        values = [run.ds.attrs.get(name) for run in runs]
        if any(value not in (None, "") for value in values):
            rows.append({"name": name, "values": values})
    rows += [{"name": f"probe {name}", "values": values} for name, values in _probes(runs).items()]
    return [row | {"differs": any(value != row["values"][0] for value in row["values"])} for row in rows]


def comparability_warnings(runs: Sequence[Run]) -> list[str]:
    """What keeps the runs' numbers from being comparable."""
    found = [note for name, note in WARNINGS.items() if len({repr(run.ds.attrs.get(name)) for run in runs}) > 1]
    if len({repr(_shapes(run)) for run in runs}) > 1:
        found.append(
            "The streams are not alike: places are matched by their order, chance differs with depth and width, and a "
            "difference is shown only where both numbers are of the same place."
        )
    for name, values in _probes(runs).items():
        settings = {repr(value) for value in values if value is not None}
        if len(settings) > 1:
            found.append(f"The probe {name} had different settings, so that its numbers may not be comparable.")
    return found


def _shapes(run: Run) -> list[Any]:
    """Shapes of the states that the blocks lead between."""
    return [(block["shape_in"], block["shape_out"]) for block in run.ds.attrs.get("stream") or []]


def _probes(runs: Sequence[Run]) -> dict[str, list[dict[str, Any] | None]]:
    """The settings of each probe by run; None where a run was captured without it."""
    names = dict.fromkeys(name for run in runs for name in run.ds.attrs.get("probes") or {})
    return {name: [(run.ds.attrs.get("probes") or {}).get(name) for run in runs] for name in names}


def metrics_comparison(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row per metric and place, JSON-able: `values` by run, and for two runs `difference` (second less first).

    `difference_error` is the standard error of the mean of the differences sample by sample (`paired`) where both
    runs measured the same samples and the metric is a mean over them; else the root of the sum of the squared
    standard errors, None where one is not known. There is no difference of numbers from different places.
    """
    rows = []
    for key in dict.fromkeys(key for run in runs for key in run.metrics):
        found = [run.metrics.get(key) for run in runs]
        known = next(metric for metric in found if metric is not None)
        row = {"name": key[0], "title": known.title, "reading": known.reading, "values": [_value(m) for m in found]}
        rows.append(row | (_difference(runs, *found) if len(runs) == 2 else {}))
    return rows


def overlaid(runs: Sequence[Run], overlays: Sequence[Overlay]) -> list[tuple[Overlay, go.Figure, list[str]]]:
    """(what, figure, titles of the runs that lack it) of each quantity that any run has."""
    drawn = []
    for overlay in overlays:
        lines = [overlay.values(run.ds) for run in runs]
        known = [
            (run, number, line) for number, (run, line) in enumerate(zip(runs, lines, strict=True)) if line is not None
        ]
        if known:
            missing = [run.title for run, line in zip(runs, lines, strict=True) if line is None]
            drawn.append((overlay, _draw(overlay, known), missing))
    return drawn


def _value(metric: Metric | None) -> dict[str, Any] | None:
    if metric is None:
        return None
    row = metric.as_row()
    kept = ("value", "standard_error", "interval", "n", "where", "note", "chance", "chance_basis", "missing")
    return {name: row[name] for name in kept}


def value_text(value: dict[str, Any] | None) -> str:
    """A run's number as a person reads it, or why it has none."""
    if value is None:
        return "not measured"
    return value["missing"] if value["value"] is None else with_error(value["value"], value["standard_error"])


def chances_text(row: dict[str, Any]) -> str:
    """What a metric is by chance, by run where these differ."""
    known = [chance_text(value["chance"]) for value in row["values"] if value is not None]
    return " / ".join(dict.fromkeys(filter(None, known)))


def _difference(runs: Sequence[Run], first: Metric | None, second: Metric | None) -> dict[str, Any]:
    if not first or not second or first.value is None or second.value is None or first.where != second.where:
        return {"difference": None, "difference_error": None, "paired": False}
    if not math.isfinite(first.value) or not math.isfinite(second.value):
        return {"difference": None, "difference_error": None, "paired": False}
    difference, paired = second.value - first.value, _paired_error(runs, first, second)
    if paired is not None:
        return {"difference": difference, "difference_error": paired, "paired": True}
    errors = (first.standard_error, second.standard_error)
    error = None if None in errors else math.hypot(*errors)  # type: ignore[arg-type]
    return {"difference": difference, "difference_error": error, "paired": False}


def _paired_error(runs: Sequence[Run], first: Metric, second: Metric) -> float | None:
    """The standard error over samples of the difference, where both values are means over the same samples."""
    if first.per_sample is None or second.per_sample is None or not _same_samples(runs):
        return None
    each = np.array(second.per_sample) - np.array(first.per_sample)
    same = bool(np.isfinite(each).all()) and math.isclose(each.mean(), second.value - first.value, abs_tol=1e-9)  # type: ignore[operator]
    return float(standard_error(each)) if same else None


def _same_samples(runs: Sequence[Run]) -> bool:
    if any("sample" not in run.ds.coords or run.ds.sizes["sample"] < 2 for run in runs):
        return False
    first, *others = (run.ds for run in runs)
    return all(
        ds.attrs.get("data_hash") == first.attrs.get("data_hash") and np.array_equal(ds["sample"], first["sample"])
        for ds in others
    )


def _draw(overlay: Overlay, known: list[tuple[Run, int, Values]]) -> go.Figure:
    """Means with standard errors, a line per run; over relative depth where the runs are not equally deep."""
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
    shown = np.concatenate([np.asarray(trace.y, dtype=float) for trace in traces])
    drawn = figure(traces, height=380, showlegend=True)
    if together:
        drawn.update_xaxes(title_text=f"{overlay.x_title}, counted from 0", **whole_ticks(known[0][2][0]))
    else:
        drawn.update_xaxes(title_text=f"{overlay.x_title}, relative (the runs are not equally deep)")
    return drawn.update_yaxes(
        title_text=overlay.y_title, **(log_ticks(shown) if overlay.log else {"rangemode": "tozero"})
    )
