"""A quantity over depth that several runs can share one figure of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from resdyn.report.figures.profile import Profile
from resdyn.report.view import Array, has

Values = tuple[Array, Array]


@dataclass(frozen=True)
class Overlay:
    """One figure of a comparison: a line per run, its mean over samples with standard errors.

    Attributes:
        name: An identifier of the figure on the page.
        title: Its caption; text is escaped, `markupsafe.Markup` is not.
        how: How to read it.
        x_title: What the horizontal axis counts: "block" or "depth".
        y_title: The vertical axis.
        values: (x (n,), values (samples, n)) of a run, or None where the run lacks them.
        log: Whether the vertical axis is logarithmic.
    """

    name: str
    title: str
    how: str
    x_title: str
    y_title: str
    values: Callable[[xr.Dataset], Values | None]
    log: bool = False


def of_profile(make: Callable[[xr.Dataset], Profile | None]) -> Callable[[xr.Dataset], Values | None]:
    """The values of a figure of the report."""

    def values(ds: xr.Dataset) -> Values | None:
        profile = make(ds)
        return None if profile is None else (profile.depth, profile.values)

    return values


def of_blocks(variable: str, read: Callable[[xr.Dataset], xr.DataArray]) -> Callable[[xr.Dataset], Values | None]:
    """(sample, block) values where the run holds `variable` and any of them is finite."""

    def values(ds: xr.Dataset) -> Values | None:
        if not has(ds, variable):
            return None
        table = read(ds).transpose("sample", "block").values.astype(np.float64)
        return (ds["block"].values, table) if np.isfinite(table).any() else None

    return values
