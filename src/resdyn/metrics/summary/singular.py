"""RA3 and RA4 in the metrics table: the rank of the Jacobians, and how their norms fall over depth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from resdyn.errors import InputError
from resdyn.metrics.rank import singular_rank
from resdyn.metrics.scaling import inverse_scaling, jackknife_errors
from resdyn.metrics.summary.metric import (
    Metric,
    convergence_note,
    mean_of,
    one_number,
    over_samples,
    row_medians,
    with_samples,
)
from resdyn.metrics.summary.registry import Summary

LI = "Li and Papyan (2023)"
TEXTS = {
    "singular_gap": ("RA3 gap s_C / s_(C+1)", "well above 1 when the rank is at most C", LI),
    "gap_rank": ("RA3 singular values before the largest gap", "at most C under RA3", LI),
    "numerical_rank": ("RA3 singular values above rounding", "at most the number of triplets stored", LI),
    "inverse_scaling_slope": ("RA4 slope of 1/s_1 against block number", "1 when s_1 = 1/i", LI),
    "inverse_scaling_intercept": ("RA4 intercept of that line", "0 when s_1 = 1/i", LI),
    "inverse_scaling_r_squared": ("RA4 R^2 of that line, adjusted", "1 when 1/s_1 grows linearly, 0 by chance", LI),
    "inverse_scaling_start": ("RA4 block where alignment begins", "1-based, chosen by BIC", LI),
}


def _rank(ds: xr.Dataset) -> Iterator[Metric]:
    measured = singular_rank(ds)
    convergence, stored = convergence_note(ds), measured.attrs["num_values"]
    num_classes = measured.attrs["num_classes"]
    short = f": needs {num_classes + 1} triplets, {stored} are stored" if stored <= num_classes else ""
    notes = {
        "singular_gap": f"C = {num_classes}{short}",
        "gap_rank": f"of {stored} triplets",
        "numerical_rank": f"of {stored} triplets: {stored} means at least {stored}",
    }
    for name, note in notes.items():
        if name in measured:
            values = row_medians(measured[name].transpose("sample", "block").values)
            yield over_samples(name, values, "median over blocks", note, convergence)


def _scaling(ds: xr.Dataset) -> Iterator[Metric]:
    convergence = convergence_note(ds)
    try:
        fit, lines = inverse_scaling(ds)
    except InputError as error:
        yield one_number("inverse_scaling_slope", np.nan, None, 0, None, str(error), convergence)
        return
    where = f"blocks {fit.start}-{int(ds['block'].values[-1]) + 1} (1-based)"
    trend = f"p = {fit.p_value:.2g} for no trend, the choice of the start repeated"
    for name, spread in zip(("slope", "intercept"), jackknife_errors(ds), strict=True):
        own_lines = [getattr(line, name) for line in lines]
        n = mean_of(own_lines)[2]
        regression = f"standard error of the regression {getattr(fit, f'{name}_error'):.2g}"
        said = trend if name == "slope" else ""
        common = one_number(
            f"inverse_scaling_{name}", getattr(fit, name), spread, n, where, regression, said, convergence
        )
        yield with_samples(common, own_lines)
    own = mean_of([line.r_squared for line in lines])[0]
    own_note = f"mean R^2 of the samples' own lines {own:.3g}" if np.isfinite(own) else ""
    plain = f"R^2 of these {fit.num_points} points {fit.r_squared:.3g}, 0 is what chance gives on average"
    chance = f"one in twenty rows without a trend exceeds R^2 = {fit.r_squared_by_chance:.2g}"
    said = f"{plain}; {chance}"
    yield one_number("inverse_scaling_r_squared", fit.r_squared_adjusted, None, n, where, said, own_note, convergence)
    early = f"{len(fit.criterion)} starts compared"
    yield one_number("inverse_scaling_start", fit.start, None, n, None, early, convergence)


def rows(ds: xr.Dataset) -> Iterator[Metric]:
    """RA3, then RA4."""
    yield from _rank(ds)
    yield from _scaling(ds)


SUMMARY = Summary(rows, TEXTS)
