"""Every metric that the probes in a dataset allow, as one flat list of numbers with their errors."""

from __future__ import annotations

from typing import Any

import xarray as xr

from resdyn.metrics.summary.metric import Metric, one_number, over_samples
from resdyn.metrics.summary.registry import Summary, descriptions, summary_of
from resdyn.phenomena import phenomena_in

__all__ = ["Metric", "Summary", "descriptions", "metrics_table", "one_number", "over_samples", "summarize"]


def summarize(ds: xr.Dataset, *, rank: int | None = None) -> list[Metric]:
    """All metrics of the phenomena in a dataset: RA1-RA4, eigenvalues, noise, NC1-NC4, then those of registered probes.

    Numbers are averages over samples of values per sample (means over depths or pairs i != j, medians over blocks).
    Singular triplets that did not converge are left out, and counted in the note, and so are values that are undefined
    or infinite.

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
            found += summary.of(ds, rank=rank)
    return found


def metrics_table(ds: xr.Dataset, *, rank: int | None = None) -> list[dict[str, Any]]:
    """`summarize` as a list of dicts that json.dumps takes as they are; without the values of single samples.

    Args:
        ds: A captured dataset, or any part of one.
        rank: Limits RA2 to the top triplets.

    Returns:
        One dict per number with name, title, value, standard_error, n, where, reading, source, note, interval.
    """
    return [metric.as_row() for metric in summarize(ds, rank=rank)]
