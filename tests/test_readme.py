"""The README's example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_readme_example_runs(tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert "4 residual blocks" in capsys.readouterr().out
