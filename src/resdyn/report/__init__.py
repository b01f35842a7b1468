"""Draws what the metrics say: pictures, tables and the HTML page. It never sees a model."""

from resdyn.report.comparison.page import write_comparison
from resdyn.report.page import render_page, write_page, write_report

__all__ = ["render_page", "write_comparison", "write_page", "write_report"]
