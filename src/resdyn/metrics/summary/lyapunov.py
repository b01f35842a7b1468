"""Finite-time Lyapunov exponents in the metrics table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from resdyn.metrics.summary.metric import Chance, Metric, over_samples
from resdyn.metrics.summary.registry import Summary

BENETTIN = "Benettin et al. (1980)"
TEXTS = {
    "largest_lyapunov_exponent": ("largest exponent, log s_1(d h_L / d h_0) / L", "above 0: something grows", BENETTIN),
    "growing_exponents": ("share of the exponents above 0", "of those that were asked for", BENETTIN),
    "lyapunov_sum": ("sum of the exponents", "log of how volumes change per block", BENETTIN),
}
NO_STRETCH = Chance("0, an identity", 0.0)
NO_SHARE = Chance("none: set by the size of the branches")


def rows(ds: xr.Dataset) -> Iterator[Metric]:
    """The largest exponent, the share of growing ones, and their sum; intervals that include 0 grow by half."""
    values, low, high = (ds[f"lyapunov_{name}"].values for name in ("exponent", "lower", "upper"))
    half = float(np.nanmax((high - low)[:, 0] / 2)) if np.isfinite(high - low)[:, 0].any() else float("nan")
    yield over_samples("largest_lyapunov_exponent", values[:, 0], None, f"each to {half:.1g}", chance=NO_STRETCH)
    growing = (low > 0) + 0.5 * ((low <= 0) & (high > 0))
    hidden = int(np.isnan(values).sum())
    note = f"{hidden} of {values.size} exponents are hidden by rounding" if hidden else ""
    yield over_samples("growing_exponents", growing.mean(1), None, note, chance=NO_SHARE)
    yield over_samples("lyapunov_sum", values.sum(1), None, note, chance=NO_STRETCH)


SUMMARY = Summary(rows, TEXTS)
