"""The tutorials are executed by `make docs`; here: that they can be, and that what the pages link to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted(path for path in (ROOT / "docs" / "tutorials").glob("*.md") if path.stem != "index")
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n((?::[\w-]+:[^\n]*\n)*)(.*?)^```", flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_has_cells_that_compile(path):
    text = path.read_text(encoding="utf-8")
    cells = list(CELL.finditer(text))
    assert cells, f"{path.name} has no code cell: begin its blocks with ```{{code-cell}}"
    for cell in cells:
        lines_before = text[: cell.start(2)].count("\n")
        compile("\n" * lines_before + cell[2], str(path), "exec", dont_inherit=True)


def test_a_cell_that_fails_fails_the_build():
    assert "nb_execution_raise_on_error = True" in (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")


def test_every_page_that_is_linked_is_there():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("src/resdyn/papers/*/README.md")]
    for page in (page for page in pages if "_generated" not in page.parts):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            generated = "_generated/" in target  # made by `make docs`, which fails where one is missing
            assert generated or (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
