"""Stiffness: how far apart the eigenvalues of a block's Jacobian lie, and how many point to decay.

Two readings, always told apart by name. `flattened`: the Jacobian is the matrix (n, n) that it is. `slices`: the
matrices J[c', h', w', c, :, :] of a Jacobian between feature maps, which is what `torch.linalg.eigvals` makes of an
unflattened one, and what the tables of the paper hold; they say nothing about the block as a dynamical system.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from resdyn.errors import InputError

READINGS = ("flattened", "slices")
FloatArray = NDArray[np.float64]


def stiffness_index(largest_real: ArrayLike, smallest_real: ArrayLike) -> FloatArray:
    """S = max Re(lambda) / min Re(lambda), elementwise.

    Negative where both signs occur (the usual case), at least 1 where all real parts are positive. NaN where the
    smallest is 0: behind a ReLU that is off 0 is an eigenvalue, so without negative ones the index has no value.

    Args:
        largest_real: max Re(lambda), any shape.
        smallest_real: min Re(lambda), of the same shape.

    Returns:
        The index, elementwise; NaN where the smallest is 0.

    Source:
        "Block-level stiffness analysis of residual networks", equation 10, after Kim et al. (2021).

    Example:
        >>> stiffness_index(4.0, -0.5)
        array(-8.)
    """
    top, bottom = np.asarray(largest_real, dtype=np.float64), np.asarray(smallest_real, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(bottom == 0, np.nan, top / np.where(bottom == 0, np.nan, bottom)))


def percent_negative(num_negative: ArrayLike, num_eigenvalues: ArrayLike) -> FloatArray:
    """P = 100 count(Re(lambda) < 0) / count(lambda), in per cent; NaN where there are no eigenvalues.

    Equation 11 of the paper is printed with > 0; its text, and the tables, mean negative real parts: that is here.

    Args:
        num_negative: Counts, any shape.
        num_eigenvalues: Counts of the same shape.

    Returns:
        Per cent, elementwise; NaN where there are no eigenvalues.

    Example:
        >>> percent_negative(1, 8)
        array(12.5)
    """
    negative, total = np.asarray(num_negative, dtype=np.float64), np.asarray(num_eigenvalues, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(total > 0, 100 * negative / np.where(total > 0, total, np.nan), np.nan))


def stiffness(ds: xr.Dataset) -> xr.Dataset:
    """Both measures of stiffness by both readings of the Jacobian, from a dataset with the probe `spectrum`.

    A flattened index whose relative error is above 1, and a flattened share whose error is above itself and above 1 %,
    are undetermined: NaN, with the error beside them.

    Args:
        ds: A dataset with the spectrum probe.

    Returns:
        A dataset of arrays (sample, block), float64.

        - `stiffness_index_flattened`, `stiffness_index_slices`: see `stiffness_index`;
        - `percent_negative_flattened`, `percent_negative_slices`: see `percent_negative`, per cent;
        - `stiffness_index_error`: first-order error of the flattened index from the errors of both ends, relative;
        - `percent_negative_error`: standard error of an estimated share (0 where counted) plus the undecided share, per
          cent; those left out that are 0 to rounding because the Jacobian has a null space (they count as zeros).

        Without the arrays of the slices, the two of that reading are absent.

    Raises:
        InputError: The dataset was captured without the probe.

    Source:
        "Block-level stiffness analysis of residual networks", equations 10 and 11.
    """
    if "largest_real" not in ds:
        raise InputError("this dataset was captured without the probe 'spectrum'; capture with it")
    found = {}
    for reading in READINGS:
        suffix = "" if reading == "flattened" else "_slices"
        if f"largest_real{suffix}" not in ds:
            continue
        ends = ds[f"largest_real{suffix}"], ds[f"smallest_real{suffix}"]
        counts = ds[f"num_negative{suffix}"], ds[f"num_eigenvalues{suffix}"]
        dims = ends[0].dims
        found[f"stiffness_index_{reading}"] = (dims, stiffness_index(*(end.values for end in ends)))
        found[f"percent_negative_{reading}"] = (dims, percent_negative(*(count.values for count in counts)))
    dims = ds["largest_real"].dims
    index_error = _index_error(ds)
    zero = ds["num_zero"].values if "num_zero" in ds else 0.0
    uncertain = ds["num_negative_error"].values + ds["num_undecided"].values - zero
    share_error = percent_negative(uncertain, ds["num_eigenvalues"].values)
    found["stiffness_index_error"], found["percent_negative_error"] = (dims, index_error), (dims, share_error)
    index, share = (found[f"{name}_flattened"][1] for name in ("stiffness_index", "percent_negative"))
    found["stiffness_index_flattened"] = (dims, np.where(index_error > 1, np.nan, index))
    unsure = (share_error > np.maximum(share, 1.0)) | (np.isnan(share_error) & np.isfinite(share))
    found["percent_negative_flattened"] = (dims, np.where(unsure, np.nan, share))
    coords = {name: ds.coords[name] for name in ds.coords if set(ds.coords[name].dims) <= set(dims)}
    return xr.Dataset(found, coords=coords)


def determined(ds: xr.Dataset, name: str) -> xr.DataArray:
    """An end of the spectrum, where it is known to better than its own size.

    Args:
        ds: A dataset with the spectrum probe.
        name: "largest_real", "smallest_real" or "spectral_radius".

    Returns:
        The array of that name, (sample, block), NaN where its stored first-order error (`name` with `_error`) exceeds
        its absolute value; unchanged where no error is stored.
    """
    values = ds[name]
    if f"{name}_error" not in ds:
        return values
    return values.where(~(ds[f"{name}_error"] > np.abs(values)))


def count_undetermined(ds: xr.Dataset) -> int:
    """How many Jacobians have an end of the spectrum or an index whose error exceeds it."""
    known = np.isfinite(ds["largest_real"].values)
    unsure = _index_error(ds) > 1
    for name in ("largest_real", "spectral_radius"):
        unsure = unsure | np.isnan(determined(ds, name).values)
    return int((known & unsure).sum())


def _index_error(ds: xr.Dataset) -> FloatArray:
    """Relative: the errors of both ends over their sizes."""
    total = np.zeros(ds["largest_real"].shape)
    for end in ("largest", "smallest"):
        if f"{end}_real_error" in ds:
            error = ds[f"{end}_real_error"].values
        else:  # datasets of earlier versions: an exact zero has no condition
            error = ds[f"condition_{end}"].values * ds["eigen_residual"].values * ds["jacobian_norm"].values
        with np.errstate(divide="ignore", invalid="ignore"):
            total = total + error / np.abs(ds[f"{end}_real"].values)
    return np.asarray(total, dtype=np.float64)
