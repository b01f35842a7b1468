"""What is recorded beside the arrays of a store: their meaning, and the settings of the probes that write them."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from resdyn.errors import InputError
from resdyn.phenomena.registry import is_built_in
from resdyn.probes import Probe
from resdyn.stream import KINDS

DIMS = {
    "sample": "index of the sample in its data split",
    "depth": "index i of the state h_i, from 0",
    "block": "index of the block, from 0",
    "block_j": "index j of the other block, from 0",
    "coord": "element of the flattened state, padded",
    "rank": "place in descending order, from 0",
    "rank_j": "the same of the other block",
    "eigenvalue": "place by descending real part, padded",
    "part": "layer of the branch, in order",
    "direction": "random direction",
    "class": "class of the data",
    "class_j": "the other class",
    "feature": "element of the classifier's input",
    "fold": "a tenth of the images, which is left out",
    "last_coord": "element of the flattened last state",
}
COORDS = {
    "stage": "stage of the block: blocks of a stage work on states of one shape",
    "stage_of_depth": "stage of the state",
    "state_size": "number of elements of the state",
    "label": "class of the sample, -1 where it is not known",
}


def described_array(probe: str, dims: Sequence[str], said: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a stored array: the probe's name, what its axes count, and what the probe says of it.

    Raises:
        InputError: The probe says something that is not text or a number, or a kind of Jacobian that does not exist.
    """
    for key, value in said.items():
        if not isinstance(key, str) or not isinstance(value, str | int | float):
            raise InputError(f"{probe}: got the attribute {key!r}: {value!r}, expected text or a number")
    if said.get("kind", KINDS[0]) not in KINDS:
        raise InputError(f"{probe}: got kind={said['kind']!r} of an array, expected one of {', '.join(KINDS)}")
    axes = "; ".join(f"{dim}: {DIMS[dim]}" for dim in dims if dim in DIMS)
    return {"probe": probe, **({"axes": axes} if axes else {}), **said}


def settings_of(probe: Probe) -> dict[str, Any]:
    """A probe's settings as they are stored and compared; of a probe that is not resdyn's, a digest of its code too.

    Raises:
        InputError: A setting that JSON cannot hold.
    """
    settings = dataclasses.asdict(probe)  # type: ignore[call-overload]
    try:
        same = json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{probe.name}: got settings that cannot be recorded ({error}); use numbers, text, None, and lists of them"
        ) from error
    if is_built_in(probe.name):
        return dict(settings)
    return {**same, "code": _code(type(probe))}


def _code(probe: type) -> str:
    """A digest of a class's source, so that a store is not resumed by another measurement of the same name."""
    try:
        text = inspect.getsource(probe)
    except (OSError, TypeError):  # typed into an interpreter
        text = f"{probe.__module__}.{probe.__qualname__}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
