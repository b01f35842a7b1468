"""The reports of the gallery, which are kept without plotly: the site gets them whole, beside their pages."""

from pathlib import Path

from sphinx.application import Sphinx

from resdyn.report.page import PLOTLY_VERSION, static_text

PLACEHOLDER = f"/* plotly {PLOTLY_VERSION} */"


def write(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    plotly = static_text(f"plotly-cartesian-{PLOTLY_VERSION}.min.js")
    out = Path(app.outdir) / "gallery"
    out.mkdir(exist_ok=True)
    for kept in sorted((Path(app.srcdir) / "gallery" / "reports").glob("*.html")):
        text = kept.read_text(encoding="utf-8")
        if PLACEHOLDER not in text:
            raise ValueError(f"{kept} was made with another plotly; make its page again")
        (out / f"{kept.stem}-report.html").write_text(text.replace(PLACEHOLDER, plotly), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
