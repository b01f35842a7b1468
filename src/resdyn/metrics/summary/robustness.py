"""The smallest perturbations that change a prediction, in the metrics table."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from resdyn.metrics.summary.metric import Chance, Metric, over_samples
from resdyn.metrics.summary.registry import Summary

MOOSAVI = "Moosavi-Dezfooli, Fawzi and Frossard (2016)"
TEXTS = {
    "noise_amplitude": ("smallest noise that flips the answer", "in random directions, norm of the input's units", ""),
    "gradient_amplitude": ("the same along gradients", "an upper bound of the distance to the boundary", MOOSAVI),
}
UNITS = Chance("none: set by the units of the input and by the number of directions tried")


def rows(ds: xr.Dataset) -> Iterator[Metric]:
    """Means over samples of whichever of the two was stored."""
    for name in TEXTS:
        if name in ds:
            yield over_samples(name, ds[name].values, None, "mean over samples", chance=UNITS)


SUMMARY = Summary(rows, TEXTS)
