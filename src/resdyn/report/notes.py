"""What the reader must know before trusting any number on the page."""

from __future__ import annotations

import xarray as xr

from resdyn.phenomena import find_phenomenon
from resdyn.report.sections import warnings_of


def dataset_notes(ds: xr.Dataset) -> list[str]:
    """Notes about the dataset as a whole, for the top of the page."""
    notes = [str(note) for note in ds.attrs.get("notes") or []]
    if not ds.attrs.get("complete", True):
        notes.append("This capture is not complete: the numbers describe only what was stored so far.")
    return [*notes, *_unknown_probes(ds), *warnings_of(ds)]


def _unknown_probes(ds: xr.Dataset) -> list[str]:
    """Probes of which arrays are stored, and nothing else is known here."""
    names = [str(name) for name in ds.attrs.get("probes") or {} if find_phenomenon(str(name)) is None]
    return [
        f"The arrays of the probe '{name}' are stored; it is not registered here, so that it has no metrics and no "
        "section (see resdyn.register)."
        for name in names
    ]
