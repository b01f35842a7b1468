"""Transports of disjoint samples as one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdyn import _checks as checks
from resdyn import store as stores
from resdyn.errors import InputError
from resdyn.transporting.fit import moments_of
from resdyn.transporting.lens import Transport, load_transport
from resdyn.transporting.plan import RESULT, result_layout

OWN = ("samples", "data", "split", "data_hash", "positions_hash", "positions", "chunk_size", "until", "causal")
SAME = (
    "measurement",
    "weights_hash",
    "graph_hash",
    "depths",
    "to",
    "reduction",
    "average_targets",
    "channels",
    "target_shape",
    "columns",
    "granularity",
    "dtype",
    "seed",
)
SKIPS = ("skip_first", "skip_last")


def merge_transports(parts: Sequence[str | Path | Transport], store: str | Path | None = None) -> Transport:
    """One transport from several of the same model and definition on disjoint samples, exactly: sums and squares.

    Args:
        parts: Stores of `transport`, or opened ones, two or more; of one seed.
        store: Folder of the merged store. None: in memory.

    Returns:
        The mean over all samples with its standard error, as one run over all of them would give, to rounding.

    Raises:
        InputError: For parts that share samples, of other settings, or without errors.
        StoreError: For a store that exists, or is not one.
    """
    lenses = [part if isinstance(part, Transport) else load_transport(part) for part in parts]
    if len(lenses) < 2:
        raise InputError(f"got {len(lenses)} transports to merge, expected two or more")
    first = lenses[0].dataset
    for lens in lenses:
        if any(name not in lens.dataset for name in RESULT):
            raise InputError("a transport from a lens file has no errors, so it cannot be merged; merge stores")
        _check_alike(first.attrs, lens.dataset.attrs)
    digests = [digest for lens in lenses for digest in lens.dataset.attrs["sample_digests"]]
    kinds = [set(lens.dataset.attrs["sample_digests"]) for lens in lenses]
    if shared := sum(map(len, kinds)) - len(set().union(*kinds)):
        raise InputError(f"{shared} samples are in more than one of the transports; expected disjoint ones")
    moments = moments_of(first)
    for lens in lenses[1:]:
        moments = moments.merged(moments_of(lens.dataset))
    attrs = {name: value for name, value in first.attrs.items() if name not in ("complete", "tasks_remaining")}
    attrs |= {"num_samples": moments.count, "signs": moments.signs, "sample_digests": digests}
    attrs["samples"] = [list(lens.dataset.attrs["samples"]) for lens in lenses]
    attrs["merged"] = [{name: lens.dataset.attrs[name] for name in OWN} for lens in lenses]
    columns = first["columns"].values.tolist()
    layout = result_layout(lenses[0].depths, columns, moments.mean.shape, str(moments.mean.dtype))
    arrays = dict(zip(RESULT, (moments.mean, moments.standard_error, moments.noise), strict=True))
    if store is not None:
        return Transport(_written(checks.new_folder("store", store), layout, attrs, arrays))
    with tempfile.TemporaryDirectory(prefix="resdyn-") as folder:
        return Transport(_written(Path(folder) / "lens.zarr", layout, attrs, arrays).load())


def _written(path: Path, layout: Any, attrs: dict[str, Any], arrays: dict[str, Any]) -> Any:
    stores.create_store(path, layout, attrs)
    stores.write_task(path, 0, layout.regions[0], arrays)
    return stores.open_store(path)


def _check_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    different = [name for name in SAME if one[name] != other[name]]
    different += [name for name in ("products",) if one.get(name) != other.get(name)]
    different += [name for name in SKIPS if one["positions"].get(name) != other["positions"].get(name)]
    if different:
        name = different[0]
        values = [attrs.get(name, attrs["positions"].get(name)) for attrs in (one, other)]
        raise InputError(f"the transports differ in {name}: {values[0]} and {values[1]}; expected one definition")
