"""The page that compares runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn import _checks as checks
from resdyn import store as stores
from resdyn._format import short, with_error
from resdyn.errors import InputError, StoreError
from resdyn.progress import track
from resdyn.report.comparison import runs as comparison
from resdyn.report.comparison.outline import comparison_outline
from resdyn.report.comparison.runs import Run
from resdyn.report.page import figure_json, render, write_page
from resdyn.report.theme import shortened

ERRORS = " Means over samples with standard errors."


def write_comparison(
    runs: Sequence[xr.Dataset | str | Path], path: str | Path, titles: Sequence[str] | None = None
) -> Path:
    """Compare two or more runs on one self-contained HTML page.

    The page first says what keeps the runs from being comparable: other samples, another reading of the Jacobian. For
    two runs every number has their difference with its standard error beside it; sample by sample where both measured
    the same ones.

    Args:
        runs: Captured datasets or paths of stores: checkpoints of one network, seeds, architectures, tokens.
        path: The file to write.
        titles: Their names on the page (default: their models, else what distinguishes the stores' paths, else run 1,
            run 2, ...).

    Returns:
        The path of the page.

    Raises:
        InputError: Fewer than two runs, one that is not finished, equal titles, or a path that cannot be written.
        StoreError: A path that is not a store.
    """
    path = checks.new_file("path", path)
    return write_page(path, comparison_page(opened(runs, titles)))


def opened(runs: Sequence[xr.Dataset | str | Path], titles: Sequence[str] | None = None) -> list[Run]:
    """The runs of datasets or stores, with their titles."""
    checks.instance("runs", runs, list | tuple, "a list of captured datasets or paths of stores")
    for run in runs:
        if not isinstance(run, xr.Dataset | str | Path):
            raise InputError(f"got {type(run).__name__}, expected a captured dataset or the path of a store")
    paths = [_whole_path(run) for run in runs if not isinstance(run, xr.Dataset)]
    if len(set(paths)) < len(paths):
        raise InputError(f"got the same store twice: {[str(path) for path in paths]}")
    if titles is not None:
        titles = checks.words("titles", titles)
    datasets = [run if isinstance(run, xr.Dataset) else stores.open_store(run) for run in runs]
    if titles is None:
        titles = _models(datasets)
    if titles is None:
        titles = distinct(paths) if len(paths) == len(datasets) else [f"run {k + 1}" for k in range(len(datasets))]
    return comparison.runs_of(datasets, titles)


def _models(datasets: Sequence[xr.Dataset]) -> list[str] | None:
    """The names of the models, where these tell the runs apart."""
    names = [shortened(ds.attrs.get("model") or "", 60) for ds in datasets]
    return names if all(names) and len(set(names)) == len(names) else None


def _whole_path(run: str | Path) -> Path:
    path = checks.path("store", run)
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise StoreError(f"'{path}' cannot be followed: {error}") from error


def distinct(paths: Sequence[Path]) -> list[str]:
    """Names of paths that tell them apart: the last parts, as many as it takes."""
    parts = [path.with_suffix("").parts for path in paths]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            shared = {own[-1] for own in parts}
            alike = count > 1 and len(shared) == 1  # out/a/store, out/b/store: the folders tell
            return [name.rpartition("/")[0] for name in names] if alike else names
    return [str(path) for path in paths]


def _has_errors(drawn: go.Figure) -> bool:
    """Whether the lines are means over samples; those of a pass over the data are not."""
    return any(np.any(trace.error_y.array) for trace in drawn.data)


def comparison_page(runs: Sequence[Run]) -> str:
    """The HTML text of the comparison."""
    runs = _measured(runs)
    sections = []
    for heading, overlays in comparison_outline(runs):
        figures = [
            {
                "name": overlay.name,
                "title": overlay.title,
                "how": overlay.how + (ERRORS if _has_errors(drawn) else ""),
                "json": figure_json(drawn),
                "note": f"Not measured in: {', '.join(missing)}." if missing else "",
            }
            for overlay, drawn, missing in comparison.overlaid(runs, overlays)
        ]
        if figures:
            sections.append({**heading, "figures": figures})
    return render(
        "comparison.html.jinja",
        title=" and ".join(run.title for run in runs) if len(runs) == 2 else f"{len(runs)} runs side by side",
        warnings=comparison.comparability_warnings(runs),
        titles=[run.title for run in runs],
        settings=[_setting(row) for row in comparison.settings_table(runs)],
        sections=sections,
        metrics=[_metric(row) for row in comparison.metrics_comparison(runs)],
        two=len(runs) == 2,
    )


def _measured(runs: Sequence[Run]) -> list[Run]:
    """The runs with their metrics computed, under a progress bar."""
    for run in track(list(runs), "computing the metrics"):
        run.metrics  # noqa: B018
    return list(runs)


def _setting(row: dict[str, Any]) -> dict[str, Any]:
    name = row["name"].replace("_", " ")
    return {"name": name, "differs": row["differs"], "cells": [_words(row["name"], value) for value in row["values"]]}


def _words(name: str, value: Any) -> str:
    if name.startswith("probe "):
        return "not measured" if value is None else ", ".join(f"{k} = {v}" for k, v in value.items()) or "measured"
    if value is None:
        return "whole state" if name == "position" else ""
    if name == "weights_hash":
        return str(value)[:12]
    if name == "samples" and isinstance(value, list):
        return f"{len(value)}: {shortened(', '.join(map(str, value)), 48)}"
    return str(value)


def _metric(row: dict[str, Any]) -> dict[str, Any]:
    cells = []
    for value in row["values"]:
        if value is None or value["value"] is None:
            cells.append({"text": comparison.value_text(value), "detail": value["note"] if value else ""})
        else:
            count = f"n = {short(value['n'])}" if value["n"] else ""
            detail = ", ".join(part for part in (count, value["where"] or "", value["note"] or "") if part)
            cells.append({"text": comparison.value_text(value), "detail": detail})
    difference: float | None = row.get("difference")
    error: float | None = row.get("difference_error")
    text = "" if difference is None else with_error(difference, error)
    significant = difference is not None and error is not None and 0 < 2 * error < abs(difference)
    return {
        "title": row["title"],
        "reading": row["reading"],
        "cells": cells,
        "chance": comparison.chances_text(row),
        "difference": text,
        "significant": significant,
        "paired": bool(row.get("paired")),
    }
