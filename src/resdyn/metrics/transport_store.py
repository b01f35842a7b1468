"""The structure of every transport of a store, depth by depth, computed once per store."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn.errors import InputError
from resdyn.metrics.transports import TransportStructure, cosines_between, transport_structure, without_identity

ARRAYS = ("transport", "transport_standard_error", "transport_noise")
DIRECTIONS = 8  # at most, whose angles are compared between depths
KEPT = 4  # structures of the datasets looked at last: the table and every figure of a report ask for the same one
NUMBERS = {
    "norm": "Frobenius norm of J, without what its error adds to it",
    "norm_error": "root of the summed squared standard errors, a bound of the norm's error where it is small",
    "alpha": "tr(J) / d",
    "alpha_error": "mean standard error of the diagonal: the error of alpha is at most this",
    "identity_share": "share of |J|^2 that is alpha I",
    "effective_rank": "effective rank of J - alpha I",
    "stable_rank": "stable rank of J - alpha I",
    "log_determinant": "log |det J|",
    "noise_share": "share of |J - alpha I|^2 that is the error of the mean",
    "resolved": "singular values of J - alpha I above the largest of one draw of noise",
}
SPECTRA = {
    "singular_value": "singular values of J",
    "residual_singular_value": "singular values of J - alpha I",
    "noise_singular_value": "singular values of one draw of the error of the mean",
}
EXPONENT = "log of a singular value of J over the steps to the target"
_structures: OrderedDict[bytes, xr.Dataset] = OrderedDict()


def transport_structures(ds: xr.Dataset) -> xr.Dataset:
    """`transport_structure` of every depth of a stored transport, and the angles between consecutive depths.

    Args:
        ds: What `transport` stored: `transport` (depth, row, column), filled up with NaN, and `columns` (depth); with
            `transport_standard_error` and `transport_noise` where errors are known.

    Returns:
        - (depth) norm, norm_error, alpha, alpha_error, identity_share, effective_rank, stable_rank, log_determinant,
          noise_share and resolved;
        - (depth, rank) singular_value, residual_singular_value and noise_singular_value, descending;
        - (depth) steps to the target, and (depth, rank) exponent, log of the singular value per step, which for
          reduction "flat" compares with what the probe `lyapunov` finds at single samples;
        - (depth, direction) cosine, those of the principal angles between the leading right singular vectors of
          J - alpha I at a depth and at the next one that is stored; (depth) overlap, their mean square; directions,
          how many are compared: at most eight, an eighth of the columns, and those that stand out of the noise at both
          depths (then NaN where there are none); overlap_by_chance, that of as many random directions, k / d.

        Everything is NaN where it is not defined.

    Raises:
        InputError: For a dataset without transports, or with values that are not finite.

    Cost: up to four singular value decompositions per depth; kept for the datasets looked at last.

    Source: as `transport_structure`; Bjorck and Golub (1973) for the angles.

    Example:
        >>> J = np.stack([np.diag([3.0, 1.0]), np.eye(2)])
        >>> coords = {"depth": [0, 1], "columns": ("depth", [2, 2])}
        >>> ds = xr.Dataset({"transport": (("depth", "row", "column"), J)}, coords)
        >>> transport_structures(ds)["identity_share"].values.round(3).tolist()
        [0.8, 1.0]
    """
    if "transport" not in ds or ds["transport"].dims != ("depth", "row", "column") or "columns" not in ds.coords:
        raise InputError("got a dataset without transports; pass what resdyn.transport stored")
    arrays = {name: np.ascontiguousarray(ds[name].values) for name in ARRAYS if name in ds}
    key = _key(arrays, ds["columns"].values)
    if key not in _structures:
        _structures[key] = _computed(arrays, ds["columns"].values.astype(int))
        while len(_structures) > KEPT:
            _structures.popitem(last=False)
    _structures.move_to_end(key)
    found = _structures[key].assign_coords(depth=ds["depth"].values, columns=("depth", ds["columns"].values))
    steps = steps_to_target(ds)
    with np.errstate(divide="ignore"):
        exponents = np.log(found["singular_value"].values) / np.where(steps > 0, steps, np.nan)[:, None]
    dims = ("depth", "rank")
    return found.assign(steps=("depth", steps), exponent=(dims, exponents, {"long_name": EXPONENT}))


def steps_to_target(ds: xr.Dataset) -> NDArray[np.int64]:
    """(depth,) L - l; logits are one step beyond the last state."""
    to, depths = ds.attrs.get("to"), ds["depth"].values.astype(np.int64)
    end = to if isinstance(to, int) else int(ds.attrs.get("num_depths", depths[-1] + 1))
    return np.asarray(end - depths, dtype=np.int64)


def _key(arrays: dict[str, NDArray[Any]], columns: NDArray[Any]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name, values in [*arrays.items(), ("columns", columns)]:
        digest.update(f"{name}{values.dtype}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.digest()


def _computed(arrays: dict[str, NDArray[Any]], columns: NDArray[Any]) -> xr.Dataset:
    depths = range(len(columns))
    J, error, noise = ([arrays[n][d, :, : columns[d]] for d in depths] if n in arrays else None for n in ARRAYS)
    assert J is not None
    errors, draws = ([None] * len(depths) if values is None else values for values in (error, noise))
    each = [transport_structure(*parts) for parts in zip(J, errors, draws, strict=True)]
    rows = [_numbers(*parts) for parts in zip(each, J, errors, strict=True)]
    numbers = {name: ("depth", [row[name] for row in rows], {"long_name": text}) for name, text in NUMBERS.items()}
    rank = max(found.singular_values.size for found in each)
    spectra = {
        name: (("depth", "rank"), _filled(_spectra(each, name), rank), {"long_name": SPECTRA[name]}) for name in SPECTRA
    }
    bases = [np.linalg.svd(without_identity(J[d]), full_matrices=False)[2] for d in depths]
    cosines = [_cosines(*pair) for pair in zip(each, each[1:], bases, bases[1:], strict=False)] + [np.zeros(0)]
    counts = [found.size or np.nan for found in cosines]
    overlap = [float((found**2).mean()) if found.size else np.nan for found in cosines]
    angles = {
        "cosine": (("depth", "direction"), _filled(cosines, DIRECTIONS)),
        "overlap": ("depth", overlap),
        "directions": ("depth", counts),
        "overlap_by_chance": ("depth", np.asarray(counts, dtype=np.float64) / columns),
    }
    return xr.Dataset(numbers | spectra | angles)


def _numbers(found: TransportStructure, J: NDArray[Any], error: NDArray[Any] | None) -> dict[str, float]:
    """The numbers of one depth. An error of the mean adds its square to that of the norm, on average."""
    values = {name: getattr(found, name, np.nan) for name in NUMBERS}
    values["norm_error"] = values["alpha_error"] = np.nan
    if error is not None and np.isfinite(error).all():
        total = float((error.astype(np.float64) ** 2).sum())
        values["norm"] = max(found.norm**2 - total, 0.0) ** 0.5
        values["norm_error"] = total**0.5
        if J.shape[0] == J.shape[1]:
            values["alpha_error"] = float(np.diag(error).astype(np.float64).mean())
    return values


def _spectra(each: list[TransportStructure], name: str) -> list[NDArray[Any]]:
    return [getattr(found, f"{name}s") for found in each]


def _filled(rows: list[NDArray[Any]], length: int) -> NDArray[np.float64]:
    return np.stack([np.pad(row.astype(np.float64), (0, length - row.size), constant_values=np.nan) for row in rows])


def _cosines(
    one: TransportStructure, next_one: TransportStructure, first: NDArray[Any], second: NDArray[Any]
) -> NDArray[np.float64]:
    """Between the leading directions of two depths; none where their states differ, or noise hides them."""
    if first.shape[1] != second.shape[1]:
        return np.zeros(0)
    known = [found.resolved for found in (one, next_one) if np.isfinite(found.resolved)]
    rank = int(min(DIRECTIONS, max(1, first.shape[1] // 8), len(first), len(second), *known))
    return cosines_between(first[:rank], second[:rank]) if rank else np.zeros(0)
