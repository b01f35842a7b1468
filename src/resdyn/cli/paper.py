"""`resdyn paper`: what the papers say beside what we find."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from rich.markup import escape
from rich.table import Table

from resdyn.cli.output import print_json, say, terminal
from resdyn.errors import InputError
from resdyn.papers import as_json, compare, get_paper, names, results_of, run_experiment, write_page
from resdyn.papers.claims import quantity, shown
from resdyn.papers.comparison import ComparedExperiment, verdict_counts
from resdyn.papers.results import Result

Json = Annotated[bool, Parameter(help="Print results as one JSON object.", group=Group("Every command"))]
Scale = Literal["tiny", "small", "paper"]
STYLES = {"agrees": "green", "disagrees": "red", "not run": "dim"}


def paper(
    name: str | None = None,
    experiment: str | None = None,
    /,
    *,
    scale: Scale = "tiny",
    page: Path | None = None,
    out: Path | None = None,
    data_root: Path | None = None,
    json: Json = False,
) -> None:
    """List the papers, compare one with our results, or run one of its experiments; run again, it resumes.

    Parameters
    ----------
    name
        A paper; without one all are listed.
    experiment
        An experiment of the paper to run; without one every claim is shown beside what was found.
    scale
        tiny: seconds, a check; small: two cores, up to half an hour; paper: the paper's own size, for a GPU.
    page
        Write the comparison page, one HTML file.
    out
        Folder for networks, measurements and results (default: out/papers/NAME).
    data_root
        Folder of datasets (default: RESDYN_DATA).
    """
    if name is None:
        if page is not None:
            raise InputError("got --page without a paper, expected: resdyn paper NAME --page out.html")
        return _list_papers(json)
    chosen = get_paper(name)
    ran = None
    if experiment is not None:
        root = None if data_root is None else str(data_root)
        ran = run_experiment(chosen, experiment, scale, out, root, quiet=json)
    results = results_of(chosen, out)
    if own := [f"{r.experiment} ({r.scale})" for r in results if not r.path.is_relative_to(chosen.folder)]:
        say(f"note: of your own runs, in place of the results that come with resdyn: {', '.join(own)}", quiet=json)
    compared = compare(chosen, results)
    if page is not None:
        say(f"page: {write_page(chosen, compared, page)}", quiet=json)
    shown = [row for row in compared if experiment in (None, row.experiment.name)]
    if json:
        return print_json(as_json(shown))
    if ran is not None:
        _print_numbers(ran)
    return _print_claims(shown)


def _list_papers(json: bool) -> None:
    rows = [(name, compare(get_paper(name), results_of(get_paper(name)))) for name in names()]
    if json:
        return print_json({"papers": [_paper_row(name, compared) for name, compared in rows]})
    table = _table("paper", "title", "experiments", "claims")
    for name, compared in rows:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in verdict_counts(compared).items())
        table.add_row(name, get_paper(name).title, ", ".join(get_paper(name).experiments), counts)
    return terminal().print(table)


def _paper_row(name: str, compared: list[ComparedExperiment]) -> dict[str, Any]:
    chosen = get_paper(name)
    return {
        "name": name,
        "title": chosen.title,
        "reference": chosen.reference,
        "experiments": [{"name": e.name, "title": e.title} for e in chosen.experiments.values()],
        "verdicts": verdict_counts(compared),
    }


def _print_claims(compared: list[ComparedExperiment]) -> None:
    for row in compared:
        title = f"{row.experiment.name}: {row.experiment.title}"
        table = _table("claim", "where", "paper", "ours", "scale", "verdict", title=title)
        for c in row.claims:
            ours = "–" if c.number is None else quantity(c.number)
            verdict = f"[{STYLES[c.verdict]}]{c.verdict}[/]"
            paper = shown(c.claim.paper) if isinstance(c.claim.paper, int | float) else c.claim.paper
            table.add_row(escape(c.claim.claim), escape(c.claim.where), escape(paper), ours, c.scale or "–", verdict)
        terminal().print(table)


def _print_numbers(result: Result) -> None:
    table = _table("number", "value", "note", title=f"{result.experiment} at scale {result.scale}")
    for key, number in result.numbers.items():
        table.add_row(escape(key), "–" if number.value is None else quantity(number), escape(number.note))
    terminal().print(table)
    terminal().print(f"result: {result.path}", markup=False)


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table
