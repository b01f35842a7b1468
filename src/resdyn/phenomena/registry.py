"""Which phenomena there are: those that come with resdyn, those registered by a call, those of installed plug-ins."""

from __future__ import annotations

import keyword
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from resdyn.errors import InputError
from resdyn.phenomena.builtin import BUILT_IN
from resdyn.phenomena.phenomenon import Measured, Phenomenon

GROUP = "resdyn.probes"
_built_in = {phenomenon.name: phenomenon for phenomenon in BUILT_IN}
_registered: dict[str, Phenomenon] = {}


def register(phenomenon: Phenomenon) -> Phenomenon:
    """Make a phenomenon known by its name, to this process.

    Its probe can be captured by name; the metrics table, the report and the comparison show its parts. Registering a
    name again replaces the earlier descriptor, as when a notebook cell is run twice. An installed package registers
    by an entry point of the group `resdyn.probes`, whose name is the probe's and whose object is a `Phenomenon` or a
    probe's class; it is imported when its name is first asked for.

    Args:
        phenomenon: The descriptor.

    Returns:
        The same descriptor.

    Raises:
        InputError: It is not a `Phenomenon`, its name is not an identifier or belongs to resdyn, or its probe has
            another name.
    """
    if not isinstance(phenomenon, Phenomenon):
        raise InputError(f"got {type(phenomenon).__name__} to register, expected a resdyn.Phenomenon")
    _check(phenomenon)
    _registered[phenomenon.name] = phenomenon
    return phenomenon


def find_phenomenon(name: str) -> Phenomenon | None:
    """The phenomenon of a name; a plug-in's is imported.

    Args:
        name: The name, that of its probe.

    Returns:
        The descriptor, or None.

    Raises:
        InputError: The plug-in of this name cannot be imported, or is not one; in one line.

    Example:
        >>> find_phenomenon("singular").variables
        ('singular_values',)
    """
    known = _built_in.get(name) or _registered.get(name)
    return known if known is not None else _plug_in(name)


def phenomena() -> list[Phenomenon]:
    """All phenomena that are known without importing a plug-in.

    Returns:
        Those of resdyn in the order of the metrics table, then the registered ones by name.
    """
    return [*BUILT_IN, *(_registered[name] for name in sorted(_registered))]


def phenomena_in(ds: Measured) -> list[Phenomenon]:
    """The phenomena that a dataset holds; plug-ins are imported for the probes that it says were captured.

    Args:
        ds: A captured dataset.

    Returns:
        The descriptors, in the order of `phenomena`.

    Raises:
        InputError: A plug-in that cannot be imported.
    """
    captured = ds.attrs.get("probes")
    for name in captured if isinstance(captured, dict) else ():
        find_phenomenon(str(name))
    return [phenomenon for phenomenon in phenomena() if phenomenon.present_in(ds)]


def known_names() -> list[str]:
    """The names of all probes, without importing a plug-in.

    Returns:
        Those of resdyn, then the registered ones, then those of installed plug-ins by name, each once.

    Example:
        >>> known_names()[:2]
        ['trajectory', 'coupling']
    """
    own = [phenomenon.name for phenomenon in phenomena() if phenomenon.probe is not None]
    return list(dict.fromkeys([*own, *sorted(point.name for point in entry_points(group=GROUP))]))


def is_built_in(name: str) -> bool:
    """Whether a phenomenon comes with resdyn."""
    return name in _built_in


def _plug_in(name: str) -> Phenomenon | None:
    points = list(dict.fromkeys(entry_points(group=GROUP, name=name)))
    if not points:
        return None
    if len(points) > 1:
        places = ", ".join(sorted(_described(point) for point in points))
        raise InputError(f"got several plug-ins for the probe '{name}': {places}; uninstall all but one")
    found = _imported(points[0])
    if not isinstance(found, Phenomenon):
        found = Phenomenon(name, probe=found)
    if found.name != name:
        raise InputError(
            f"the plug-in {_described(points[0])} holds the phenomenon '{found.name}', expected '{name}', the name of "
            "its entry point"
        )
    return register(found)


def _imported(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # whatever a foreign module raises when it is imported
        raise InputError(
            f"the plug-in {_described(point)} cannot be imported: {type(error).__name__}: "
            f"{' '.join(str(error).split())}; repair or uninstall it"
        ) from error


def _described(point: EntryPoint) -> str:
    package = "" if point.dist is None else f" of {point.dist.name} {point.dist.version}"
    return f"'{point.name}' ({point.value}{package})"


def _check(phenomenon: Phenomenon) -> None:
    name = phenomenon.name
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
        raise InputError(f"got a phenomenon of the name {name!r}, expected an identifier such as 'my_probe'")
    if name in _built_in:
        raise InputError(f"the name '{name}' belongs to resdyn; choose another")
    if not isinstance(phenomenon.variables, tuple) or not all(isinstance(v, str) for v in phenomenon.variables):
        raise InputError(f"{name}: got variables={phenomenon.variables!r}, expected a tuple of names")
    probe = phenomenon.probe
    if probe is None or isinstance(probe, str):
        return
    if not isinstance(probe, type) or not all(hasattr(probe, part) for part in ("layout", "measure")):
        raise InputError(f"{name}: got probe={probe!r}, expected a class with name, layout and measure")
    if getattr(probe, "name", None) != name:
        raise InputError(
            f"{name}: got a probe of the name {getattr(probe, 'name', None)!r}, expected '{name}': write "
            f"name: ClassVar[str] = '{name}' in its class"
        )
