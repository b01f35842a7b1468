"""Probes by name, as the command line writes them."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from resdyn import _checks as checks
from resdyn.errors import InputError, did_you_mean
from resdyn.probes.coupling import Coupling
from resdyn.probes.cushion import Cushion
from resdyn.probes.features import Features
from resdyn.probes.robustness import Robustness
from resdyn.probes.singular import Singular
from resdyn.probes.spectrum import Spectrum
from resdyn.probes.trajectory import Trajectory

Probe = Trajectory | Singular | Coupling | Spectrum | Robustness | Cushion | Features
PROBES: dict[str, type[Probe]] = {
    probe.name: probe for probe in (Trajectory, Singular, Coupling, Spectrum, Robustness, Cushion, Features)
}


def parse_probes(text: str) -> tuple[Probe, ...]:
    """Probes from a list of names, each with settings in brackets if need be.

    Raises `InputError` for an unknown name, an unknown setting, or what is not such a list.

    >>> parse_probes("trajectory, singular(k=30, method=dense)")
    (Trajectory(), Singular(k=30, method='dense', tol=0.0001, vectors=False))
    """
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)]
    return tuple(_parse_probe(part) for part in parts)


def resolve_probes(probes: str | Sequence[str | Probe]) -> tuple[Probe, ...]:
    """The probes to run, each once: coupling brings the singular probe with it, whose vectors it needs."""
    given = parse_probes(probes) if isinstance(probes, str) else _each(probes)
    by_name = {probe.name: probe for probe in given}
    if len(by_name) != len(given) or not given:
        raise InputError(f"got probes {[p.name for p in given]}, expected at least one, and each once")
    if "coupling" in by_name:
        by_name.setdefault("singular", Singular())
    return tuple(by_name[name] for name in PROBES if name in by_name)


def fit_probes(probes: Sequence[Probe], stream: Any) -> tuple[Probe, ...]:
    """The same probes with every k decided: by default 20 triplets, or all of the smallest block."""
    by_name = {probe.name: probe for probe in probes}
    singular = by_name.get("singular")
    if isinstance(singular, Singular):
        by_name["singular"] = singular = singular.fitted(stream)
        if "coupling" in by_name:
            by_name["coupling"] = _resolve_coupling(by_name["coupling"], singular)
    return tuple(by_name.values())


def _resolve_coupling(coupling: Probe, singular: Probe) -> Coupling:
    assert isinstance(coupling, Coupling)
    assert isinstance(singular, Singular)
    assert singular.k is not None, "fitted before"
    k = singular.k if coupling.k is None else coupling.k
    if k > singular.k:
        raise InputError(f"coupling: got k={k}, more than the {singular.k} triplets of singular; raise singular's k")
    return dataclasses.replace(coupling, k=k)


def _each(probes: Sequence[str | Probe]) -> tuple[Probe, ...]:
    if not isinstance(probes, list | tuple):
        raise checks.wrong("probes", probes, "names of probes, or a list of names and of probes")
    given: list[Probe] = []
    for probe in probes:
        if isinstance(probe, str):
            given += parse_probes(probe)
        elif isinstance(probe, Probe):
            given.append(probe)
        else:
            raise InputError(
                f"got the probe {probe!r}, expected a name or one of resdyn.probes, such as Singular(k=30)"
            )
    return tuple(given)


def _parse_probe(text: str) -> Probe:
    match = re.fullmatch(r"(\w+)\s*(?:\((.*)\))?", text, re.DOTALL)
    if match is None:
        raise InputError(f"got the probe '{text}', expected a name with settings, such as 'singular(k=30)'")
    name, settings = match.group(1), match.group(2) or ""
    if name not in PROBES:
        hint = did_you_mean(name, PROBES)
        raise InputError(f"unknown probe '{name}'; there are: {', '.join(PROBES)}.{hint}")
    return PROBES[name](**_parse_settings(name, settings))


def _parse_settings(name: str, text: str) -> dict[str, Any]:
    known = [field.name for field in dataclasses.fields(PROBES[name])]
    settings = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in known or not equals:
            raise InputError(
                f"{name}: got '{item}', expected key=value, keys: {', '.join(known) or 'none'}."
                + did_you_mean(key, known)
            )
        settings[key] = _value(value)
    return settings


def _value(text: str) -> Any:
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
    except (ValueError, SyntaxError):
        return text
