"""A section of the report, and a figure in it, before they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib.figure as mf
import plotly.graph_objects as go
import xarray as xr

from resdyn.report import figures as drawn_figures
from resdyn.report.sentences import Rows, Wording, sentences

WIDE_CELLS = 150  # cells per side from which a figure takes the whole width of the page


def _none(ds: xr.Dataset) -> list[str]:
    return []


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    Attributes:
        name: An identifier: of the figure on the page, of its files, and of `ds.resdyn.figure(name)`.
        title: Its caption; text is escaped, `markupsafe.Markup` is not.
        how: How to read it.
        draw: The plotly figure of a dataset, or None where the dataset holds too little to draw it.
        paper: The matplotlib figure for print, or None.
        wording: (metric, words) pairs: the numbers below the figure, from the rows of the metrics table.
        numbers: Sentences below the figure, where `wording` does not say enough.
        wide: Whether it takes the whole width of the page.
    """

    name: str
    title: str
    how: str
    draw: Callable[[xr.Dataset], go.Figure | None]
    paper: Callable[[xr.Dataset], mf.Figure | None] | None = None
    wording: Wording = ()
    numbers: Callable[[xr.Dataset, Rows], list[str]] | None = None
    wide: bool = False

    def sentences(self, ds: xr.Dataset, metrics: Rows) -> list[str]:
        """What the figure shows, in numbers.

        Args:
            ds: A captured dataset.
            metrics: The rows of its metrics table (see `resdyn.metrics.metrics_table`).

        Returns:
            Sentences, from `numbers` or else from `wording`.
        """
        return sentences(metrics, self.wording) if self.numbers is None else self.numbers(ds, metrics)


@dataclass(frozen=True)
class Section:
    """A section of the report: a heading and the figures below it.

    Attributes:
        anchor: An identifier: of the section on the page.
        short: Its name in the navigation.
        title: Its heading.
        figures: The figures, or a function of the dataset that returns them.
        notes: What the figures of a dataset leave out.
        warnings: What the top of the page must say.
        tiles: (metric, words) pairs: headline numbers at the top of the page.
        expected: Whether the report of a capture says so where the phenomenon was not measured.
        lead: The sentence at the top of the page of a dataset that no probe measured; None: that of captures.
    """

    anchor: str
    short: str
    title: str
    figures: Sequence[ReportFigure] | Callable[[xr.Dataset], Sequence[ReportFigure]] = ()
    notes: Callable[[xr.Dataset], list[str]] = _none
    warnings: Callable[[xr.Dataset], list[str]] = _none
    tiles: Wording = ()
    expected: bool = False
    lead: Callable[[xr.Dataset], str] | None = None

    def figures_of(self, ds: xr.Dataset) -> Sequence[ReportFigure]:
        """The figures that a dataset could have.

        Args:
            ds: A captured dataset.

        Returns:
            The figures, drawn or not.
        """
        return self.figures(ds) if callable(self.figures) else self.figures


def built_in(name: str, title: str, how: str, wording: Wording) -> ReportFigure:
    """A figure that `resdyn.report.figures` draws under this name."""
    return ReportFigure(
        name, title, how, getattr(drawn_figures, name), getattr(drawn_figures, f"{name}_paper"), wording
    )
