"""Docstrings: examples run, and every parameter and field of the public names is described."""

import dataclasses
import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import resdyn

ROOT = Path(resdyn.__file__).parent
EXAMPLES = sorted(
    ".".join(("resdyn", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
DESCRIBED = (
    "resdyn",
    "resdyn.data",
    "resdyn.errors",
    "resdyn.integrations",
    "resdyn.interventions",
    "resdyn.interventions.pruning",
    "resdyn.interventions.transfer",
    "resdyn.linalg",
    "resdyn.metrics",
    "resdyn.models",
    "resdyn.monitor",
    "resdyn.nets",
    "resdyn.papers",
    "resdyn.phenomena",
    "resdyn.probes",
    "resdyn.report",
    "resdyn.report.figures",
    "resdyn.store",
    "resdyn.stream",
    "resdyn.training",
    "resdyn.transporting",
)


def described(package):
    """(name, parameters, docstring) of the public functions, classes and methods of a package."""
    for name in importlib.import_module(package).__all__:
        item = getattr(importlib.import_module(package), name)
        if inspect.isclass(item) and not issubclass(item, BaseException):
            yield name, described_parts(item), described_by(item)
            not_methods = {"forward", *getattr(item, "__dataclass_fields__", ())}
            for key, method in vars(item).items():
                if not key.startswith("_") and key not in not_methods and inspect.isfunction(method):
                    yield f"{name}.{key}", parameters(method), method.__doc__
        elif inspect.isfunction(item):
            yield name, parameters(item), item.__doc__


def described_parts(item):
    """Fields of a dataclass or named tuple, otherwise the parameters that a class is made with."""
    if dataclasses.is_dataclass(item):
        return [field.name for field in dataclasses.fields(item) if not field.name.startswith("_")]
    if getattr(item, "_is_protocol", False) or issubclass(item, BaseException):
        return []
    return list(getattr(item, "_fields", ())) or parameters(item.__init__)


def described_by(item):
    """The docstring of a class, with that of a constructor that only its package calls."""
    constructor = vars(item).get("__init__")
    return "\n".join(text for text in (item.__doc__, getattr(constructor, "__doc__", None)) if text)


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_of_docstrings_run(module):
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried
    assert not failed


@pytest.mark.parametrize("package", DESCRIBED)
def test_every_parameter_of_a_public_name_is_described(package):
    lacking = []
    for name, expected, docstring in described(package):
        entries = re.findall(r"^\s*\**(\w+): ", docstring or "", flags=re.MULTILINE)
        inherited = docstring is not None and "as in ``" in docstring.lower()
        lacking += [f"{name}({parameter})" for parameter in expected if parameter not in entries and not inherited]
        if not docstring:
            lacking.append(name)
    assert not lacking
