"""RA3: how many singular values stand out, and does the spectrum fall after the C-th?

The cores take singular values in descending order along the last axis, shape (..., K). Only the leading run
of finite values counts: what follows the first NaN (padding, or no convergence) is not used.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from resdyn._moved import renamed_argument
from resdyn.errors import InputError

FloatArray = NDArray[np.float64]


@renamed_argument("n_classes", "num_classes")
def singular_gap(values: ArrayLike, num_classes: int) -> FloatArray:
    """Gap after the C-th singular value, s_C / s_{C+1}, with C = `num_classes` counted from 1.

    Well above 1 when the residual Jacobian is nearly of rank C; infinite when s_{C+1} = 0 < s_C.

    Args:
        values: (..., K), descending.
        num_classes: C, counted from 1.

    Returns:
        (...), float64, no unit; NaN when fewer than C+1 values are known, or when s_C = 0.

    Raises:
        InputError: C < 1.

    Source:
        Li and Papyan (2023), RA3, figure 4a.

    Example:
        >>> singular_gap([8.0, 4.0, 1.0], num_classes=2)
        array(4.)
    """
    if num_classes < 1:
        raise InputError(f"got num_classes={num_classes}, expected at least 1: give the number of classes")
    values = _leading_run(values)
    if values.shape[-1] <= num_classes:
        return np.full(values.shape[:-1], np.nan)
    return _divide(values[..., num_classes - 1], values[..., num_classes])


def gap_rank(values: ArrayLike, rtol: float = 0.0) -> FloatArray:
    """Number of singular values before the largest gap, argmax_k s_k / s_{k+1} (k from 1; the first if tied).

    Values below `rtol * s_1` are raised to it, so that ratios of rounding errors do not count. With K known
    values the answer is at most K - 1: the gap must have two sides.

    Args:
        values: (..., K), descending.
        rtol: Values below rtol * s_1 are raised to it.

    Returns:
        (...), float64 holding whole numbers; 0 for a zero matrix, NaN when fewer than two values are known.

    Source:
        effective rank for RA3 of Li and Papyan (2023); the criterion is ours (the paper reads the gap off figure 4a).

    Example:
        >>> gap_rank([3.0, 2.0, 0.1, 0.09])
        array(2.)
    """
    values = _leading_run(values)
    top = values[..., :1]
    if values.shape[-1] < 2:
        return np.where(top[..., 0] == 0, 0.0, np.nan) if values.shape[-1] else np.full(values.shape[:-1], np.nan)
    known = np.isfinite(values[..., 1:])
    ratio = np.where(known, _divide(*_floored_pair(values, rtol * top)), -np.inf)
    rank = np.argmax(np.where(np.isnan(ratio), -np.inf, ratio), axis=-1) + 1.0
    return np.where(top[..., 0] == 0, 0.0, np.where(known.any(-1), rank, np.nan))


def numerical_rank(values: ArrayLike, rtol: float) -> FloatArray:
    """Number of known singular values above `rtol * s_1`.

    When all K known values are above, the true rank is at least K, not K.

    Args:
        values: (..., K), descending.
        rtol: Relative to s_1.

    Returns:
        (...), float64 holding whole numbers; NaN when no value is known.
    """
    values = _leading_run(values)
    with np.errstate(invalid="ignore"):
        count = (values > rtol * values[..., :1]).sum(-1).astype(np.float64)
    return np.where(np.isfinite(values).any(-1), count, np.nan)


def converged_singular_values(ds: xr.Dataset) -> xr.DataArray:
    """The stored singular values, without those that did not converge.

    Args:
        ds: A dataset with the singular probe: `singular_values` and `singular_converged`, (sample, block, rank).

    Returns:
        `singular_values` in float64, NaN wherever `singular_converged` is false.

    Raises:
        InputError: `singular_converged` is not stored.
    """
    if "singular_converged" not in ds:
        raise InputError(
            "got singular_values without singular_converged, expected both: capture the singular probe again"
        )
    values = ds["singular_values"].astype(np.float64)
    return values.where(ds["singular_converged"].astype(bool))


def count_unconverged(ds: xr.Dataset) -> int:
    """Number of stored singular triplets that did not converge (padding is not counted).

    Args:
        ds: A dataset with the singular probe.

    Returns:
        The number, over all samples, blocks and ranks.
    """
    stored = np.isfinite(ds["singular_values"])
    return int((stored & ~ds["singular_converged"].astype(bool)).sum())


def rounding_level(ds: xr.Dataset) -> float:
    """Rounding of singular values relative to s_1, eps(dtype) sqrt(d) with d the size of the largest state.

    The root, not the size itself: rounding errors of either sign add up like a random walk (Higham and Mary
    2019); the worst case would hide true values of large states.
    """
    dtype = str(ds.attrs.get("dtype", "float32")).removeprefix("torch.")
    eps = 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)
    return float(eps * float(ds["state_size"].max()) ** 0.5)


@renamed_argument("n_classes", "num_classes")
def singular_rank(ds: xr.Dataset, num_classes: int | None = None) -> xr.Dataset:
    """RA3 per sample and block: `singular_gap`, `gap_rank`, `numerical_rank`.

    Only converged values are used. The relative tolerance of the two ranks is eps(dtype) sqrt(d) with d the size of the
    largest state.

    Args:
        ds: A dataset with the singular probe.
        num_classes: C (default: the length of `ds.attrs["class_names"]`; without either there is no `singular_gap`).

    Returns:
        A dataset of these three, each (sample, block), float64. Its attributes are `rtol`, the tolerance,
        `num_classes`, 0 where it is not known, and `num_values`, how many singular values are stored per block.

    Raises:
        InputError: The convergence of the values is not stored.

    Source:
        Li and Papyan (2023), RA3, figure 4a; the two ranks are ours.
    """
    values = converged_singular_values(ds).transpose("sample", "block", "rank").values
    num_classes = num_classes or len(ds.attrs.get("class_names") or ())
    rtol = rounding_level(ds)
    dims = ("sample", "block")
    parts = {
        "gap_rank": (dims, gap_rank(values, rtol)),
        "numerical_rank": (dims, numerical_rank(values, rtol)),
    }
    if num_classes:
        parts["singular_gap"] = (dims, singular_gap(values, num_classes))
    coords = {"sample": ds["sample"], "block": ds["block"]}
    return xr.Dataset(
        parts, coords=coords, attrs={"rtol": rtol, "num_classes": num_classes, "num_values": values.shape[-1]}
    )


def _leading_run(values: ArrayLike) -> FloatArray:
    """Float64 copy with everything after the first NaN made NaN."""
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.logical_and.accumulate(np.isfinite(values), axis=-1), values, np.nan)


def _floored_pair(values: FloatArray, floor: FloatArray) -> tuple[FloatArray, FloatArray]:
    raised = np.maximum(values, floor)
    return raised[..., :-1], raised[..., 1:]


def _divide(a: FloatArray, b: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(a, b), dtype=np.float64)
