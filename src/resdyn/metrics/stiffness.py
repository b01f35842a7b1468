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
    Source: "Block-level stiffness analysis of residual networks", equation 10, after Kim et al. (2021).

    >>> stiffness_index(4.0, -0.5)
    array(-8.)
    """
    top, bottom = np.asarray(largest_real, dtype=np.float64), np.asarray(smallest_real, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(bottom == 0, np.nan, top / np.where(bottom == 0, np.nan, bottom)))


def percent_negative(num_negative: ArrayLike, num_eigenvalues: ArrayLike) -> FloatArray:
    """P = 100 count(Re(lambda) < 0) / count(lambda), in per cent; NaN where there are no eigenvalues.

    Equation 11 of the paper is printed with > 0; its text, and the tables, mean negative real parts: that is here.

    >>> percent_negative(1, 8)
    array(12.5)
    """
    negative, total = np.asarray(num_negative, dtype=np.float64), np.asarray(num_eigenvalues, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(total > 0, 100 * negative / np.where(total > 0, total, np.nan), np.nan))


def stiffness(ds: xr.Dataset) -> xr.Dataset:
    """Both measures by both readings, (sample, block), from a dataset with the probe `spectrum`.

    `stiffness_index_flattened`, `stiffness_index_slices`; `percent_negative_flattened`, `percent_negative_slices`.
    `stiffness_index_error`: first-order error of the flattened index from the backward errors and conditions of
    both ends, relative; `percent_negative_error`: standard error of an estimated share (0 where counted) plus the
    undecided share. Raises InputError for a dataset without the probe.
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
    found["stiffness_index_error"] = (dims, _index_error(ds))
    uncertain = ds["num_negative_error"].values + ds["num_undecided"].values
    found["percent_negative_error"] = (dims, percent_negative(uncertain, ds["num_eigenvalues"].values))
    coords = {name: ds.coords[name] for name in ds.coords if set(ds.coords[name].dims) <= set(dims)}
    return xr.Dataset(found, coords=coords)


def _index_error(ds: xr.Dataset) -> FloatArray:
    """Relative: the errors of both ends, condition x backward error, over their sizes."""
    absolute = ds["eigen_residual"].values * ds["jacobian_norm"].values
    with np.errstate(divide="ignore", invalid="ignore"):
        top = ds["condition_largest"].values * absolute / np.abs(ds["largest_real"].values)
        bottom = ds["condition_smallest"].values * absolute / np.abs(ds["smallest_real"].values)
    total = top + bottom
    return np.asarray(np.where(np.isfinite(total), total, np.nan), dtype=np.float64)
