"""What the metrics say as figures, tables and HTML pages; it never sees a model."""

from resdyn.report.comparison.overlay import Overlay
from resdyn.report.comparison.page import write_comparison
from resdyn.report.page import render_page, write_page, write_report
from resdyn.report.readout import write_readout
from resdyn.report.sections import ReportFigure, Section
from resdyn.report.sections.profiles import profile_figure, profile_overlay

__all__ = [
    "Overlay",
    "ReportFigure",
    "Section",
    "profile_figure",
    "profile_overlay",
    "render_page",
    "write_comparison",
    "write_page",
    "write_readout",
    "write_report",
]
