"""RA1: do the states of a sample lie equispaced on a line?

The cores take the states of ONE stage, shape (..., T, d): all of one size, in order of depth. A step is the
difference of two successive states. A step of length zero has no direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from resdyn._remember import remembered

FloatArray = NDArray[np.float64]
BATCH_BYTES = 32 * 2**20


def line_shape_score(states: ArrayLike) -> FloatArray:
    """Line-shape score, T' / |sum_i (h_{i+1} - h_i) / |h_{i+1} - h_i||, over the T' steps that are not zero.

    1 when every step points the same way, larger the more the path bends (infinite when the unit steps
    cancel); T' steps in independent directions of a high-dimensional space give about sqrt(T').
    Lengths of the steps do not enter: see `equispacing` for these and `tortuosity` for the path itself.

    Args:
        states: (..., T, d), the states of one stage in order of depth.

    Returns:
        (...), float64, no unit; NaN with fewer than two steps that are not zero.

    Source:
        Gai and Zhang (2021), line-shape score.

    Example:
        >>> line_shape_score([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
        array(1.)
    """
    units = _unit_steps(states)
    moving = np.asarray(np.isfinite(units).all(-1))
    count = moving.sum(-1)
    resultant = np.linalg.norm(np.where(moving[..., None], units, 0.0).sum(-2), axis=-1)
    return np.where(count >= 2, _divide(count, resultant), np.nan)


def tortuosity(states: ArrayLike) -> FloatArray:
    """Length of the path over the distance of its ends, sum_i |h_{i+1} - h_i| / |h_T - h_1|.

    1 when the path is straight, larger otherwise, infinite when it closes; unlike `line_shape_score` long
    steps weigh more. Also known as the arc-chord ratio.

    Args:
        states: (..., T, d), the states of one stage in order of depth.

    Returns:
        (...), float64, no unit; NaN with fewer than two steps or without movement.

    Example:
        >>> float(tortuosity([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]]))
        1.4
    """
    states = np.asarray(states, dtype=np.float64)
    lengths = step_length(states)
    if lengths.shape[-1] < 2:
        return np.full(lengths.shape[:-1], np.nan)
    return _divide(lengths.sum(-1), np.linalg.norm(states[..., -1, :] - states[..., 0, :], axis=-1))


def collinearity(states: ArrayLike) -> FloatArray:
    """Cosines of successive steps, <d_i, d_{i+1}> / (|d_i| |d_{i+1}|) with d_i = h_{i+1} - h_i.

    1 when the path goes straight on, 0 at a right angle, -1 when it turns back.

    Args:
        states: (..., T, d), the states of one stage in order of depth.

    Returns:
        (..., T - 2), float64, ordered by depth; NaN beside a step of length zero.

    Source:
        Li and Papyan (2023), RA1 ("on a line").
    """
    units = _unit_steps(states)
    cosines: FloatArray = np.clip((units[..., 1:, :] * units[..., :-1, :]).sum(-1), -1.0, 1.0)
    return cosines


def equispacing(states: ArrayLike) -> FloatArray:
    """Coefficient of variation of the step lengths, std_i |d_i| / mean_i |d_i| with d_i = h_{i+1} - h_i.

    0 when the states are equispaced; the standard deviation divides by the number of steps.

    Args:
        states: (..., T, d), the states of one stage in order of depth.

    Returns:
        (...), float64, no unit; NaN with fewer than two steps or without movement.

    Source:
        Li and Papyan (2023), RA1 ("equispaced").

    Example:
        >>> equispacing([[0.0], [1.0], [2.0], [3.0]])
        array(0.)
    """
    lengths = step_length(states)
    if lengths.shape[-1] < 2:
        return np.full(lengths.shape[:-1], np.nan)
    return _divide(lengths.std(-1), lengths.mean(-1))


def step_length(states: ArrayLike) -> FloatArray:
    """Lengths |h_{i+1} - h_i| of the steps.

    Args:
        states: (..., T, d), the states of one stage in order of depth.

    Returns:
        (..., T - 1), float64, ordered by depth, in the unit of the states.

    Example:
        >>> step_length([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])
        array([5., 1.])
    """
    lengths: FloatArray = np.linalg.norm(np.diff(np.asarray(states, dtype=np.float64), axis=-2), axis=-1)
    return lengths


@remembered
def line_geometry(ds: xr.Dataset) -> xr.Dataset:
    """All of RA1 for every sample and stage of a stored trajectory; states of different stages never mix.

    Reads a few samples at a time.

    Args:
        ds: A dataset with the trajectory probe: needs `states`, `state_size` and `stage_of_depth`.

    Returns:
        A dataset of float64 arrays.

        - `line_shape_score`, `tortuosity`, `equispacing` (sample, stage): the functions of these names;
        - `collinearity` (sample, depth): at depth i the cosine of the steps into and out of h_i;
        - `step_length` (sample, depth): at depth i that of the step from h_i to h_{i+1}, in the unit of the states.

        The last two are NaN where such a step would leave the stage.

    Source:
        Li and Papyan (2023), RA1; Gai and Zhang (2021), line-shape score.
    """
    stage_of_depth = ds["stage_of_depth"].values
    stages = np.unique(stage_of_depth)
    parts = [_geometry(ds, states, stages, stage_of_depth) for states in batches(ds["states"])]
    scores = np.concatenate([np.empty((0, stages.size, 3)), *(scores for scores, _ in parts)])
    profiles = np.concatenate([np.empty((0, stage_of_depth.size, 2)), *(profile for _, profile in parts)])
    names = ("line_shape_score", "tortuosity", "equispacing")
    return xr.Dataset(
        {name: (("sample", "stage"), scores[..., k]) for k, name in enumerate(names)}
        | {name: (("sample", "depth"), profiles[..., k]) for k, name in enumerate(("collinearity", "step_length"))},
        coords={"sample": ds["sample"], "stage": stages, "depth": ds["depth"]},
    )


def batches(states: xr.DataArray) -> Iterator[NDArray[Any]]:
    """Stored states (sample, depth, coord), as many samples at a time as fit into 32 MB, but one at least."""
    per_sample = 8 * states.sizes["depth"] * states.sizes["coord"]
    rows = max(1, BATCH_BYTES // max(1, per_sample))
    for start in range(0, states.sizes["sample"], rows):
        yield states.isel(sample=slice(start, start + rows)).transpose("sample", "depth", "coord").values


def _geometry(
    ds: xr.Dataset, padded: NDArray[Any], stages: NDArray[Any], stage_of_depth: NDArray[Any]
) -> tuple[FloatArray, FloatArray]:
    """Scores (sample, stage, 3) and profiles (sample, depth, 2) of some samples."""
    scores = np.full((len(padded), stages.size, 3), np.nan)
    profile = np.full((len(padded), stage_of_depth.size, 2), np.nan)
    for row, stage in enumerate(stages):
        depths = np.flatnonzero(stage_of_depth == stage)
        states = padded[:, depths, : int(ds["state_size"].values[depths[0]])].astype(np.float64)
        scores[:, row] = np.stack([line_shape_score(states), tortuosity(states), equispacing(states)], axis=-1)
        profile[:, depths[1:-1], 0] = collinearity(states)
        profile[:, depths[:-1], 1] = step_length(states)
    return scores, profile


def _unit_steps(states: ArrayLike) -> FloatArray:
    """Steps divided by their lengths; NaN for a step of length zero."""
    steps = np.diff(np.asarray(states, dtype=np.float64), axis=-2)
    return _divide(steps, np.linalg.norm(steps, axis=-1, keepdims=True))


def _divide(a: ArrayLike, b: ArrayLike) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(a, b), dtype=np.float64)
