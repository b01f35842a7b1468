"""The report page: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import xarray as xr
from markupsafe import Markup

from resdyn import _checks as checks
from resdyn._files import whole_file
from resdyn._remember import remembering
from resdyn._version import __version__
from resdyn.errors import InputError
from resdyn.metrics.properties.concluding import check_null, judged
from resdyn.metrics.summary import summarize
from resdyn.report.header import facts, lead, tiles
from resdyn.report.metrics_view import metrics_view
from resdyn.report.notes import dataset_notes
from resdyn.report.paper import write_paper_figures
from resdyn.report.provenance import provenance_rows
from resdyn.report.sections import build_sections, outline
from resdyn.report.stream_view import stream_view
from resdyn.report.theme import template
from resdyn.report.verdicts_view import verdicts_view

PLOTLY_VERSION = "4.1.1"
STATIC = resources.files(__package__) / "static"


def write_report(
    ds: xr.Dataset,
    path: str | Path,
    figures_dir: str | Path | None = None,
    title: str | None = None,
    null: xr.Dataset | None = None,
) -> Path:
    """Write the report of a captured dataset as one self-contained HTML file.

    Identical input gives identical bytes.

    Args:
        ds: What `resdyn.open_store` returns, or any part of it; the page says what is missing.
        path: The file to write.
        figures_dir: A folder into which every figure is also written as PDF and PNG.
        title: Heading of the page (default: the model and its data).
        null: The same measurement of the same network untrained (`resdyn.untrained_twin`), which the verdicts compare
            with; without one they never say that a property holds.

    Returns:
        The path of the page.

    Raises:
        InputError: `ds` is not a dataset, `null` is of another measurement, or a file cannot be written.
    """
    if not isinstance(ds, xr.Dataset):
        got = type(ds).__name__
        raise InputError(f"got {got}, expected an xarray.Dataset: pass what resdyn.open_store(store) returns")
    path, title = checks.new_file("path", path), None if title is None else checks.text("title", title)
    figures_dir = None if figures_dir is None else checks.path("figures_dir", figures_dir)
    path = write_page(path, render_page(ds, title, null))
    if figures_dir is not None:
        with _writing(figures_dir):
            write_paper_figures(ds, Path(figures_dir))
    return path


def write_page(path: str | Path, page: str) -> Path:
    """Write a page as a whole or not at all: whoever opens it finds the old one or the new one.

    Args:
        path: The file to write; missing folders are made.
        page: The HTML text.

    Returns:
        The path of the page.

    Raises:
        InputError: The path is not that of a file, or cannot be written.
    """
    path = checks.new_file("path", path)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, page)
    return path


@contextlib.contextmanager
def _writing(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename2 or error.filename or path
        raise InputError(f"cannot write {place}: {error.strerror}; choose another path") from error


def _write_whole(path: Path, text: str) -> None:
    """Whoever opens the page finds the old one or the new one, never a half."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def render_page(ds: xr.Dataset, title: str | None = None, null: xr.Dataset | None = None) -> str:
    """The HTML text of the report (see `write_report`).

    Args:
        ds: A captured dataset, or any part of one.
        title: Heading of the page (default: the model and its data).
        null: As for `write_report`.

    Returns:
        The whole page, with style, script and plotly in it.
    """
    with remembering():
        return _rendered(ds, title, null)


def _rendered(ds: xr.Dataset, title: str | None, null: xr.Dataset | None) -> str:
    rows = summarize(ds)
    metrics = [row.as_row() for row in rows]
    if null is not None:
        check_null(ds, null)
    found = judged(ds, rows, None if null is None else summarize(null))
    return render(
        "page.html.jinja",
        title=title or f"{ds.attrs.get('model', 'A residual network')} on {ds.attrs.get('data', 'its data')}",
        lead=lead(ds),
        verdicts=verdicts_view(found, null),
        facts=facts(ds),
        tiles=tiles(metrics, [section for _, section, _ in outline(ds)]),
        notes=dataset_notes(ds),
        stream=stream_view(ds),
        sections=build_sections(ds, metrics, figure_json),
        metrics=metrics_view(metrics),
        provenance=provenance_rows(ds),
    )


def render(template_name: str, **content: Any) -> str:
    """A page with the style, the script and plotly embedded."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("resdyn.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    plotly_js, js = static_text(f"plotly-cartesian-{PLOTLY_VERSION}.min.js"), static_text("page.js")
    return environment.get_template(template_name).render(
        **content,
        policy=_policy(plotly_js, js),
        version=__version__,
        plotly_version=PLOTLY_VERSION,
        css=static_text("page.css"),
        js=js,
        plotly_js=plotly_js,
        themes=script_json({scheme: template(scheme) for scheme in ("light", "dark")}),
    )


def _policy(*scripts: str) -> str:
    """What a browser lets the page do: run the scripts that it was written with, and fetch nothing."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    allowed = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {hashes}; {allowed}"


def figure_json(figure: go.Figure) -> Markup:
    """Data, layout and drop-down of a figure; the page adds the template and draws the drop-down itself."""
    content = json.loads(figure.to_json())
    layout = content["layout"]
    layout.pop("template", None)
    menus = layout.pop("updatemenus", [])
    entries = [{"label": html.unescape(b["label"]), "args": b["args"]} for m in menus for b in m["buttons"]]
    return script_json({"data": content["data"], "layout": layout, "menu": entries or None})


def script_json(value: Any) -> Markup:
    """JSON that cannot end or open a script element: every <, > and & is written as an escape."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def static_text(name: str) -> Markup:
    return Markup((STATIC / name).read_text(encoding="utf-8"))
