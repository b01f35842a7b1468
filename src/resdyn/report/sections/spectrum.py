"""Eigenvalues in the report: stiffness, reversed directions, nonnormality."""

from __future__ import annotations

import numpy as np
import xarray as xr

from resdyn.metrics.eigenvalues import count_undetermined, determined, stiffness
from resdyn.report.comparison.overlay import Overlay, of_blocks
from resdyn.report.sections.section import Section, built_in

STIFFNESS = (
    ("stiffness_size", "Median size"),
    ("stiffness_index_flattened", "Index of the Jacobian"),
    ("stiffness_index_slices", "of its slices"),
)
NEGATIVE = (
    ("percent_negative_flattened", "Negative real parts of the Jacobian in %"),
    ("percent_negative_slices", "of its slices"),
)
PLANE = (
    ("spectral_radius", "Largest modulus"),
    ("percent_negative_flattened", "negative real parts in %"),
)
NONNORMAL = (
    ("spectral_radius", "Largest modulus of an eigenvalue"),
    ("jacobian_norm", "norm"),
    ("numerical_abscissa", "numerical abscissa"),
    ("departure_from_normality", "departure from normality"),
)


def _notes(ds: xr.Dataset) -> list[str]:
    notes = []
    known = np.isfinite(ds["largest_real"].values)
    if not known.all():
        blocks = ", ".join(str(int(b)) for b in ds["block"].values[~known.any(axis=0)])
        notes.append(f"No eigenvalues of the Jacobian, which is not square: block {blocks}." if blocks else "")
    undefined = int((known & (ds["smallest_real"].values == 0)).sum())
    if undefined:
        notes.append(
            f"In {undefined} of {int(known.sum())} cases no real part is negative and 0 is an eigenvalue (outputs that "
            "the gate switches off), so the stiffness index has no value there; these cases are left out of it."
        )
    undetermined = count_undetermined(ds)
    if undetermined:
        notes.append(
            f"In {undetermined} of {int(known.sum())} cases the error of an end of the spectrum (condition x backward "
            "error) exceeds it: the Jacobian is so far from normal that rounding decides; such a value is undetermined "
            "and left out."
        )
    failed = int((known & ~ds["eigen_converged"].values).sum())
    if failed:
        notes.append(f"In {failed} of {int(known.sum())} cases an eigenvalue did not converge; estimates are shown.")
    return [_reading(ds), *(note for note in notes if note)]


def _reading(ds: xr.Dataset) -> str:
    """Which Jacobian the eigenvalues are of: the probe has a kind of its own."""
    settings = (ds.attrs.get("probes") or {}).get("spectrum") or {}
    kind = ds["largest_real"].attrs.get("kind", settings.get("kind", "block"))
    texts = {"block": "the whole block, skip and gate included", "gated": "the branch and its gate, the skip excluded"}
    return f"Eigenvalues of the Jacobian read as {kind}: that of {texts.get(kind, 'the branch alone')}."


SECTIONS = (
    Section(
        "stiffness",
        "Stiffness",
        "Eigenvalues: stiff, reversed, nonnormal?",
        (
            built_in(
                "stiffness_index",
                "Stiffness index",
                "max Re λ / min Re λ for every block, its size on a logarithmic scale, with its sign where all have "
                "one: of the Jacobian as the matrix that it is and, where asked for, of its spatial slices, which the "
                "stiffness paper's tables hold. Only "
                "the first says something about the block as a dynamical system. Dots are medians over samples, bars "
                "reach from the first to the third quartile.",
                STIFFNESS,
            ),
            built_in(
                "negative_share",
                "Eigenvalues with negative real part",
                "Share of the eigenvalues along which the block reverses its input: of the Jacobian as the matrix that "
                "it is and, where asked for, of its spatial slices. Zeros are not negative.",
                NEGATIVE,
            ),
            built_in(
                "eigenvalue_plane",
                "The eigenvalues of single blocks",
                "Every dot is an eigenvalue λ of one block at one sample. An identity would put all at 1; right of 1 a "
                "direction grows, inside the grey circle it shrinks, left of the axis it is reversed; the zeros are "
                "outputs that the gate switched off.",
                PLANE,
            ),
            built_in(
                "nonnormality",
                "What eigenvalues do not show",
                "For a normal matrix the norm equals the largest modulus of an eigenvalue, and the numerical abscissa "
                "the largest real part. The distance between the lines is what a direction can grow although no "
                "eigenvalue says so.",
                NONNORMAL,
            ),
        ),
        notes=_notes,
        expected=True,
    ),
)

OVERLAYS = (
    Overlay(
        "negative_share",
        "Negative real parts",
        "Share of the Jacobian's eigenvalues, per cent.",
        "block",
        "%",
        of_blocks("largest_real", lambda ds: stiffness(ds)["percent_negative_flattened"]),
    ),
    Overlay(
        "spectral_radius",
        "Spectral radius",
        "Largest modulus of an eigenvalue.",
        "block",
        "radius",
        of_blocks("spectral_radius", lambda ds: determined(ds, "spectral_radius")),
    ),
)
