"""Training in the report: what a monitor measured."""

from __future__ import annotations

from functools import partial
from typing import Any

import xarray as xr

from resdyn._format import short, with_error
from resdyn.report import figures
from resdyn.report.sections.section import ReportFigure, Section
from resdyn.report.sentences import Rows, Wording, sentence

ALIGNMENT = (
    ("collinearity", "cosine of steps"),
    ("diagonal_energy_uv", "energy on the diagonal"),
    ("inverse_scaling_r_squared", "R² of 1/s₁"),
)
COLLAPSE = (("within_class_variability", "NC1"), ("loss", "training loss"))
HOW = (
    "Measured before training, at intervals, and at the end, at a few fixed training samples, with standard errors "
    "over them (R²: jackknife over samples; NC1: jackknife over images); "
)


def _first_to_last(ds: xr.Dataset, _: Rows, columns: Wording) -> list[str]:
    """What each column of the training monitor was at its first and at its last row."""
    rows = ds.attrs["training"]
    unit = "step" if all("step" in row for row in rows) else "epoch"
    span, parts = (rows[0][unit], rows[-1][unit]), []
    for name, words in columns:
        known = [row for row in rows if row.get(name) is not None]
        if len(known) > 1:
            first, last = known[0], known[-1]
            own = (first[unit], last[unit])
            when = "" if own == span else f" ({unit}s {own[0]} → {own[1]})"
            parts.append(f"{words} {_with_error(first, name)} → {_with_error(last, name)}{when}")
    return [sentence(f"{unit}s {span[0]} → {span[1]}", "; ".join(parts))] if parts else []


def _with_error(row: dict[str, Any], name: str) -> str:
    """A number of a row with its error; rows of earlier versions have none."""
    error = (row.get("standard_errors") or {}).get(name)
    return short(row[name]) if error is None else with_error(row[name], error)


SECTIONS = (
    Section(
        "training",
        "Training",
        "As the network trained",
        (
            ReportFigure(
                "training_alignment",
                "Residual alignment",
                HOW + "curves that rise towards 1 show alignment emerging from a network that had none.",
                figures.training_alignment,
                figures.training_alignment_paper,
                numbers=partial(_first_to_last, columns=ALIGNMENT),
            ),
            ReportFigure(
                "training_collapse",
                "Neural collapse and loss",
                HOW + "NC1 falls as classes shrink to points; the loss need not, since weight decay limits the logits.",
                figures.training_collapse,
                figures.training_collapse_paper,
                numbers=partial(_first_to_last, columns=COLLAPSE),
            ),
        ),
    ),
)
