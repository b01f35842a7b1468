"""Finite-time Lyapunov exponents in the report."""

from __future__ import annotations

import numpy as np
import xarray as xr

from resdyn.report.sections.section import Section, built_in

WORDING = (
    ("largest_lyapunov_exponent", "Largest exponent"),
    ("growing_exponents", "share above 0"),
    ("lyapunov_sum", "sum"),
)


def _notes(ds: xr.Dataset) -> list[str]:
    hidden = int(np.isnan(ds["lyapunov_exponent"].values).sum())
    if not hidden:
        return []
    return [
        f"{hidden} of {ds['lyapunov_exponent'].size} exponents are so small, relative to the rounding of the products, "
        "that they cannot be told from those of zero; they are left out."
    ]


SECTIONS = (
    Section(
        "lyapunov",
        "Growth",
        "Do small changes grow through the whole stream?",
        (
            built_in(
                "lyapunov_exponents",
                "Finite-time Lyapunov exponents",
                "log s(d h_L / d h_0) / L, s the singular values at one sample: above 0 a direction of the first state "
                "has grown when it arrives at the last one, below it has shrunk; exp of it is the factor per block. "
                "The mean ends where a sample's value cannot be told from zero.",
                WORDING,
            ),
        ),
        notes=_notes,
    ),
)
