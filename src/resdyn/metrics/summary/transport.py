"""Transports in the metrics table: at the first, the middle and the last depth, and their growth."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import xarray as xr

from resdyn._statistics import standard_error
from resdyn.metrics.growth import MIN_POINTS, GrowthFit, transport_growth
from resdyn.metrics.summary.metric import Chance, Metric, one_number
from resdyn.metrics.summary.registry import Summary
from resdyn.metrics.transport_store import transport_structures

LAGZI, ANGLES = "Lagzi (2021), app. A", "Bjorck and Golub (1973)"
ROY, RUDELSON = "Roy and Vetterli (2007)", "Rudelson and Vershynin (2007)"
TEXTS = {
    "transport_norm": ("root mean square singular value |J|_F / sqrt(d)", "1 for the identity", LAGZI),
    "transport_identity_share": ("share of |J|^2 that is a multiple of the identity", "1: nothing but the skips", ""),
    "transport_noise_share": (
        "share of |J - alpha I|^2 that is the error of the mean",
        "near 1: take more samples",
        "",
    ),
    "transport_effective_rank": ("effective rank of J - alpha I", "how many directions it has", ROY),
    "transport_stable_rank": ("stable rank of J - alpha I", "near 1: one direction dominates", RUDELSON),
    "transport_resolved": ("singular values of J - alpha I above the noise", "beyond these, do not read vectors", ""),
    "transport_log_determinant": ("log |det J|", "above 0: volumes grow towards the end", LAGZI),
    "transport_overlap": (
        "overlap of what consecutive depths read",
        "1: the same directions",
        "Bjorck and Golub (1973)",
    ),
    "transport_growth_rate": (
        "growth of |J| per step back, as an exponential",
        "k of c exp(k s)",
        "Lagzi (2021), app. A",
    ),
    "transport_growth_exponent": (
        "growth of |J| with the steps, as a power",
        "p of c (1 + s)^p",
        "Lagzi (2021), app. A",
    ),
}
IDENTITY = Chance("1, the identity", 1.0)
NOT_SQUARE = Chance("none: not square")
NO_PAIRS = Chance("k/d; none without directions")
NO_DETERMINANT = Chance("none: set by the scale of J")
AT_MOST = "the error is at most this"
NO_ERROR = "no standard error; the share of noise says how far to trust it"
FLAT = Chance("0, no growth", 0.0)


def rows(ds: xr.Dataset) -> Iterator[Metric]:
    """By metric, and for each at the depths chosen."""
    found = transport_structures(ds)
    n = int(ds.attrs.get("num_samples", 0))
    depths = found["depth"].values
    chosen = [found.isel(depth=int(p)) for p in sorted({0, len(depths) // 2, len(depths) - 1})]
    square = [at for at in chosen if int(at["columns"]) == ds.sizes["row"]]
    root = ds.sizes["row"] ** 0.5
    by_chance = _by_chance(ds.sizes["row"], int(ds["columns"].values.max()))
    for at in chosen:
        size = (float(at["norm"]) / root, float(at["norm_error"]) / root)
        yield one_number("transport_norm", *size, n, _where(at), AT_MOST, chance=by_chance["norm"])
    for at in square:
        yield one_number(
            "transport_identity_share", *_identity(at), n, _where(at), AT_MOST, chance=by_chance["identity_share"]
        )
    for name in ("noise_share", "effective_rank", "stable_rank", "resolved", "log_determinant"):
        for at in square if name == "log_determinant" else chosen:
            note = "" if name == "noise_share" else NO_ERROR
            yield one_number(f"transport_{name}", float(at[name]), None, n, _where(at), note, chance=by_chance[name])
    yield _overlap(found)
    yield from _growth(ds)


def growth_of(ds: xr.Dataset) -> GrowthFit | None:
    """The laws fitted to the norms of a stored transport, or None for fewer than four depths before the target.

    The identity from the target to itself is a point as well.
    """
    found = transport_structures(ds)
    steps = found["steps"].values.tolist()
    norms = found["norm"].values.tolist()
    if 0 not in steps and isinstance(ds.attrs.get("to"), int):
        steps, norms = [*steps, 0], [*norms, ds.sizes["row"] ** 0.5]
    if sum(np.isfinite(norms) & (np.asarray(norms) > 0)) < MIN_POINTS or len(set(ds["columns"].values.tolist())) > 1:
        return None
    return transport_growth(steps, norms)


def _identity(at: xr.Dataset) -> tuple[float, float]:
    """Share and the most its error can be, by that of alpha and of the norm."""
    share, alpha, norm = (float(at[name]) for name in ("identity_share", "alpha", "norm"))
    if not alpha or not norm:
        return share, float("nan")
    relative = 2 * float(at["alpha_error"]) / abs(alpha) + 2 * float(at["norm_error"]) / norm
    return share, share * relative


def _by_chance(rows: int, columns: int) -> dict[str, Chance]:
    """Of a matrix of independent Gaussian entries; ranks by the quarter-circle law, for square ones."""
    square = rows == columns
    return {
        "norm": IDENTITY if square else NOT_SQUARE,
        "identity_share": Chance("1/d^2, a random matrix", 1 / rows**2) if square else NOT_SQUARE,
        "noise_share": Chance("1, a mean of nothing but noise", 1.0),
        "effective_rank": Chance("d exp(-1/2), a random matrix", rows * math.exp(-0.5)) if square else NOT_SQUARE,
        "stable_rank": Chance("d/4, a random matrix", rows / 4) if square else NOT_SQUARE,
        "resolved": Chance("0 or a few, noise against another draw of it", 0.0, 1.0),
        "log_determinant": NO_DETERMINANT,
    }


def _overlap(found: xr.Dataset) -> Metric:
    """Mean over pairs of depths, and what random directions have."""
    values = found["overlap"].values
    known = np.isfinite(values)
    if not known.any():
        why = "no directions stand out of the noise"
        return one_number("transport_overlap", float("nan"), None, 0, "depths", why, chance=NO_PAIRS)
    by_chance = found["overlap_by_chance"].values[known]
    error = float(standard_error(values[known])) if known.sum() > 1 else None
    chance = Chance("k/d, k random directions each of d", float(by_chance.min()), float(by_chance.max()))
    note = "over pairs of depths, not over samples"
    return one_number(
        "transport_overlap", float(values[known].mean()), error, int(known.sum()), "depths", note, chance=chance
    )


def _growth(ds: xr.Dataset) -> Iterator[Metric]:
    fit = growth_of(ds)
    if fit is None:
        return
    verdict = (
        "which law is better is undecided" if fit.law == "undecided" else f"by BIC the {fit.law} law is the better"
    )
    note = f"{verdict}; the error is that of the fit over depths"
    for name, value, error in (
        ("transport_growth_rate", fit.rate, fit.rate_error),
        ("transport_growth_exponent", fit.exponent, fit.exponent_error),
    ):
        yield one_number(name, value, error, fit.num_points, "depths", note, chance=FLAT)


def _where(at: xr.Dataset) -> str:
    return f"depth {int(at['depth'])}"


SUMMARY = Summary(rows, TEXTS)
