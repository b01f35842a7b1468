"""Singular values in the report: how strong the blocks are, and how their norms fall over depth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from markupsafe import Markup

from resdyn.metrics.rank import converged_singular_values
from resdyn.report.comparison.overlay import Overlay, of_blocks
from resdyn.report.sections.section import Section, built_in
from resdyn.report.view import has

RANK = (
    ("singular_gap", "Gap s_C / s_(C+1)"),
    ("gap_rank", "singular values before the largest gap"),
)
SCALING = (
    ("inverse_scaling_slope", "Slope"),
    ("inverse_scaling_r_squared", "R²"),
)


def unconverged(ds: xr.Dataset) -> list[str]:
    """How many singular triplets did not converge; empty when all did."""
    if not has(ds, "singular_values") or "singular_converged" not in ds:
        return []
    stored = np.isfinite(ds["singular_values"].values)
    failed = int((stored & ~ds["singular_converged"].values.astype(bool)).sum())
    if not failed:
        return []
    worst = ""
    if has(ds, "singular_residuals"):
        largest = float(np.nanmax(ds["singular_residuals"].values))
        worst = f" (largest residual {largest:.2g} of the top value)"
    return [
        f"{failed} of {int(stored.sum())} singular triplets did not converge, or may not be the largest{worst}; they "
        "are drawn as open circles and left out of the numbers."
    ]


def _top(ds: xr.Dataset) -> xr.DataArray:
    return converged_singular_values(ds).isel(rank=0)


def _inverse(ds: xr.Dataset) -> xr.DataArray:
    top = _top(ds)
    return 1 / top.where(top > 0)


SECTIONS = (
    Section(
        "singular",
        "Singular values",
        "How strong are the blocks?",
        (
            built_in(
                "singular_values",
                "Top singular values",
                "A gap between the first C values (C classes) and the others means that the residual Jacobian "
                "has rank C at most (RA3); the axis is logarithmic, zeros are left out, open circles did not converge.",
                RANK,
            ),
            built_in(
                "inverse_scaling",
                Markup("1 / s<sub>1</sub> against depth"),
                "A straight line means that the largest singular value falls like one over the block number "
                "(RA4). The line begins at the block that the criterion BIC chooses (dotted, where it leaves blocks "
                "out), and each stage and part of six blocks or more has a line of its own. "
                "An untrained network can show a line, too: compare it with one of the same shape.",
                SCALING,
            ),
        ),
        warnings=unconverged,
        expected=True,
    ),
)

OVERLAYS = (
    Overlay(
        "top_singular_value",
        "Largest singular value",
        "How strongly a block moves the direction that it moves most.",
        "block",
        "s<sub>1</sub>",
        of_blocks("singular_values", _top),
    ),
    Overlay(
        "inverse_scaling",
        "One over the largest singular value",
        Markup("A line of slope 1 where s<sub>1</sub> falls as one over the block number (RA4)."),
        "block",
        "1 / s<sub>1</sub>",
        of_blocks("singular_values", _inverse),
    ),
)
