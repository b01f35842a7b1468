"""RA4 (figure 4b, appendix C.4): does 1/s_1 grow linearly with the block's number, with slope one?"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn import metrics
from resdyn.metrics import standard_error
from resdyn.papers import pictures
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.networks import measured
from resdyn.papers.results import Number

DRAWS = 100


def measure(lab: Lab, label: str, case: Case) -> None:
    """Line through the mean of 1/s_1 from where alignment begins; the slope's error is that over images."""
    ds = measured(lab, lab.trained(case))
    fit, own = metrics.inverse_scaling(ds)
    note = f"blocks {fit.start} to {ds.sizes['block']}; error of the regression {fit.slope_error:.2g}"
    lab.record(f"{label}.slope", [line.slope for line in own], "training images", note)
    lab.record(f"{label}.r_squared", fit.r_squared, note=f"blocks {fit.start} to {ds.sizes['block']}")
    record_laws(lab, label, fit.start, inverse_values(ds))
    lab.record(f"{label}.start", fit.start, note="block where the line begins, chosen by BIC")
    lab.picture(f"{label}.inverse", _picture(label, ds, fit))


def record_laws(lab: Lab, label: str, start: int, inverse: NDArray[np.float64]) -> None:
    """The line beside other laws from block `start` on; errors by drawing images again (bootstrap).

    Args:
        lab: Where numbers are written.
        label: Of the network.
        start: The first block, 1-based.
        inverse: 1/s_1 (sample, block).
    """
    draws = np.random.default_rng(0).integers(len(inverse), size=(DRAWS, len(inverse)))
    write_laws(
        lab, label, start, inverse.mean(0), np.array([inverse[chosen].mean(0) for chosen in draws]), len(inverse)
    )


def write_laws(
    lab: Lab, label: str, start: int, mean: NDArray[np.float64], draws: NDArray[np.float64], images: int
) -> None:
    """Margin and exponent of the mean (block,), each with the spread of those of draws (draw, block) as its error."""
    number = np.arange(1, mean.size + 1)[start - 1 :]
    found, *others = (metrics.compare_laws(number, row[start - 1 :]) for row in (mean, *draws))
    notes = {
        "law_margin": "BIC of the better of constant and exponential less that of the line",
        "exponent": "p of 1/s_1 = c (i + d)^p",
    }
    for key, value in (("law_margin", "margin"), ("exponent", "exponent")):
        error = float(np.std([getattr(other, value) for other in others], ddof=1)) if images > 1 else None
        note = f"{notes[key]}, blocks {start} to {mean.size}"
        lab.write(f"{label}.{key}", Number.known(getattr(found, value), error, images, "training images", note))


def inverse_values(ds: xr.Dataset) -> NDArray[np.float64]:
    """1/s_1 (sample, block) of the samples whose values all converged, or of all where none is whole."""
    inverse = 1 / metrics.converged_singular_values(ds).isel(rank=0).transpose("sample", "block").values
    whole = np.isfinite(inverse).all(1)
    return np.asarray(inverse[whole] if whole.any() else inverse)


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
