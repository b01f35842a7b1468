"""Readings of the dataset that several figures share; each copes with missing parts and padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Array = NDArray[Any]


def has(ds: xr.Dataset, *names: str) -> bool:
    """Whether all variables are present and hold at least one finite value."""
    return all(name in ds and bool(np.isfinite(ds[name].values).any()) for name in names)


def labels(ds: xr.Dataset) -> Array | None:
    """Class label of each sample, or None where the data have none."""
    if "label" not in ds.coords or (ds["label"].values < 0).all():
        return None
    return ds["label"].values.astype(int)


def class_name(ds: xr.Dataset, index: int) -> str:
    """Name of a class as the data give it, else its number."""
    names = ds.attrs.get("class_names") or []
    return str(names[index]) if 0 <= index < len(names) else f"class {index}"


def sample_ids(ds: xr.Dataset) -> list[int]:
    """Index in the data split of each sample."""
    return [int(i) for i in ds["sample"].values]


def sample_title(ds: xr.Dataset, position: int) -> str:
    """'sample 17 (cat)': what a drop-down shows."""
    title, known = f"sample {sample_ids(ds)[position]}", labels(ds)
    return title if known is None else f"{title} ({class_name(ds, int(known[position]))})"


def num_classes(ds: xr.Dataset) -> int | None:
    """C: number of classes that the data name, else of class entries in the dataset."""
    names = ds.attrs.get("class_names")
    return ds.sizes.get("class") if names is None else len(names) or None


def stages(ds: xr.Dataset) -> list[tuple[int, Array]]:
    """(stage, positions of its depths) for every stage of at least two states."""
    stage = ds["stage_of_depth"].values if "stage_of_depth" in ds.coords else np.zeros(ds.sizes["depth"], int)
    runs = [(int(s), np.flatnonzero(stage == s)) for s in np.unique(stage)]
    return [(s, depths) for s, depths in runs if len(depths) > 1]


def stage_states(ds: xr.Dataset, depths: Array, limit: int) -> tuple[Array, Array]:
    """States (sample, depth, coord) of one stage without padding, and the positions of the samples kept.

    At most `limit` samples, the first of them; a sample with a missing state is left out.
    """
    states = ds["states"].isel(sample=slice(limit), depth=depths).values
    states = states[..., np.isfinite(states).any(axis=(0, 1))]
    kept = np.flatnonzero(np.isfinite(states).all(axis=(1, 2)))
    return states[kept].astype(np.float64), kept


def coupled_groups(ds: xr.Dataset) -> list[Array]:
    """Positions of blocks that are coupled with one another, one array a stage, largest first."""
    if not has(ds, "coupling_uv"):
        return []
    known = np.isfinite(ds["coupling_uv"].isel(rank=0, rank_j=0).values).any(axis=0)
    left = set(range(len(known)))
    groups = []
    while left:
        seed = min(left)
        group = {b for b in left if known[seed, b] and known[b, seed]} | {seed}
        left -= group
        groups.append(np.array(sorted(group)))
    return sorted((g for g in groups if len(g) > 1), key=lambda g: (-len(g), g[0]))


def mean_and_error(values: Array) -> tuple[Array, Array, Array]:
    """Mean, its standard error (NaN for fewer than two) and count over the first axis, NaN left out.

    The mean of infinite values is infinite, without an error: a figure has a gap there.
    """
    known = ~np.isnan(values)
    n = known.sum(axis=0)
    filled = np.where(known, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=0) / n
        variance = (np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / (n - 1)
        error = np.sqrt(variance / n)
    return np.where(n > 0, mean, np.nan), np.where((n > 1) & np.isfinite(mean), error, np.nan), n
