"""Make pages of the gallery: measure a network that others trained and its untrained twin, and write what is seen.

    python docs/gallery/make.py NAME [NAME ...]     one page each (names: those of networks.py), and the table over all
    python docs/gallery/make.py --draw NAME ...     the same from stores that are finished, without the network
    python docs/gallery/make.py                     the table alone, from the results that are there

Run by hand, with the packages of the extra `gallery`, and `$RESDYN_DATA` and `$RESDYN_MODELS` for the CIFAR networks.
Stores go to out/gallery and are resumed; what is committed are the page, its numbers with provenance, pictures, and the
report without plotly, which the build of the site puts in.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import xarray as xr
from measure import measured, stored
from networks import NETWORKS
from pages import page, rounded, seen, table

import resdyn
from resdyn._files import whole_file
from resdyn.metrics.properties import conclusion, verdicts
from resdyn.metrics.summary import metrics_table
from resdyn.papers.results import provenance
from resdyn.report import render_page
from resdyn.report.page import PLOTLY_VERSION, static_text

HERE = Path(__file__).parent
FIGURES = ("principal_trajectories", "coupling_grid")
PLACEHOLDER = f"/* plotly {PLOTLY_VERSION} */"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NETWORKS, []])
    parser.add_argument("--draw", action="store_true", help="from stores that are finished")
    asked = parser.parse_args()
    for name in asked.names:
        make(name, *(stored if asked.draw else measured)(name))
    results = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((HERE / "results").glob("*.json"))]
    write(HERE / "table.md", table([r for name in NETWORKS for r in results if r["name"] == name]))


def make(name: str, trained: xr.Dataset, untrained: xr.Dataset, shares: dict[str, Any]) -> None:
    """The files of one page."""
    found = verdicts(trained, untrained)
    result = {
        "name": name,
        "title": NETWORKS[name].title,
        "conclusion": conclusion(found, null=True),
        "verdicts": [{key: row[key] for key in ("name", "title", "verdict", "reason")} for row in map(as_row, found)],
        "metrics": {"trained": numbers(trained), "untrained": numbers(untrained)},
        "identity_share": shares,
        "blocks": trained.sizes["block"],
        "samples": {"trained": trained.sizes["sample"], "untrained": untrained.sizes["sample"]},
        "weights_hash": trained.attrs["weights_hash"],
        "captured_by": trained.attrs["command"],
        "provenance": provenance(0) | {"command": f"python docs/gallery/make.py {name}"},
    }
    result = rounded(result)
    write(HERE / "results" / f"{name}.json", json.dumps(result, indent=1) + "\n")
    for which, ds in (("trained", trained), ("untrained", untrained)):
        draw(ds, HERE / "pictures", f"{name}-{which}")
    report = render_page(trained, NETWORKS[name].title, untrained)
    plotly = static_text(f"plotly-cartesian-{PLOTLY_VERSION}.min.js")
    write(HERE / "reports" / f"{name}.html", report.replace(plotly, PLACEHOLDER))
    write(HERE / f"{name}.md", page(NETWORKS[name], result, seen(result)))


def numbers(ds: xr.Dataset) -> list[dict[str, object]]:
    """The rows of the metrics table, without their words."""
    kept = ("name", "value", "standard_error", "n", "where", "chance")
    return [{key: row[key] for key in kept} for row in metrics_table(ds)]


def as_row(verdict: resdyn.metrics.PropertyVerdict) -> dict[str, str]:
    return verdict.as_row()


def draw(ds: xr.Dataset, folder: Path, stem: str) -> None:
    """The figures for print, as pictures of moderate size."""
    folder.mkdir(exist_ok=True)
    for name in FIGURES:
        figure = ds.resdyn.paper_figure(name)
        if figure is not None:
            figure.savefig(folder / f"{stem}-{name}.png", dpi=110, bbox_inches="tight", metadata={"Software": None})


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
