"""What a probe declares and returns, checked before anything is stored: one line that names probe, sample, variable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from resdyn.errors import ComputationError, InputError
from resdyn.probes.protocol import Probe, traits
from resdyn.probes.sample import Array, Layout, to_numpy
from resdyn.stream import Stream

COORDS = ("sample", "label", "block", "depth", "stage", "stage_of_depth", "state_size", "class", "rank")


def layouts_of(probes: Sequence[Probe], stream: Stream, num_classes: int) -> dict[str, Layout]:
    """The layout of each probe by name, checked.

    Raises:
        InputError: A layout that cannot be stored, or a variable that two probes write.
    """
    layouts: dict[str, Layout] = {}
    owners: dict[str, str] = {}
    for probe in probes:
        layout = layout_of(probe, stream, num_classes)
        for name in layout:
            if name in owners:
                raise InputError(f"the probes {owners[name]} and {probe.name} both write '{name}'; rename one of them")
            owners[name] = probe.name
        layouts[probe.name] = layout
    return layouts


def layout_of(probe: Probe, stream: Stream, num_classes: int) -> Layout:
    """The arrays that a probe declares, in plain types.

    Raises:
        InputError: In one line, which names the probe and the variable.
    """
    declared = probe.layout(stream, num_classes)
    if not isinstance(declared, Mapping) or not declared:
        raise InputError(f"{probe.name}: layout returned {_short(declared)}, expected {{name: (dims, shape, dtype)}}")
    known = {"block": len(stream), "depth": len(stream) + 1, "class": num_classes}
    return {name: _variable(probe, name, entry, known) for name, entry in declared.items()}


def _variable(
    probe: Probe, name: Any, entry: Any, known: Mapping[str, int]
) -> tuple[tuple[str, ...], tuple[int, ...], str]:
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_") or name in COORDS:
        raise InputError(f"{probe.name}: got a variable {name!r}, expected an identifier that is not a coordinate")
    whose = f"{probe.name}: '{name}'"
    if not isinstance(entry, tuple) or len(entry) != 3:
        raise InputError(f"{whose}: layout says {_short(entry)}, expected (dims, shape, dtype)")
    dims, shape, dtype = entry
    if not _is_names(dims) or len(set(dims)) != len(dims) or "sample" in dims:
        raise InputError(f"{whose}: got dims={_short(dims)}, expected a tuple of different names, without 'sample'")
    if not _is_shape(shape) or len(shape) != len(dims):
        raise InputError(f"{whose}: got shape={_short(shape)}, expected {len(dims)} positive sizes, one per dimension")
    for dim, size in zip(dims, shape, strict=True):
        expected = known.get(dim.removesuffix("_j"), size)
        if size != expected:
            raise InputError(f"{whose}: got {size} along '{dim}', expected {expected}; give the dimension another name")
    return tuple(dims), tuple(int(size) for size in shape), _dtype(whose, dtype)


def _dtype(whose: str, dtype: Any) -> str:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.kind not in "fib" or found.itemsize > 8:
        raise InputError(f"{whose}: got dtype={_short(dtype)}, expected a float, an int or 'bool', such as 'float64'")
    return str(found.name)


def measured(probe: Probe, found: Any, layout: Layout, sample: int | None = None) -> dict[str, Array]:
    """What a probe returned as NumPy arrays of the declared dtypes.

    Args:
        probe: The probe.
        found: Name -> array, tensor or number.
        layout: What it declared.
        sample: Index of the sample, None for a pass over the data.

    Raises:
        ComputationError: Other names, shapes or dtypes than declared, or numbers that the dtype cannot hold.
    """
    where = probe.name if sample is None else f"{probe.name}, sample {sample}"
    if not isinstance(found, Mapping):
        raise ComputationError(f"{where}: measure returned {type(found).__name__}, expected a dict of arrays")
    if set(found) != set(layout):
        missing, other = sorted(set(layout) - set(found)), sorted(map(str, set(found) - set(layout)))
        said = [f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(other)} besides"] * bool(other)
        raise ComputationError(f"{where}: measure returned arrays {' and '.join(said)}, expected those of its layout")
    return {name: _array(f"{where}: '{name}'", found[name], *layout[name]) for name in layout}


def _array(whose: str, value: Any, dims: tuple[str, ...], shape: tuple[int, ...], dtype: str) -> Array:
    array = to_numpy(value) if isinstance(value, Tensor) else np.asarray(value)
    if array.shape != shape:
        named = ", ".join(f"{dim}={size}" for dim, size in zip(dims, shape, strict=True))
        raise ComputationError(f"{whose}: got shape {array.shape}, expected {shape} ({named or 'a number'})")
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "fiub" or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ComputationError(f"{whose}: got dtype {array.dtype}, expected {dtype}, which cannot hold it; convert it")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    lost = np.isfinite(array) & ~np.isfinite(cast) if cast.dtype.kind == "f" else cast != array
    if np.any(lost):
        raise ComputationError(f"{whose}: holds {array[lost].flat[0]}, which {dtype} cannot; declare a wider dtype")
    return cast


def check_labelled(probes: Sequence[Probe], labelled: bool) -> None:
    """Refuse probes that need labels where none is known."""
    wanting = [probe.name for probe in probes if traits(probe).needs_labels]
    if wanting and not labelled:
        raise InputError(f"the {wanting[0]} probe needs labels: pass data as (inputs, labels), or leave it out")


def _is_names(dims: Any) -> bool:
    return isinstance(dims, tuple) and all(isinstance(dim, str) and dim.isidentifier() for dim in dims)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(
        isinstance(size, int | np.integer) and not isinstance(size, bool) and size > 0 for size in shape
    )


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
