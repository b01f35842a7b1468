"""Figures as files for papers: one PDF (fonts embedded) and one PNG each, identical for identical data."""

from __future__ import annotations

from pathlib import Path

import matplotlib.figure as mf
import xarray as xr

from resdyn.report.sections import paper_figures
from resdyn.report.theme import paper_style

DPI = 300


def write_paper_figures(ds: xr.Dataset, folder: Path) -> list[Path]:
    """Write every figure that the dataset allows into `folder`; returns the paths in the page's order."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in paper_figures(ds):
        written += _save(figure, folder / name)
    return written


def _save(figure: mf.Figure, stem: Path) -> list[Path]:
    pdf, png = stem.with_name(f"{stem.name}.pdf"), stem.with_name(f"{stem.name}.png")
    # Dates and version strings would make equal figures differ; the font type counts when a file is written.
    with paper_style():
        figure.savefig(pdf, metadata={"CreationDate": None, "Producer": None, "Creator": None})
        figure.savefig(png, dpi=DPI, metadata={"Software": None})
    return [pdf, png]
