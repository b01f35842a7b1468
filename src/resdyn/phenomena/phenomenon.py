"""One phenomenon: the probe that measures it, and what the other packages make of its arrays."""

from __future__ import annotations

import importlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from resdyn.errors import InputError

Part = TypeVar("Part")
PARTS = ("probe", "metrics", "properties", "sections", "overlays")


class Measured(Protocol):
    """What a phenomenon asks of a dataset: its attributes, and whether a variable is in it."""

    @property
    def attrs(self) -> Mapping[Any, Any]: ...

    def __contains__(self, name: object, /) -> bool: ...


@dataclass(frozen=True)
class Phenomenon:
    """The descriptor of a phenomenon. Every part but the name may be missing.

    A part is an object, or a reference `"package.module:name"` that is imported when the part is first needed.

    Attributes:
        name: The name of the probe: a Python identifier, which `capture(probes="name")` accepts.
        probe: The probe's class (see `resdyn.probes.Probe`).
        variables: The stored arrays of which any one marks the phenomenon as present in a dataset; without them, the
            probe's name among `ds.attrs["probes"]` does.
        metrics: A `resdyn.metrics.Summary`: the rows of the metrics table.
        properties: `resdyn.metrics.Property`s: what the report draws a verdict on.
        sections: `resdyn.report.Section`s of the report.
        overlays: `resdyn.report.Overlay`s: what a comparison of runs draws over depth.
        attribute: An attribute of the dataset that marks the phenomenon as present, where no probe measures it.

    Example:
        >>> norms = Phenomenon("step_norm", variables=("step_norms",))
        >>> norms.metrics is None, norms.sections
        (True, ())
    """

    name: str
    probe: Any = None
    variables: tuple[str, ...] = ()
    metrics: Any = None
    sections: Any = ()
    overlays: Any = ()
    attribute: str | None = None
    properties: Any = ()

    def load(self, part: str) -> Any:
        """The object that a part refers to.

        Args:
            part: "probe", "metrics", "properties", "sections" or "overlays".

        Returns:
            The part, imported where it is a reference.

        Raises:
            InputError: The reference cannot be imported; in one line, with the cause.
        """
        value = getattr(self, part)
        if not isinstance(value, str):
            return value
        module, _, name = value.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:  # whatever a module raises when it is imported
            raise InputError(
                f"the {part} of '{self.name}' cannot be loaded from '{value}': {type(error).__name__}: "
                f"{' '.join(str(error).split())}; expected 'package.module:name'"
            ) from error

    def load_each(self, part: str, kind: type[Part], known_as: str) -> tuple[Part, ...]:
        """The objects of a part that may be several, such as the sections of the report.

        Args:
            part: As for `load`.
            kind: The class that each has to be of.
            known_as: Its public name.

        Returns:
            The objects; one that stands alone is the only one.

        Raises:
            InputError: The part is or holds something else, or cannot be imported.
        """
        found = self.load(part)
        if isinstance(found, kind):
            return (found,)
        if not isinstance(found, list | tuple) or not all(isinstance(each, kind) for each in found):
            raise InputError(f"{self.name}: got {part}={found!r}, expected a list of {known_as}")
        return tuple(found)

    def present_in(self, ds: Measured) -> bool:
        """Whether a dataset holds what this phenomenon is measured by.

        Args:
            ds: A captured dataset.

        Returns:
            True where its `attribute` is set, one of its `variables` is stored, or, without variables, its probe was
            captured.
        """
        if self.attribute is not None and ds.attrs.get(self.attribute):
            return True
        if self.variables:
            return any(name in ds for name in self.variables)
        captured = ds.attrs.get("probes")
        return self.probe is not None and isinstance(captured, Container) and self.name in captured
