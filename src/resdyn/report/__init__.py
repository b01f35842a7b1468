"""Draws what the metrics say: pictures, tables and the HTML page. It never sees a model."""

from .comparison_page import write_comparison
from .page import render_page, write_report

__all__ = ["render_page", "write_comparison", "write_report"]
