"""The sections of the page: which pictures belong together, how to read each, and what each one shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import matplotlib.figure as mf
import plotly.graph_objects as go
import xarray as xr
from markupsafe import Markup

from resdyn.progress import track
from resdyn.report import plans, sentences
from resdyn.report.notes import drawn_notes, missing_note
from resdyn.report.plans import Plan


@dataclass(frozen=True)
class Drawn:
    """A picture as the template needs it."""

    name: str
    title: str
    how: str
    numbers: list[str]
    json: Markup
    wide: bool


@dataclass(frozen=True)
class Section:
    """A heading with its pictures; `notes` say what is missing or left out."""

    anchor: str
    short: str
    title: str
    figures: list[Drawn]
    notes: list[str]


def build_sections(ds: xr.Dataset, metrics: sentences.Rows, encode: Callable[[go.Figure], Markup]) -> list[Section]:
    """All sections in reading order; a section whose probe is absent holds a note instead of pictures."""
    outline, built = _outline(ds), []
    pictures = {p.name: _drawn(p, ds, metrics, encode) for p in track(_pictures(outline), "drawing the page")}
    for anchor, name, title, probe, own in outline:
        drawn = [picture for plan in own if (picture := pictures[plan.name]) is not None]
        notes = drawn_notes(ds, anchor) if drawn else [missing_note(ds, probe)]
        built.append(Section(anchor, name, title, drawn, notes))
    return built


def all_plans(ds: xr.Dataset) -> dict[str, Plan]:
    """Every picture that this dataset could have, by name."""
    return {plan.name: plan for plan in _pictures(_outline(ds))}


def paper_figures(ds: xr.Dataset) -> Iterator[tuple[str, mf.Figure]]:
    """(name, matplotlib figure) of every picture that the dataset allows."""
    for plan in track(_pictures(_outline(ds)), "drawing the figures"):
        figure = plan.paper(ds)
        if figure is not None:
            yield plan.name, figure


def _pictures(outline: list[tuple[str, str, str, str, list[Plan]]]) -> list[Plan]:
    return [plan for *_, pictures in outline for plan in pictures]


def _drawn(plan: Plan, ds: xr.Dataset, metrics: sentences.Rows, encode) -> Drawn | None:
    figure = plan.draw(ds)
    if figure is None:
        return None
    return Drawn(plan.name, plan.title, plan.how, plan.numbers(ds, metrics), encode(figure), plan.wide)


def _outline(ds: xr.Dataset) -> list[tuple[str, str, str, str, list[Plan]]]:
    """(anchor, short title, title, probe, pictures) of each section."""
    cushion = [("cushion", "Noise stability", "How much noise do the layers pass on?", "cushion", plans.cushion())]
    training = [("training", "Training", "As the network trained", "monitor", plans.training())]
    return [
        ("trajectories", "Trajectories", "Where the states travel", "trajectory", plans.trajectories()),
        ("steps", "Steps", "Straight and equispaced?", "trajectory", plans.steps()),
        ("alignment", "Alignment", "Do the blocks share their singular vectors?", "coupling", plans.alignment(ds)),
        ("singular", "Singular values", "How strong are the blocks?", "singular", plans.singular()),
        ("stiffness", "Stiffness", "Eigenvalues: stiff, reversed, nonnormal?", "spectrum", plans.stiffness()),
        ("collapse", "Neural collapse", "Neural collapse over depth", "features", plans.collapse()),
        *(cushion if "span_product_norm" in ds else []),
        *(training if ds.attrs.get("training") else []),
    ]
