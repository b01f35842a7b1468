"""The sections of the report, a file per phenomenon."""

from resdyn.report.sections.build import (
    DrawnFigure,
    DrawnSection,
    all_figures,
    build_sections,
    outline,
    paper_figures,
    warnings_of,
)
from resdyn.report.sections.section import ReportFigure, Section

__all__ = [
    "DrawnFigure",
    "DrawnSection",
    "ReportFigure",
    "Section",
    "all_figures",
    "build_sections",
    "outline",
    "paper_figures",
    "warnings_of",
]
