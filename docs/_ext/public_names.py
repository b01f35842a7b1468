"""The public names of resdyn, each at the one place where it is documented."""

import importlib
import inspect
from typing import Any

import resdyn

ORDER = (
    "resdyn",
    "resdyn.stream",
    "resdyn.linalg",
    "resdyn.probes",
    "resdyn.store",
    "resdyn.metrics",
    "resdyn.report",
    "resdyn.accessor",
    "resdyn.interventions",
    "resdyn.interventions.pruning",
    "resdyn.interventions.transfer",
    "resdyn.monitor",
    "resdyn.integrations",
    "resdyn.data",
    "resdyn.models",
    "resdyn.nets",
    "resdyn.training",
    "resdyn.papers",
    "resdyn.errors",
)
PACKAGES = (*ORDER, *sorted({f"resdyn.{name}" for name in resdyn._MODULES} - {*ORDER}))


def names_of(package: str) -> list[str]:
    """`__all__` of a package; without one, the public classes and functions that it defines."""
    module = importlib.import_module(package)
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == package
    )


def places() -> dict[str, list[tuple[str, Any]]]:
    """package -> (name, object), where a name that several packages offer belongs to the first of them."""
    seen: set[int] = set()
    table: dict[str, list[tuple[str, Any]]] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        table[package] = []
        for name in names_of(package):
            value = getattr(module, name)
            if name.startswith("__") or inspect.ismodule(value) or id(value) in seen:
                continue
            if inspect.isclass(value) or inspect.isroutine(value):  # constants may be equal and yet different names
                seen.add(id(value))
            table[package].append((name, value))
    return table
