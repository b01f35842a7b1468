"""The documentation says what the code says: every public name once, its arguments, and a version in one place."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import resdyn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

from plain_docstrings import plain  # noqa: E402
from public_names import PACKAGES, places  # noqa: E402

napoleon = pytest.importorskip("sphinx.ext.napoleon", reason="needs the extra docs")

PUBLIC = [(package, name, value) for package, found in places().items() for name, value in found]
CALLABLE = [
    pytest.param(value, id=f"{package}.{name}")
    for package, name, value in PUBLIC
    if inspect.isroutine(value) or (inspect.isclass(value) and not issubclass(value, BaseException))
]
# Docstrings are being rewritten package by package: this becomes True when all pass, and stays.
DOCSTRINGS_ARE_COMPLETE = True


def documented(value: Any) -> set[str]:
    """The arguments or attributes that napoleon finds in a docstring."""
    settings = napoleon.Config(napoleon_google_docstring=True, napoleon_numpy_docstring=False, napoleon_use_param=True)
    constructor = inspect.getdoc(value.__init__) if inspect.isclass(value) and "__init__" in vars(value) else None
    lines = plain([*(inspect.getdoc(value) or "").splitlines(), "", *(constructor or "").splitlines()])
    text = str(napoleon.GoogleDocstring(lines, settings, what="function"))
    found = re.findall(r"^\s*(?::param |:ivar |:vartype |\.\. attribute:: )([^:\n]+):?", text, flags=re.MULTILINE)
    return {name.strip().replace("\\", "").lstrip("*") for names in found for name in names.split(",")}


def misread(value: Any) -> list[str]:
    """What napoleon takes for a type: text before a colon, in the first line of Returns or of a property."""
    settings = napoleon.Config(napoleon_google_docstring=True, napoleon_numpy_docstring=False)
    if inspect.isclass(value):
        members = [member for name, member in vars(value).items() if not name.startswith("_")]
        return [
            line for member in members if inspect.isroutine(member) or is_property(member) for line in misread(member)
        ]
    what = "property" if is_property(value) else "function"
    lines = plain((inspect.getdoc(value) or "").splitlines())
    text = str(napoleon.GoogleDocstring(lines, settings, what=what, name="value"))
    return re.findall(r"^:r?type: (.*)$", text, flags=re.MULTILINE)


def is_property(member: Any) -> bool:
    return isinstance(member, property | functools.cached_property)


def expected(value: Any) -> set[str]:
    """The parameters of a function, and of what makes an instance of a class."""
    if getattr(value, "_is_protocol", False):  # nobody makes one
        return set()
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:  # a class with a constructor written in C
        return set()
    return {p.name for p in parameters if not p.name.startswith("_") and p.name != "self"}


def test_every_public_name_is_documented_at_one_place():
    at = [f"{package}.{name}" for package, name, _ in PUBLIC]
    assert len(at) == len(set(at))
    things = [id(value) for _, _, value in PUBLIC if inspect.isclass(value) or inspect.isroutine(value)]
    assert len(things) == len(set(things))
    top = {name for package, name, _ in PUBLIC if package == "resdyn"}
    assert top == {n for n in resdyn.__all__ if n != "__version__" and not inspect.ismodule(getattr(resdyn, n))}


def test_every_public_package_has_a_page():
    packages = {f"resdyn.{name}" for name in resdyn._MODULES}
    assert packages <= set(PACKAGES)
    assert all((importlib.import_module(package).__doc__ or "").strip() for package in PACKAGES)


@pytest.mark.parametrize("value", CALLABLE)
def test_a_docstring_names_every_argument(value, request):
    if not DOCSTRINGS_ARE_COMPLETE:
        request.applymarker(pytest.mark.xfail(reason="being rewritten"))
    assert (inspect.getdoc(value) or "").strip()
    missing = expected(value) - documented(value)
    assert not missing, f"not in Args (or Attributes): {', '.join(sorted(missing))}"


@pytest.mark.parametrize("value", CALLABLE)
def test_what_is_returned_is_not_shown_as_a_type(value):
    assert not misread(value)


def described_metrics() -> set[str]:
    """Names of the rows of a summary, from the tables of (title, reading, source) in `resdyn.metrics.summary`."""
    summary = importlib.import_module("resdyn.metrics.summary")
    inner = [f"{summary.__name__}.{found.name}" for found in pkgutil.iter_modules(getattr(summary, "__path__", []))]
    tables = [
        table
        for module in [summary, *map(importlib.import_module, inner)]
        for table in vars(module).values()
        if isinstance(table, dict) and all(isinstance(row, tuple) and len(row) == 3 for row in table.values())
    ]
    return {name for table in tables for name in table}


def test_every_metric_is_explained_on_the_page_about_reading_numbers():
    page = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
    names = described_metrics()
    assert {"line_shape_score", "nearest_mean_disagreement", "noise_amplitude"} <= names
    assert not {name for name in names if f"`{name}`" not in page}


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {resdyn.__version__}\n" in citation


def test_docstrings_are_read_as_the_text_that_they_are():
    assert plain(["|J|_F and *x* of `a_b` or h_ ... end"]) == [r"\|J\|_F and \*x\* of `a_b` or h\_ … end"]
    assert plain(["Args:", "    *args: h_", ">>> a | b"]) == ["Args:", r"    *args: h\_", ">>> a | b"]
    code = ["    for k in x:", "        |k|"]
    assert plain(["A loop.", "", *code, "", "Next |k|."])[:6] == ["A loop.", "", "::", "", *code]
    assert plain(["`Section`s of `a`."]) == [r"`Section`\ s of `a`."]
    assert plain(["Two lines of `|a|", "|b|` and |c|"]) == ["Two lines of `|a|", r"|b|` and \|c\|"]
    terms = ["Terms:", "", "``one``", "    |x|", "", "    more", "``two``", "    y"]
    assert plain(terms) == [line.replace("|", r"\|") for line in terms]
