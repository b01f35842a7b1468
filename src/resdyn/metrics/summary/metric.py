"""A number of the metrics table, and how one is made from values per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from resdyn._format import short
from resdyn._statistics import standard_error
from resdyn.errors import InputError
from resdyn.metrics.rank import count_unconverged
from resdyn.metrics.share import share_interval

_LARGE = 1e150  # beyond, squares leave the dtype
NOT_MEASURED, UNDEFINED = "not measured", "undefined"


@dataclass(frozen=True)
class Chance:
    """What a metric is where nothing is to be found: from `low` to `high`, or no such value.

    Attributes:
        basis: By which formula and of whom, or why there is no such value.
        low: None where there is none.
        high: The other end where it depends on the place, else the same.

    Example:
        >>> str(Chance("1/K", 0.1)), str(Chance("K/d", 0.05, 0.1)), str(Chance("set by the units"))
        ('0.1', '0.05 to 0.1', '')
    """

    basis: str
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """(low, high), or None where there is no value by chance."""
        if self.low is None:
            return None
        ends = self.low, self.low if self.high is None else self.high
        return ends if all(map(math.isfinite, ends)) else None

    def __str__(self) -> str:
        return chance_text(self.ends)


def chance_text(ends: Sequence[float] | None) -> str:
    """The value by chance to three digits, or its range; empty where there is none.

    Args:
        ends: (low, high), as in a row of `metrics_table`.

    Returns:
        Text such as "0.1" or "0.05 to 0.1".
    """
    if ends is None:
        return ""
    low, high = (short(float(f"{end:.3g}")) for end in ends)
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Metric:
    """One number of a summary; `value` is None where there is none, and `note` says why.

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
        chance: What it is by chance, and by which formula.
        missing: Where `value` is None: "not measured", or "undefined" of what was measured.
        per_sample: What `value` is the mean of, one per sample in the order of the dataset (NaN where unknown); None
            for a number that no single sample has.
        groups: How many independent values the error comes from where these are not the `n`.
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
    chance: Chance | None = None
    missing: str = ""
    per_sample: tuple[float, ...] | None = field(default=None, repr=False, compare=False)
    groups: int | None = field(default=None, repr=False, compare=False)

    def as_row(self) -> dict[str, Any]:
        """The number as a row of `metrics_table`: plain, for JSON, without the values of single samples.

        Returns:
            name, title, value, standard_error, n, where, reading, source, note, interval, chance (its two ends or
            None), chance_basis, missing.
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
            "chance": None if self.chance is None or self.chance.ends is None else list(self.chance.ends),
            "chance_basis": "" if self.chance is None else self.chance.basis,
            "missing": self.missing,
        }


def over_samples(
    name: str, values: ArrayLike, where: str | None = None, *notes: str, chance: Chance | None = None
) -> Metric:
    """A row that is a mean over samples, with its standard error.

    Args:
        name: The metric; its title, reading and source are those of the phenomenon's `Summary`.
        values: One per sample, (samples,), NaN where unknown: these are left out, and counted in the note.
        where: The stage, depth or blocks that they belong to.
        *notes: What a reader must know; empty ones are left out.
        chance: What it is by chance.

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
    found = one_number(name, mean, error, n, where, *notes, _infinite(values), left_out, single, chance=chance)
    return with_samples(found, values)


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


def with_groups(metric: Metric, groups: int) -> Metric:
    """A row whose error comes from some groups of its `n` observations."""
    return replace(metric, groups=groups)


def with_samples(metric: Metric, values: ArrayLike) -> Metric:
    """A row with what it is the mean of."""
    return replace(metric, per_sample=tuple(np.asarray(values, dtype=np.float64).tolist()))


def one_number(
    name: str,
    value: float,
    error: float | None = None,
    n: int = 0,
    where: str | None = None,
    *notes: str,
    chance: Chance | None = None,
) -> Metric:
    """A row of one number.

    Args:
        name: The metric; its title, reading and source are those of the phenomenon's `Summary`.
        value: NaN where it could not be measured.
        error: Its standard error, None where there is none.
        n: Over how many samples or images.
        where: The stage, depth or blocks that it belongs to.
        *notes: What a reader must know; empty ones are left out.
        chance: What it is by chance.

    Returns:
        The row; where `value` is NaN its own is None, and `missing` says so.

    Example:
        >>> one_number("rank", float("nan")).missing
        'not measured'
    """
    missing = NOT_MEASURED if np.isnan(value) else ""
    note = "; ".join(note for note in notes if note)
    return Metric(name, "", _known(value), _known(error), n, where, "", "", note, chance=chance, missing=missing)


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
    table = np.ascontiguousarray(values, dtype=np.float64)
    if table.size and np.isfinite(table).all() and np.abs(table).max() <= _LARGE:
        means: list[float] = table.mean(1).tolist()
        return means
    return [mean_of(row)[0] for row in table]


def row_medians(values: NDArray[Any]) -> list[float]:
    """Median of what is known in each row; an infinite gap counts as the largest."""
    if values.size and not np.isnan(values).any():
        medians: list[float] = np.median(values, axis=1).tolist()
        return medians
    rows = [row[~np.isnan(row)] for row in values]
    return [float(np.median(row)) if row.size else float("nan") for row in rows]


def convergence_note(ds: xr.Dataset) -> str:
    """How many singular triplets were left out; empty where all converged."""
    failed = count_unconverged(ds)
    stored = int(np.isfinite(ds["singular_values"]).sum())
    return f"{failed} of {stored} singular triplets did not converge and were left out" if failed else ""
