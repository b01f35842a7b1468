"""The probes that are known by name: those of resdyn, registered ones, and those of plug-ins."""

from __future__ import annotations

import dataclasses
from typing import Any

from resdyn.errors import InputError, did_you_mean
from resdyn.phenomena import Phenomenon, find_phenomenon, known_names, phenomena, register
from resdyn.phenomena.registry import is_built_in
from resdyn.probes.protocol import Probe, traits


def register_probe(probe: type[Any]) -> type[Any]:
    """Make a probe's class known by its name: a phenomenon of stored arrays alone. May be used as a decorator.

    Args:
        probe: A frozen dataclass with `name`, `layout` and `measure` (see `Probe`).

    Returns:
        The same class.

    Raises:
        InputError: It lacks one of these, or its name belongs to resdyn.
    """
    check_class(probe)
    register(Phenomenon(probe.name, probe=probe))
    return probe


def probe_class(name: str) -> type[Any]:
    """The class of the probe of this name.

    Raises:
        InputError: There is none, or its plug-in is broken.
    """
    found = find_phenomenon(name)
    if found is None or found.probe is None:
        known = known_names()
        raise InputError(f"unknown probe '{name}'; there are: {', '.join(known)}.{did_you_mean(name, known)}")
    probe: type[Any] = found.load("probe")
    check_class(probe)
    if probe.name != name:
        raise InputError(f"the probe registered as '{name}' calls itself '{probe.name}'; the names must be the same")
    return probe


def registered_probes() -> dict[str, type[Any]]:
    """All probes that are known without importing a plug-in.

    Returns:
        The classes by name, in the order in which they run.

    Raises:
        InputError: A registered probe whose class cannot be loaded, or is not that of a probe.

    Example:
        >>> list(registered_probes())[:3]
        ['trajectory', 'singular', 'coupling']
    """
    names = [phenomenon.name for phenomenon in phenomena() if phenomenon.probe is not None]
    classes = {name: probe_class(name) for name in names}
    return {name: classes[name] for name in in_order(classes)}


def in_order(probes: dict[str, Any]) -> list[str]:
    """Names of probes (classes or instances) as they run: as registered, others by name, required ones before.

    The same for the same set of probes, whatever order they were given in: a resumed run must find what it left.
    """
    rank = {phenomenon.name: number for number, phenomenon in enumerate(phenomena()) if is_built_in(phenomenon.name)}
    waiting = sorted(probes, key=lambda name: (rank.get(name, len(rank)), name))
    ordered: list[str] = []

    def add(name: str, above: tuple[str, ...] = ()) -> None:
        if name in above:
            raise InputError(f"the probes {' -> '.join((*above, name))} require each other; leave one requirement out")
        if name in ordered:
            return
        for required in traits(probes[name]).requires:
            if required in probes:
                add(required, (*above, name))
        ordered.append(name)

    for name in waiting:
        add(name)
    return ordered


def check_class(probe: Any) -> None:
    """Raise unless a class can be that of a probe."""
    if not isinstance(probe, type):
        raise InputError(f"got {probe!r} as a probe, expected a class with name, layout and measure")
    missing = [part for part in ("name", "layout", "measure") if not hasattr(probe, part)]
    if missing:
        raise InputError(f"{probe.__name__} has no {missing[0]}; a probe has a name, layout and measure")
    if not dataclasses.is_dataclass(probe) or not probe.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise InputError(
            f"{probe.__name__} is not a frozen dataclass, so that its settings could not be recorded; write "
            "@dataclass(frozen=True) above it"
        )


def check_probe(probe: Any) -> Probe:
    """A probe that was handed over as an object.

    Raises:
        InputError: It is a class, lacks a part, is not a frozen dataclass, or bears the name of another probe.
    """
    if isinstance(probe, type):
        raise InputError(f"got the class {probe.__name__} as a probe, expected an object: {probe.__name__}()")
    check_class(type(probe))
    name = probe.name
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
        raise InputError(f"{type(probe).__name__}: got name={name!r}, expected an identifier such as 'my_probe'")
    known = find_phenomenon(name)
    if known is not None and not _is_of(probe, known):
        raise InputError(
            f"got a {type(probe).__name__} of the name '{name}', which belongs to another probe; choose another name"
        )
    return probe  # type: ignore[no-any-return]


def _is_of(probe: Any, phenomenon: Phenomenon) -> bool:
    """Whether a probe is of a phenomenon's class; a notebook's cell run again makes another class of the same name."""
    own = phenomenon.load("probe")
    place = (own.__module__, own.__qualname__) if isinstance(own, type) else None
    return any((base.__module__, base.__qualname__) == place for base in type(probe).__mro__)
