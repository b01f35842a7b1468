"""A number of the metrics table, and how one is made from values per sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from resdyn._statistics import standard_error
from resdyn.errors import InputError
from resdyn.metrics.rank import count_unconverged
from resdyn.metrics.share import share_interval

_LARGE = 1e150  # beyond, squares leave the dtype


@dataclass(frozen=True)
class Metric:
    """One number of a summary; `value` is None when it could not be measured, and `note` says why.

    Attributes:
        name: The metric.
        title: What it is.
        value: A mean is infinite where a value in it is; `note` counts these, and gives the median.
        standard_error: That of the mean over the `n` samples (NC4: of a share of `n` images); None where there is no
            spread over samples, or where it says nothing: of infinite means, of shares of 0 and 1.
        n: Over how many samples or images.
        where: The stage, depth or blocks that the number belongs to.
        reading: How to read it.
        source: Where it comes from.
        note: What a reader must know: what was left out, what chance gives.
        interval: 95 % of a share (Wilson's), else None.
        per_sample: What `value` is the mean of, one per sample in the order of the dataset (NaN where unknown); None
            for a number that no single sample has.
    """

    name: str
    title: str
    value: float | None
    standard_error: float | None
    n: int
    where: str | None
    reading: str
    source: str
    note: str = ""
    interval: tuple[float, float] | None = None
    per_sample: tuple[float, ...] | None = field(default=None, repr=False, compare=False)

    def as_row(self) -> dict[str, Any]:
        """The number as a row of `metrics_table`: plain, for JSON, without the values of single samples.

        Returns:
            name, title, value, standard_error, n, where, reading, source, note, interval.
        """
        return {
            "name": self.name,
            "title": self.title,
            "value": self.value,
            "standard_error": self.standard_error,
            "n": self.n,
            "where": self.where,
            "reading": self.reading,
            "source": self.source,
            "note": self.note,
            "interval": None if self.interval is None else list(self.interval),
        }


def over_samples(name: str, values: ArrayLike, where: str | None = None, *notes: str) -> Metric:
    """A row that is a mean over samples, with its standard error.

    Args:
        name: The metric; its title, reading and source are those of the phenomenon's `Summary`.
        values: One per sample, (samples,), NaN where unknown: these are left out, and counted in the note.
        where: The stage, depth or blocks that they belong to.
        *notes: What a reader must know; empty ones are left out.

    Returns:
        The row, with the values as its `per_sample`.

    Raises:
        InputError: Values of another shape.

    Example:
        >>> row = over_samples("step", [1.0, 2.0, 3.0])
        >>> row.value, round(row.standard_error, 3), row.n
        (2.0, 0.577, 3)
    """
    if np.ndim(values) != 1:
        raise InputError(f"{name}: got values of shape {np.shape(values)}, expected one per sample; average the others")
    mean, error, n = mean_of(values)
    missing = np.size(values) - n
    left_out = f"{missing} of {np.size(values)} samples without a finite value left out" if missing else ""
    single = "one sample: no standard error" if n == 1 else ""
    return with_samples(one_number(name, mean, error, n, where, *notes, _infinite(values), left_out, single), values)


def _infinite(values: ArrayLike) -> str:
    """How many values are infinite, and the median, which a few of them leave finite."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    count = int(np.isinf(known).sum())
    middle = float(np.quantile(known, 0.5, method="inverted_cdf")) if count else 0.0  # one of the values
    return f"{count} of {known.size} samples infinite, median {middle:.4g}" if count else ""


def with_interval(metric: Metric, n: int) -> Metric:
    """A share of `n` with its binomial standard error, where that says anything, and its interval."""
    if metric.value is None or not n:
        return metric
    low, high = share_interval(round(metric.value * n), n)
    error = (metric.value * (1 - metric.value) / n) ** 0.5 or None
    note = "; ".join(part for part in (metric.note, f"95 % interval {low:.2g} to {high:.2g} (Wilson)") if part)
    return replace(metric, standard_error=error, interval=(low, high), note=note)


def with_samples(metric: Metric, values: ArrayLike) -> Metric:
    """A row with what it is the mean of."""
    return replace(metric, per_sample=tuple(np.asarray(values, dtype=np.float64).tolist()))


def one_number(
    name: str, value: float, error: float | None = None, n: int = 0, where: str | None = None, *notes: str
) -> Metric:
    """A row of one number.

    Args:
        name: The metric; its title, reading and source are those of the phenomenon's `Summary`.
        value: NaN where it could not be measured.
        error: Its standard error, None where there is none.
        n: Over how many samples or images.
        where: The stage, depth or blocks that it belongs to.
        *notes: What a reader must know; empty ones are left out.

    Returns:
        The row; its `value` is None where `value` is NaN, and the note says so.

    Example:
        >>> one_number("rank", float("nan")).note
        'not measured'
    """
    note = "; ".join(note for note in (*notes, "not measured" if np.isnan(value) else "") if note)
    return Metric(name, "", _known(value), _known(error), n, where, "", "", note)


def mean_of(values: ArrayLike) -> tuple[float, float | None, int]:
    """Mean of the known values, its standard error (None below two values), their number.

    Infinite where some are, without an error; NaN where these are of both signs.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        return float("nan"), None, 0
    infinite = known[np.isinf(known)]
    if infinite.size:
        return float(infinite[0]) if len(set(infinite)) == 1 else float("nan"), None, known.size
    scale = 2.0 ** math.frexp(float(np.abs(known).max()))[1] if np.abs(known).max() > _LARGE else 1.0
    known = known / scale
    error = float(standard_error(known)) * scale if known.size > 1 else None
    return float(known.mean()) * scale, error, known.size


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def row_means(values: NDArray[Any]) -> list[float]:
    """The mean of what is known in each row."""
    return [mean_of(row)[0] for row in values]


def row_medians(values: NDArray[Any]) -> list[float]:
    """Median of what is known in each row; an infinite gap counts as the largest."""
    rows = [row[~np.isnan(row)] for row in values]
    return [float(np.median(row)) if row.size else float("nan") for row in rows]


def convergence_note(ds: xr.Dataset) -> str:
    """How many singular triplets were left out; empty where all converged."""
    failed = count_unconverged(ds)
    stored = int(np.isfinite(ds["singular_values"]).sum())
    return f"{failed} of {stored} singular triplets did not converge and were left out" if failed else ""
