"""What the reader must know before trusting a picture: what is missing, unconverged or left out."""

from __future__ import annotations

import numpy as np
import xarray as xr

from resdyn.metrics.stiffness_index import count_undetermined
from resdyn.report.figures.coupling import pictures_offered
from resdyn.report.figures.trajectories import MAX_SAMPLES
from resdyn.report.view import coupled_groups, has

VARIABLES = {
    "trajectory": ("states",),
    "coupling": ("coupling_uv",),
    "singular": ("singular_values",),
    "spectrum": ("largest_real",),
    "cushion": ("span_product_norm",),
    "features": ("class_mean", "class_count"),
}


def missing_note(ds: xr.Dataset, probe: str) -> str:
    """Why a section has no pictures."""
    if any(name not in ds for name in VARIABLES[probe]):
        return f"Not measured: this dataset was captured without the probe '{probe}'."
    return f"The probe '{probe}' was captured, but holds too few finite values to draw anything."


def dataset_notes(ds: xr.Dataset) -> list[str]:
    """Notes about the dataset as a whole, for the top of the page."""
    notes = [str(note) for note in ds.attrs.get("notes") or []]
    if not ds.attrs.get("complete", True):
        notes.append("This capture is not complete: the numbers describe only what was stored so far.")
    notes += unconverged_note(ds)
    return notes


def unconverged_note(ds: xr.Dataset) -> list[str]:
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


def drawn_notes(ds: xr.Dataset, anchor: str) -> list[str]:
    """What the pictures of one section leave out."""
    by_section = {"trajectories": _trajectory_notes, "alignment": _alignment_notes, "stiffness": _stiffness_notes}
    return by_section.get(anchor, lambda _: [])(ds)


def _trajectory_notes(ds: xr.Dataset) -> list[str]:
    total = ds.sizes["sample"]
    if total <= MAX_SAMPLES:
        return []
    return [f"The first {MAX_SAMPLES} of {total} samples are drawn; the numbers are over all of them."]


def _stiffness_notes(ds: xr.Dataset) -> list[str]:
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
    return [note for note in notes if note]


def _alignment_notes(ds: xr.Dataset) -> list[str]:
    notes = []
    groups = coupled_groups(ds)
    alone = sorted(set(range(ds.sizes["block"])) - {int(b) for group in groups for b in group})
    if alone:
        names = ", ".join(f"block {int(ds['block'].values[b])}" for b in alone)
        notes.append(f"Not in the grid, since no other block maps between the same shapes: {names}.")
    if groups and ds.sizes["sample"] > 1:
        offered = min(pictures_offered(ds, group, len(groups)) for group in groups)
        if offered < ds.sizes["sample"]:
            notes.append(
                f"To keep the page small, the grid offers the mean and the first {offered} of "
                f"{ds.sizes['sample']} samples; the numbers are over all of them."
            )
    return notes
