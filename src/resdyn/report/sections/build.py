"""The sections of a page, drawn: which figures a dataset allows, and what each one shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import matplotlib.figure as mf
import plotly.graph_objects as go
import xarray as xr
from markupsafe import Markup

from resdyn.errors import InputError
from resdyn.phenomena import Phenomenon, phenomena, phenomena_in
from resdyn.progress import track
from resdyn.report.sections.section import ReportFigure, Section
from resdyn.report.sentences import Rows


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as the template needs it."""

    name: str
    title: str
    how: str
    numbers: list[str]
    json: Markup
    wide: bool


@dataclass(frozen=True)
class DrawnSection:
    """A heading with its figures; `notes` say what is missing or left out."""

    anchor: str
    short: str
    title: str
    figures: list[DrawnFigure]
    notes: list[str]


def sections_of(phenomenon: Phenomenon) -> tuple[Section, ...]:
    """The sections of a phenomenon.

    Raises:
        InputError: It is registered with something else.
    """
    return phenomenon.load_each("sections", Section, "resdyn.report.Section")


def outline(ds: xr.Dataset) -> list[tuple[Phenomenon, Section, bool]]:
    """(phenomenon, section, whether the dataset holds it) in reading order; of what a capture should hold, all.

    Raises:
        InputError: Two sections of one anchor, or one that is not an identifier.
    """
    held = phenomena_in(ds)
    present = {phenomenon.name for phenomenon in held}
    captured = not held or any(phenomenon.probe is not None for phenomenon in held)
    rows = [(p, section, p.name in present) for p in phenomena() for section in sections_of(p)]
    rows = [row for row in rows if row[2] or (captured and row[1].expected)]
    _check_names("section", [(p.name, section.anchor) for p, section, _ in rows])
    return rows


def build_sections(ds: xr.Dataset, metrics: Rows, encode: Callable[[go.Figure], Markup]) -> list[DrawnSection]:
    """All sections in reading order; an expected one whose phenomenon is absent holds a note instead of figures."""
    rows = outline(ds)
    drawn_figures = {p.name: _drawn(p, ds, metrics, encode) for p in track(_figures(ds, rows), "drawing the page")}
    built = []
    for phenomenon, section, present in rows:
        drawn = [found for p in section.figures_of(ds) if (found := drawn_figures[p.name]) is not None]
        notes = section.notes(ds) if drawn else [_missing(phenomenon, present)]
        built.append(DrawnSection(section.anchor, section.short, section.title, drawn, notes))
    return built


def warnings_of(ds: xr.Dataset) -> list[str]:
    """What the top of the page must say of the phenomena in a dataset."""
    return [warning for _, section, present in outline(ds) if present for warning in section.warnings(ds)]


def all_figures(ds: xr.Dataset) -> dict[str, ReportFigure]:
    """Every figure that this dataset could have, by name."""
    return {planned.name: planned for planned in _figures(ds, outline(ds))}


def paper_figures(ds: xr.Dataset) -> Iterator[tuple[str, mf.Figure]]:
    """(name, matplotlib figure) of every figure that the dataset allows."""
    for planned in track(_figures(ds, outline(ds)), "drawing the figures"):
        figure = None if planned.paper is None else planned.paper(ds)
        if figure is not None:
            yield planned.name, figure


def _figures(ds: xr.Dataset, rows: Sequence[tuple[Phenomenon, Section, bool]]) -> list[ReportFigure]:
    found = [(phenomenon.name, planned) for phenomenon, section, _ in rows for planned in section.figures_of(ds)]
    _check_names("figure", [(owner, planned.name) for owner, planned in found])
    return [planned for _, planned in found]


def _check_names(what: str, names: Sequence[tuple[str, str]]) -> None:
    """Anchors and names of figures are ids on the page and names of files."""
    owners: dict[str, str] = {}
    for owner, name in names:
        if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
            raise InputError(f"{owner}: got the {what} {name!r}, expected an identifier such as 'my_{what}'")
        if name in owners:
            raise InputError(f"{owners[name]} and {owner} both have a {what} '{name}'; rename one of them")
        owners[name] = owner


def _drawn(
    planned: ReportFigure, ds: xr.Dataset, metrics: Rows, encode: Callable[[go.Figure], Markup]
) -> DrawnFigure | None:
    figure = planned.draw(ds)
    if figure is None:
        return None
    if not isinstance(figure, go.Figure):
        raise InputError(f"the figure '{planned.name}' is a {type(figure).__name__}, expected a plotly Figure or None")
    numbers = planned.sentences(ds, metrics)
    return DrawnFigure(planned.name, planned.title, planned.how, numbers, encode(figure), planned.wide)


def _missing(phenomenon: Phenomenon, present: bool) -> str:
    """Why a section has no figures."""
    if not present:
        return f"Not measured: this dataset was captured without the probe '{phenomenon.name}'."
    return f"The probe '{phenomenon.name}' was captured, but holds too few finite values to draw anything."
