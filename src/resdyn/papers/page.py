"""The comparison page: every claim of a paper beside ours, with our figures; one HTML file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from resdyn import __version__
from resdyn.papers.claims import VERDICTS, quantity, shown
from resdyn.papers.comparison import (
    ComparedClaim,
    ComparedExperiment,
    headline,
    one_seed_count,
    same_name_other_weights,
)
from resdyn.papers.paper import Paper
from resdyn.papers.pictures import draw
from resdyn.papers.results import Result
from resdyn.report import write_page as write_whole_page


def write_page(paper: Paper, compared: Sequence[ComparedExperiment], path: str | Path) -> Path:
    """Write the comparison page: every claim beside our number, with our figures, as one HTML file.

    Identical results give identical bytes.

    Args:
        paper: The paper.
        compared: What `compare` returned for it.
        path: The file to make or replace; its folder is made if it is not there.

    Returns:
        The path of the page.

    Raises:
        InputError: If the file cannot be written.
    """
    return write_whole_page(path, render(paper, compared))


def render(paper: Paper, compared: Sequence[ComparedExperiment]) -> str:
    """The HTML text of the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("resdyn.papers"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("paper.html.jinja").render(
        paper=paper,
        headline=headline(compared),
        css={verdict: verdict.replace(" ", "-") for verdict in VERDICTS},
        one_seed=one_seed_count(compared),
        other_weights=same_name_other_weights([result for row in compared for result in row.results]),
        experiments=[_experiment(row) for row in compared],
        version=__version__,
    )


def _experiment(row: ComparedExperiment) -> dict[str, Any]:
    shown = {  # each of the largest scale that has it
        key: picture | {"scale": result.scale}
        for result in reversed(row.results)
        for key, picture in result.pictures.items()
    }
    return {
        "name": row.experiment.name,
        "title": row.experiment.title,
        "judged": [_claim(claim) for claim in row.claims if claim.verdict != "not run"],
        "not_run": [_claim(claim) for claim in row.claims if claim.verdict == "not run"],
        "table": _cells(row.claims),
        "pictures": [picture | {"image": draw(picture)} for picture in shown.values()],
        "results": [_result(result) for result in row.results],
    }


def _cells(claims: Sequence[ComparedClaim]) -> dict[str, Any]:
    """The paper's table: names of its rows and columns, and the claim of each cell that has one."""
    cells = {claim.claim.cell: _claim(claim) for claim in claims if claim.claim.cell}
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*cells)) if cells else ([], [])
    return {"columns": columns, "rows": [(row, [cells.get((row, column)) for column in columns]) for row in rows]}


def _claim(row: ComparedClaim) -> dict[str, Any]:
    paper = row.claim.paper
    return {
        "text": row.claim.claim,
        "where": row.claim.where,
        "paper": shown(paper) if isinstance(paper, int | float) else paper,
        "ours": "–" if row.number is None else quantity(row.number),
        "note": "" if row.number is None else row.number.note,
        "scale": row.scale or "–",
        "null": "" if row.null is None or row.null.value is None else quantity(row.null),
        "seeds": row.few_seeds,
        "verdict": row.verdict,
        "css": row.verdict.replace(" ", "-"),
        "why": row.why,
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "scale": result.scale,
        "part": ", ".join(result.part),
        "complete": result.complete,
        "numbers": [(key, "–" if n.value is None else quantity(n), n.note) for key, n in result.numbers.items()],
        "networks": [_network(name, row) for name, row in result.networks.items()],
        "provenance": [(k, v if isinstance(v, str) else json.dumps(v)) for k, v in result.provenance.items()],
    }


def _network(name: str, row: dict[str, Any]) -> dict[str, Any]:
    options, train = row.get("options"), row["train_accuracy"]
    return {
        "name": name,
        "what": f"{row['network']} {json.dumps(options)}" if options else row["network"],
        "data": "; ".join([_data(row), *row.get("data_notes", [])]),
        "recipe": _recipe(row["recipe"]) if "recipe" in row else f"weights from {row['weights']}",
        "train": "–" if train is None else f"{train:.2%}",
        "test": f"{row['test_accuracy']:.2%}",
    }


def _data(row: dict[str, Any]) -> str:
    images = f", {row['images']} images" if "images" in row else ""
    return f"{row['data']}{images}" + (f", {row['classes']} classes" if row.get("classes") else "")


def _recipe(recipe: dict[str, Any]) -> str:
    return (
        f"{recipe['epochs']} epochs, lr {recipe['lr']:g}, weight decay {recipe['weight_decay']:g}, "
        f"batch {recipe['batch_size']}, seed {recipe['seed']}"
        + "".join(f", {recipe[name]}" for name in ("autocast", "memory_format") if name in recipe)
    )
