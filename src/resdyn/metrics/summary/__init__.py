"""Every metric that the probes in a dataset allow, as one flat list of numbers with their errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import xarray as xr

from resdyn.metrics.summary.metric import UNDEFINED, Chance, Metric, chance_text, one_number, over_samples
from resdyn.metrics.summary.registry import Summary, descriptions, summary_of
from resdyn.phenomena import Phenomenon, phenomena_in

__all__ = [
    "Chance",
    "Metric",
    "Summary",
    "chance_text",
    "descriptions",
    "metrics_table",
    "one_number",
    "over_samples",
    "summarize",
]


def summarize(ds: xr.Dataset, *, rank: int | None = None) -> list[Metric]:
    """All metrics of the phenomena in a dataset: RA1-RA4, eigenvalues, noise, NC1-NC4, then those of registered probes.

    Numbers are averages over samples of values per sample (means over depths or pairs i != j, medians over blocks).
    Singular triplets that did not converge are left out, and counted in the note, and so are values that are undefined
    or infinite. Each says what it is by chance.

    Args:
        ds: A captured dataset, or any part of one.
        rank: Limits RA2 to the top triplets.

    Returns:
        One `Metric` per number; values are numbers, infinite ones too, or None. Nothing for absent probes.

    Raises:
        InputError: A rank beyond what is stored, or a plug-in that cannot be imported.
    """
    found: list[Metric] = []
    for phenomenon in phenomena_in(ds):
        summary = summary_of(phenomenon)
        if summary is not None:
            rows = list(summary.of(ds, rank=rank))
            undefined = any(row.missing for row in rows) and _holds_values(ds, phenomenon)
            found += _undefined(rows) if undefined else rows
    return found


def _holds_values(ds: xr.Dataset, phenomenon: Phenomenon) -> bool:
    """Whether anything was measured, so that a metric without a value is undefined."""
    return any(name in ds and bool(ds[name].notnull().any()) for name in phenomenon.variables)


def _undefined(rows: list[Metric]) -> list[Metric]:
    return [replace(row, missing=UNDEFINED) if row.missing else row for row in rows]


def metrics_table(ds: xr.Dataset, *, rank: int | None = None) -> list[dict[str, Any]]:
    """`summarize` as a list of dicts that json.dumps takes as they are; without the values of single samples.

    Args:
        ds: A captured dataset, or any part of one.
        rank: Limits RA2 to the top triplets.

    Returns:
        One dict per number with name, title, value, standard_error, n, where, reading, source, note, interval,
        chance (its two ends or None), chance_basis, missing.
    """
    return [metric.as_row() for metric in summarize(ds, rank=rank)]
