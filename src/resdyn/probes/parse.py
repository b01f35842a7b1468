"""Probes by name, as the command line writes them, and what a set of them brings along."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from resdyn import _checks as checks
from resdyn.errors import InputError, did_you_mean
from resdyn.probes.protocol import Probe, traits
from resdyn.probes.registry import check_probe, in_order, probe_class
from resdyn.stream import Stream


def parse_probes(text: str) -> tuple[Probe, ...]:
    """Probes from a list of names, each with settings in brackets where they are not the default ones.

    Args:
        text: Such as "trajectory, singular(k=30)".

    Returns:
        The probes, in the order of the text.

    Raises:
        InputError: An unknown name or setting, or what is not such a list.

    Example:
        >>> parse_probes("trajectory, singular(k=30, method=dense)")
        (Trajectory(), Singular(k=30, method='dense', tol=0.0001, vectors=False, delta=0.05))
    """
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)]
    return tuple(_parse_probe(part) for part in parts)


def resolve_probes(probes: str | Sequence[str | Probe]) -> tuple[Probe, ...]:
    """The probes to run, each once, in their order, with those that they require.

    Args:
        probes: Names as text, or a list of names and of probes.

    Returns:
        The probes; `coupling` brings the `singular` probe with it, whose vectors it needs.

    Raises:
        InputError: None, one of them twice, an unknown name, or an object that is not a probe.

    Example:
        >>> [probe.name for probe in resolve_probes("coupling, trajectory")]
        ['trajectory', 'singular', 'coupling']
    """
    given = parse_probes(probes) if isinstance(probes, str) else _each(probes)
    by_name = {probe.name: probe for probe in given}
    if len(by_name) != len(given) or not given:
        raise InputError(f"got probes {[p.name for p in given]}, expected at least one, and each once")
    waiting = list(given)
    while waiting:
        for name in traits(waiting.pop()).requires:
            if name not in by_name:
                by_name[name] = check_probe(_made(probe_class(name), {}))
                waiting.append(by_name[name])
    return tuple(by_name[name] for name in in_order(by_name))


def fit_probes(probes: Sequence[Probe], stream: Stream) -> tuple[Probe, ...]:
    """The same probes with every setting decided that depends on the stream, such as the number of triplets.

    Args:
        probes: In their order: a probe's `fitted` is given those that it requires.
        stream: The stream to be measured.

    Returns:
        The probes in the order given.

    Raises:
        InputError: A setting that the stream cannot have.
    """
    by_name = {probe.name: probe for probe in probes}
    for name in in_order(by_name):
        fit = getattr(by_name[name], "fitted", None)
        if fit is not None:
            required = {other: by_name[other] for other in traits(by_name[name]).requires if other in by_name}
            by_name[name] = check_probe(fit(stream, required))
    return tuple(by_name.values())


def _each(probes: Sequence[str | Probe]) -> tuple[Probe, ...]:
    if not isinstance(probes, list | tuple):
        raise checks.wrong("probes", probes, "names of probes, or a list of names and of probes")
    given: list[Probe] = []
    for probe in probes:
        if isinstance(probe, str):
            given += parse_probes(probe)
        elif hasattr(probe, "measure"):
            given.append(check_probe(probe))
        else:
            raise InputError(
                f"got the probe {probe!r}, expected a name or an object with name, layout and measure, such as "
                "resdyn.probes.Singular(k=30)"
            )
    return tuple(given)


def _parse_probe(text: str) -> Probe:
    match = re.fullmatch(r"(\w+)\s*(?:\((.*)\))?", text, re.DOTALL)
    if match is None:
        raise InputError(f"got the probe '{text}', expected a name with settings, such as 'singular(k=30)'")
    name, settings = match.group(1), match.group(2) or ""
    probe = probe_class(name)
    return check_probe(_made(probe, _parse_settings(probe, settings)))


def _made(probe: type[Any], settings: dict[str, Any]) -> Any:
    try:
        return probe(**settings)
    except TypeError as error:  # a setting without a default that was not given
        raise InputError(f"{probe.name}: {error}; give it in brackets, {probe.name}(key=value)") from error


def _parse_settings(probe: Any, text: str) -> dict[str, Any]:
    known = [field.name for field in dataclasses.fields(probe) if field.init]
    settings: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in known or not equals:
            raise InputError(
                f"{probe.name}: got '{item}', expected key=value, keys: {', '.join(known) or 'none'}."
                + did_you_mean(key, known)
            )
        settings[key] = _value(value)
    return settings


def _value(text: str) -> Any:
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
    except (ValueError, SyntaxError):
        return text
