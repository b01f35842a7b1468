"""The gallery: every page has its numbers, its pictures and its report, and says what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resdyn.report.page import PLOTLY_VERSION

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
RESULTS = sorted((GALLERY / "results").glob("*.json"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_network_has_its_page_pictures_report_and_provenance(file):
    result = json.loads(file.read_text(encoding="utf-8"))
    page = (GALLERY / f"{file.stem}.md").read_text(encoding="utf-8")
    assert result["conclusion"] in page
    assert all(row["verdict"] in page for row in result["verdicts"])
    assert f"python docs/gallery/make.py {file.stem}" in page
    for which in ("trained", "untrained"):
        for picture in ("principal_trajectories", "coupling_grid"):
            assert (GALLERY / "pictures" / f"{file.stem}-{which}-{picture}.png").stat().st_size < 200_000
    report = (GALLERY / "reports" / f"{file.stem}.html").read_text(encoding="utf-8")
    assert f"/* plotly {PLOTLY_VERSION} */" in report
    assert len(report) < 2_000_000
    assert {"commit", "versions", "machine", "command"} <= result["provenance"].keys()
    assert f"({file.stem}.md)" in (GALLERY / "table.md").read_text(encoding="utf-8")


def test_no_weights_lie_in_the_gallery():
    kept = {file.suffix for file in GALLERY.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert kept <= {".md", ".py", ".json", ".png", ".html"}
    assert RESULTS
