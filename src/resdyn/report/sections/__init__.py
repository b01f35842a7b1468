"""The sections of the report, a file per phenomenon."""

from resdyn.report.sections.build import (
    DrawnPicture,
    DrawnSection,
    all_pictures,
    build_sections,
    outline,
    paper_figures,
    warnings_of,
)
from resdyn.report.sections.section import Picture, Section

__all__ = [
    "DrawnPicture",
    "DrawnSection",
    "Picture",
    "Section",
    "all_pictures",
    "build_sections",
    "outline",
    "paper_figures",
    "warnings_of",
]
