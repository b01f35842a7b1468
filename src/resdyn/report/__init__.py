"""What the metrics say as figures, tables and HTML pages; it never sees a model."""

from resdyn.report.comparison.overlay import Overlay
from resdyn.report.comparison.page import write_comparison
from resdyn.report.page import render_page, write_report
from resdyn.report.sections import Picture, Section
from resdyn.report.sections.profiles import profile_overlay, profile_picture

__all__ = [
    "Overlay",
    "Picture",
    "Section",
    "profile_overlay",
    "profile_picture",
    "render_page",
    "write_comparison",
    "write_report",
]
