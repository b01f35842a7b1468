"""`resdyn paper`: what the papers say, and what we find."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from resdyn.cli.options import DataRoot, Json
from resdyn.cli.output import print_json, print_table, say, terminal
from resdyn.errors import InputError

if TYPE_CHECKING:
    from resdyn.papers.comparison import ComparedExperiment
    from resdyn.papers.results import Result

Scale = Literal["tiny", "small", "paper"]
Networks = Annotated[
    tuple[str, ...],
    Parameter(
        help="Run the experiment for these networks alone, such as type1.mnist (default: all of the experiment's).",
        consume_multiple=True,
    ),
]
STYLES = {"agrees": "green", "disagrees": "red", "undecided": "yellow", "not run": "dim"}


def paper(
    name: str | None = None,
    experiment: str | None = None,
    /,
    *,
    scale: Scale = "tiny",
    page: Path | None = None,
    out: Path | None = None,
    null: bool = False,
    networks: Networks = (),
    data_root: DataRoot = None,
    json: Json = False,
) -> None:
    """List the papers, compare one with our results, or run one of its experiments; run again, it resumes.

    Parameters
    ----------
    name
        A paper; without one all are listed.
    experiment
        An experiment of the paper to run; without one every claim is shown beside our result.
    scale
        tiny: seconds, a check; small: two cores, up to half an hour; paper: the paper's own size, for a GPU.
    page
        Write the comparison page, one HTML file.
    out
        Folder for networks, measurements and results (default: out/papers/NAME).
    null
        Run the experiment's null, which claims are judged against: every network untrained, or the control it names.
    """
    from resdyn.papers import as_json, compare, get_paper, results_of, run_experiment, write_page

    if name is None:
        if page is not None:
            raise InputError("got --page without a paper, expected: resdyn paper NAME --page out.html")
        return _list_papers(json)
    chosen = get_paper(name)
    ran = None
    if networks and experiment is None:
        raise InputError(
            f"got --networks without an experiment, expected: resdyn paper {name} EXPERIMENT --networks LABEL"
        )
    if experiment is not None:
        root = None if data_root is None else str(data_root)
        ran = run_experiment(chosen, experiment, scale, out, root, quiet=json, null=null, networks=networks)
    results = results_of(chosen, out)
    if own := [
        f"{r.experiment} ({', '.join([r.scale, *r.part])})" for r in results if not r.path.is_relative_to(chosen.folder)
    ]:
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
    from resdyn.papers import compare, get_paper, names, results_of

    rows = [(name, compare(get_paper(name), results_of(get_paper(name)))) for name in names()]
    if json:
        return print_json({"papers": [_paper_row(name, compared) for name, compared in rows]})
    experiments = [f"{experiment}," for name, _ in rows for experiment in get_paper(name).experiments]
    typed = {"paper": [name for name, _ in rows], "experiments": experiments}
    listed = [
        {
            "paper": name,
            "title": get_paper(name).title,
            "experiments": ", ".join(get_paper(name).experiments),
            "claims": _headline(compared),
        }
        for name, compared in rows
    ]
    return print_table(listed, typed=typed)


def _paper_row(name: str, compared: list[ComparedExperiment]) -> dict[str, Any]:
    from resdyn.papers import get_paper
    from resdyn.papers.comparison import verdict_counts

    chosen = get_paper(name)
    return {
        "name": name,
        "title": chosen.title,
        "reference": chosen.reference,
        "experiments": [{"name": e.name, "title": e.title} for e in chosen.experiments.values()],
        "verdicts": verdict_counts(compared),
        "verdicts_by_scale": {scale: verdict_counts(compared, scale) for scale in ("paper", "small")},
    }


def _headline(compared: list[ComparedExperiment]) -> str:
    from resdyn.papers.comparison import headline

    words = {"agrees": "agree", "disagrees": "disagree"}
    parts = [
        (size, [f"{n} {words.get(verdict, verdict)}" for verdict, n in counts.items() if n])
        for size, counts in headline(compared)
    ]
    return "; ".join(f"{size}: {', '.join(said)}" if size else ", ".join(said) for size, said in parts if said)


def _print_claims(compared: list[ComparedExperiment]) -> None:
    from resdyn.papers.claims import quantity, shown

    for row in compared:
        claims = [
            {
                "claim": c.claim.claim,
                "where": c.claim.where,
                "paper": shown(c.claim.paper) if isinstance(c.claim.paper, int | float) else c.claim.paper,
                "ours": "–" if c.number is None else quantity(c.number),
                "scale": c.scale or "–",
                "verdict": f"{c.verdict}, {c.few_seeds}" if c.few_seeds else c.verdict,
            }
            for c in row.claims
        ]
        print_table(claims, title=f"{row.experiment.name}: {row.experiment.title}", styles=STYLES)
    terminal().print(_headline(compared), markup=False)


def _print_numbers(result: Result) -> None:
    from resdyn.papers.claims import quantity

    numbers = [
        {"number": key, "value": "–" if number.value is None else quantity(number), "note": number.note}
        for key, number in result.numbers.items()
    ]
    print_table(numbers, title=f"{result.experiment} at scale {result.scale}")
    terminal().print(f"result: {result.path}", markup=False)
