"""The tutorials run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_every_code_block_of_a_tutorial_runs_in_its_order(path, tmp_path, monkeypatch):
    text = path.read_text(encoding="utf-8")
    if "transformers" in text:
        pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": path.stem, "TEXT": str(ROOT / "README.md")}
    with torch.random.fork_rng():
        for block in re.finditer(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
            lines_before = text[: block.start(1)].count("\n")
            exec(compile("\n" * lines_before + block[1], str(path), "exec", dont_inherit=True), scope)


def test_every_page_that_is_linked_is_there():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("src/resdyn/papers/*/README.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
