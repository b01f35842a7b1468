"""The states in the report: where they travel, and whether they are equispaced on a line."""

from __future__ import annotations

import xarray as xr

from resdyn.report.comparison.overlay import Overlay, of_profile
from resdyn.report.figures.steps import collinearity_profile, step_length_profile
from resdyn.report.figures.trajectories import MAX_SAMPLES
from resdyn.report.sections.section import Section, built_in

LINE = (("line_shape_score", "Line-shape score (1 on a line)"), ("tortuosity", "path over chord"))
COSINES = (("collinearity", "Mean cosine of successive steps"),)
SPACING = (("equispacing", "Coefficient of variation of the step lengths (0 when equispaced)"),)


def _notes(ds: xr.Dataset) -> list[str]:
    total = ds.sizes["sample"]
    if total <= MAX_SAMPLES:
        return []
    return [f"The first {MAX_SAMPLES} of {total} samples are drawn; the numbers are over all of them."]


SECTIONS = (
    Section(
        "trajectories",
        "Trajectories",
        "Where the states travel",
        (
            built_in(
                "principal_trajectories",
                "On two principal axes",
                "Each line follows one sample from the first to the last state of the stage, the end drawn larger; "
                "rays with evenly spaced dots mean that the blocks push the sample along one direction (RA1).",
                LINE,
            ),
            built_in(
                "random_trajectories",
                "On two random axes",
                "The same paths on two random directions: a line stays a line and equal spacing stays equal in "
                "any projection, so nothing here is an effect of the choice of axes.",
                LINE,
            ),
        ),
        notes=_notes,
        expected=True,
    ),
    Section(
        "steps",
        "Steps",
        "Straight and equispaced?",
        (
            built_in(
                "collinearity",
                "Cosine of successive steps",
                "At depth i, the cosine between the step into and the step out of state i: 1 straight on, "
                "0 a right angle; no value where a stage begins or ends.",
                COSINES,
            ),
            built_in(
                "step_lengths",
                "Length of the steps",
                "Length of the step from depth i to i+1, relative to the mean step of the same sample and stage: "
                "a flat line at 1 means equispaced states.",
                SPACING,
            ),
        ),
        expected=True,
    ),
)

OVERLAYS = (
    Overlay(
        "collinearity",
        "Cosine of successive steps",
        "1 on a straight line, 0 at right angles (RA1).",
        "depth",
        "cosine",
        of_profile(collinearity_profile),
    ),
    Overlay(
        "step_lengths",
        "Length of the steps",
        "Relative to the mean step of the sample and stage: 1 when equispaced.",
        "depth",
        "relative length",
        of_profile(step_length_profile),
    ),
)
