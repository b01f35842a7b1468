"""Which package may import which: what `lint-imports` cannot say."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import resdyn

ROOT = Path(resdyn.__file__).parent
PUBLIC = (
    "resdyn",
    "resdyn.data",
    "resdyn.errors",
    "resdyn.interventions",
    "resdyn.interventions.transfer",
    "resdyn.linalg",
    "resdyn.metrics",
    "resdyn.models",
    "resdyn.monitor",
    "resdyn.nets",
    "resdyn.phenomena",
    "resdyn.probes",
    "resdyn.provenance",
    "resdyn.report",
    "resdyn.report.theme",
    "resdyn.store",
    "resdyn.stream",
    "resdyn.training",
    "resdyn.transporting",
)


def imports(file: Path) -> list[tuple[str, str]]:
    """(module, name) of every `from module import name` of ours in a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "resdyn"
        for alias in node.names
    ]


@pytest.mark.parametrize("file", sorted((ROOT / "papers").rglob("*.py")), ids=lambda file: file.stem)
def test_papers_are_clients_that_import_public_names_alone(file):
    for module, name in imports(file):
        if module.startswith("resdyn.papers") or f"{module}.{name}" == "resdyn.papers":
            continue
        assert module in PUBLIC, f"{file.name} imports {name} from {module}, which is not public"
        assert name in importlib.import_module(module).__all__, f"{name} is not a public name of {module}"


@pytest.mark.parametrize("file", sorted(ROOT.rglob("__init__.py")), ids=lambda file: file.parent.name)
def test_no_module_is_hidden_by_a_name_that_its_package_imports(file):
    submodules = {path.stem for path in file.parent.glob("*.py")} | {path.name for path in file.parent.iterdir()}
    package = ".".join(("resdyn", *file.parent.relative_to(ROOT).parts))
    hidden = {name for module, name in imports(file) if name in submodules and module != package}
    assert not hidden


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_exists(module):
    loaded = importlib.import_module(module)
    assert all(hasattr(loaded, name) for name in loaded.__all__)
    assert len(set(loaded.__all__)) == len(loaded.__all__)


def test_a_star_import_leaves_the_builtin_open_alone():
    assert "open" not in resdyn.__all__
    assert resdyn.open is resdyn.open_store


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("resdyn.noise", "resdyn.interventions.noise", "noise_response"),
        ("resdyn.pruning", "resdyn.interventions.pruning", "prune"),
        ("resdyn.transfer", "resdyn.interventions.transfer", "to_plain"),
        ("resdyn.training.monitor", "resdyn.monitor", "Monitor"),
    ],
)
def test_a_module_that_moved_still_imports_with_a_warning(old, new, name):
    with pytest.warns(DeprecationWarning, match=f"{old} has moved to {new}"):
        moved = importlib.import_module(old)
    assert getattr(moved, name) is getattr(importlib.import_module(new), name)
