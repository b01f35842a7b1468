"""`resdyn compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from resdyn.cli.commands import Json
from resdyn.cli.output import print_json, quantity, terminal
from resdyn.progress import stage
from resdyn.report.comparison.page import comparison_page, opened
from resdyn.report.comparison.runs import comparability_warnings, metrics_comparison, settings_table
from resdyn.report.page import write_page


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
        Names of the runs on the page (default: what tells the paths apart).
    """
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
    console, table = terminal(), Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric")
    table.add_column("where")
    for heading in [run.title for run in runs] + (["difference"] if len(runs) == 2 else []):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [quantity(value and value["value"], value and value["standard_error"]) for value in row["values"]]
        if len(runs) == 2:
            cells.append(quantity(row["difference"], row["difference_error"]))
        places = dict.fromkeys(value["where"] or "" for value in row["values"] if value)
        table.add_row(row["title"], " / ".join(places), *cells)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    console.print(table)
    console.print(f"comparison: {page}", markup=False, soft_wrap=True)
