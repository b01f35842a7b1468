"""`resdyn compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from resdyn._format import with_error
from resdyn.cli.options import Json
from resdyn.cli.output import print_json, print_table, terminal


def compare(
    *stores: Path,
    out: Path = Path("comparison.html"),
    titles: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    json: Json = False,
) -> None:
    """Put two or more captured runs (checkpoints, seeds, architectures) side by side on one HTML page.

    Parameters
    ----------
    stores
        Stores made by capture, two or more.
    out
        The page.
    titles
        Names of the runs on the page (default: their models, or what differs between the paths).
    """
    from resdyn.progress import stage
    from resdyn.report.comparison.page import comparison_page, opened
    from resdyn.report.comparison.runs import comparability_warnings, metrics_comparison, settings_table
    from resdyn.report.page import write_page

    with stage("reading the runs"):
        runs = opened(stores, titles or None)
    page = write_page(out, comparison_page(runs))
    rows, notes = metrics_comparison(runs), comparability_warnings(runs)
    if json:
        named = [{"title": run.title, "store": str(path)} for run, path in zip(runs, stores, strict=True)]
        print_json(
            {
                "runs": named,
                "notes": notes,
                "settings": settings_table(runs),
                "metrics": rows,
                "paths": {"comparison": str(page)},
            }
        )
        return
    _print([run.title for run in runs], rows, notes, page)


def _print(titles: list[str], rows: list[dict[str, Any]], notes: list[str], page: Path) -> None:
    import pandas as pd

    from resdyn.report.comparison.runs import chances_text, value_text

    console, pair = terminal(), len(titles) == 2
    headings = [*titles, "difference"] if pair else titles
    table = []
    for row in rows:
        cells = [value_text(value) for value in row["values"]]
        if pair:
            difference = row["difference"]
            cells.append("-" if difference is None else with_error(difference, row["difference_error"]))
        places = dict.fromkeys(value["where"] or "" for value in row["values"] if value)
        table.append([row["title"], " / ".join(places), *cells, chances_text(row)])
    for note in notes:
        console.print(f"note: {note}", markup=False)
    columns = ["metric", "where", *headings, "by chance"]
    print_table(pd.DataFrame(table, columns=columns), right=columns[2:])
    console.print(f"comparison: {page}", markup=False, soft_wrap=True)
