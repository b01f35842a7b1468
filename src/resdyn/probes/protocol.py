"""What a probe is: settings with a name, the arrays that it writes, and how it measures them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from resdyn.errors import InputError
from resdyn.probes.sample import Layout
from resdyn.stream import Stream
from resdyn.stream.arguments import Arguments

Batches = Callable[[], Iterable[tuple[Arguments, Tensor]]]
Tick = Callable[[int], None]


class Probe(Protocol):
    """A measurement that needs the model: a frozen dataclass of plain settings with these three members.

    `layout` says which arrays it writes; `measure` returns them, exactly these. What a capture must know besides,
    `Traits` lists: class attributes, each with a default. Two methods may be added: `fitted(stream, required)`, the
    same probe with settings decided by the stream and by the probes that it requires (by name), and `attributes(kind)`,
    for each array what to record beside it: `long_name`, `units`, `kind` (the reading of the Jacobian that it is of).
    `kind` of the call is the capture's.

    A probe travels to workers by pickle, so its class must be importable there or defined in the script itself.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import ClassVar
        >>> import numpy as np
        >>> from resdyn.probes import traits
        >>> @dataclass(frozen=True)
        ... class StateNorm:
        ...     name: ClassVar[str] = "state_norm"
        ...
        ...     def layout(self, stream, num_classes):
        ...         return {"norm_of_state": (("depth",), (len(stream) + 1,), "float64")}
        ...
        ...     def measure(self, sample, num_classes):
        ...         return {"norm_of_state": np.array([float(h.norm()) for h in sample.states])}
        >>> traits(StateNorm()).per_sample
        True
    """

    @property
    def name(self) -> str:
        """Its name, a Python identifier, by which `capture` and stores know it."""

    @property
    def measure(self) -> Callable[..., Mapping[str, Any]]:
        """A function that returns array, tensor or number by name, of the shapes and dtypes that `layout` declares.

        Of one sample it is called as `measure(sample, num_classes)` with a `Sample`; a probe whose `per_sample` is
        False is called as `measure(stream, batches, num_classes, tick)`, where every call of `batches()` is a pass over
        (inputs, labels) of the data, and `tick(1)` moves the progress bar by a batch.
        """

    def layout(self, stream: Stream, num_classes: int, /) -> Layout:
        """The arrays that the probe writes.

        Args:
            stream: The stream to be measured.
            num_classes: Number of classes of the data.

        Returns:
            (dims, shape, dtype) by name, without the sample axis; dtype a float, an int or "bool", such as "float64".
        """


@dataclass(frozen=True)
class Traits:
    """What a capture must know of a probe before it runs; read from class attributes of the same names.

    Attributes:
        per_sample: Measured at one sample at a time (default True); else in passes over the data.
        needs_labels: Refused where no label is known (default False).
        whole_state_only: Refused for one token, `position` (default False).
        needs_single_precision: Refused for a model in half precision (default False).
        light: So cheap that a task takes many samples (default False).
        requires: Names of probes whose arrays or triplets it needs; captured with it, and before it (default: none).
        passes: Passes over the data, where `per_sample` is False (default 1).
        batch_size: Inputs of a batch in such a pass (default 256).
    """

    per_sample: bool = True
    needs_labels: bool = False
    whole_state_only: bool = False
    needs_single_precision: bool = False
    light: bool = False
    requires: tuple[str, ...] = ()
    passes: int = 1
    batch_size: int = 256


def traits(probe: Any) -> Traits:
    """The traits of a probe or of its class, defaults where it says nothing.

    Args:
        probe: A probe, or the class of one.

    Returns:
        The traits.

    Raises:
        InputError: A trait of another type, such as `requires="singular"`.

    Example:
        >>> from resdyn.probes import Coupling
        >>> traits(Coupling).requires
        ('singular',)
    """
    found: dict[str, Any] = {
        field.name: getattr(probe, field.name, field.default) for field in dataclasses.fields(Traits)
    }
    for field in dataclasses.fields(Traits):
        value, expected = found[field.name], type(field.default)
        names = value if isinstance(value, tuple) else ()
        if type(value) is not expected or not all(isinstance(name, str) for name in names):
            words = {bool: "True or False", int: "a whole number", tuple: "a tuple of names of probes"}[expected]
            raise InputError(f"{probe.name}: got {field.name}={value!r}, expected {words}")
    return Traits(**found)


def attributes(probe: Probe, kind: str) -> dict[str, dict[str, Any]]:
    """What a probe says of each of its arrays, its own name included."""
    said = getattr(probe, "attributes", None)
    return {name: dict(texts) for name, texts in (said(kind) if callable(said) else {}).items()}


def described(texts: Mapping[str, tuple[str, str]], **common: str) -> dict[str, dict[str, str]]:
    """Attributes of arrays from (long name, units) of each; `common` ones for all."""
    return {name: {"long_name": text, "units": units, **common} for name, (text, units) in texts.items()}
