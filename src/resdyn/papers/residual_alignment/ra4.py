"""RA4 (figure 4b, appendix C.4): does 1/s_1 grow linearly with the block's number, with slope one?"""

from __future__ import annotations

import numpy as np
import xarray as xr

from resdyn import metrics
from resdyn.metrics import standard_error
from resdyn.papers import pictures
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.networks import measured


def measure(lab: Lab, label: str, case: Case) -> None:
    """Line through the mean of 1/s_1 from where alignment begins; the slope's error is that over images."""
    ds = measured(lab, lab.trained(case))
    fit, own = metrics.inverse_scaling(ds)
    note = f"blocks {fit.start} to {ds.sizes['block']}; error of the regression {fit.slope_error:.2g}"
    lab.record(f"{label}.slope", [line.slope for line in own], "training images", note)
    lab.record(f"{label}.r_squared", fit.r_squared, note=f"blocks {fit.start} to {ds.sizes['block']}")
    lab.record(f"{label}.start", fit.start, note="block where the line begins, chosen by BIC")
    lab.picture(f"{label}.inverse", _picture(label, ds, fit))


def _picture(label: str, ds: xr.Dataset, fit: metrics.InverseScalingFit) -> dict:
    number = ds["block"].values + 1
    top = metrics.converged_singular_values(ds).isel(rank=0).transpose("sample", "block").values
    inverse = 1 / top
    error = standard_error(inverse) if len(inverse) > 1 else np.zeros(len(number))
    ends = np.array([fit.start, number[-1]])
    rows = [
        pictures.series("mean over images", number, metrics.inverse_top_value(top), error, "o"),
        pictures.series(f"slope {fit.slope:.3g}", ends, fit.intercept + fit.slope * ends, style="-"),
    ]
    return pictures.lines(f"{label}: 1/s_1 against depth", "figure 4b, C.4", rows, "block", "1 / s_1")
