"""The code of the tutorials runs as it is, and what the pages link to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted(path for path in (ROOT / "docs" / "tutorials").glob("*.md") if path.stem != "index")
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n((?::[\w-]+:[^\n]*\n)*)(.*?)^```", flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_every_cell_of_a_tutorial_runs_in_its_order(path, tmp_path, monkeypatch):
    text = path.read_text(encoding="utf-8")
    if "transformers" in text:
        pytest.importorskip("transformers")
    cells = list(CELL.finditer(text))
    assert cells, f"{path.name} has no code cell: begin its blocks with ```{{code-cell}}"
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": path.stem}
    with torch.random.fork_rng():
        for cell in cells:
            lines_before = text[: cell.start(2)].count("\n")
            exec(compile("\n" * lines_before + cell[2], str(path), "exec", dont_inherit=True), scope)


def test_every_page_that_is_linked_is_there():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("src/resdyn/papers/*/README.md")]
    for page in (page for page in pages if "_generated" not in page.parts):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            generated = "_generated/" in target  # made by `make docs`, which fails where one is missing
            assert generated or (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
