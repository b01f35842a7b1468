"""Standard errors of NC1 to NC3: over images where folds of them were left out, else over classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn.metrics.collapse import neural_collapse

GROUPS, MIN_GROUPS = 10, 4
OVER_IMAGES = "standard error by jackknife over images, in {} groups"
OVER_CLASSES = "standard error by jackknife over classes, in {} groups"


@dataclass(frozen=True)
class CollapseErrors:
    """Standard errors by the name of the metric, and over what.

    Attributes:
        errors: By the names of `neural_collapse`, of its last depth.
        groups: How many groups were left out in turn; the error has one degree of freedom less.
        said: Over what, in words.
    """

    errors: Mapping[str, float]
    groups: int
    said: str


def collapse_errors(ds: xr.Dataset) -> CollapseErrors:
    """Standard errors of NC1 to NC3 at the last depth and of the classifier's input, by a delete-a-group jackknife.

    s^2 = (g - 1) / g * sum_k (x_k - mean x)^2, x_k the number without the k-th of g groups. Over images: tenths of each
    class, as the features probe left them out; what another draw of as many images would change. Where it did not (two
    images of a class are the least), over classes. Neither says anything of the bias that few images leave.

    Args:
        ds: A dataset with the features probe.

    Returns:
        The errors; none where there are fewer than four groups.

    Source:
        Tukey (1958); Shao and Tu (1995), The Jackknife and Bootstrap, on groups.
    """
    counts = ds["class_count"].values
    present = np.flatnonzero(counts > 0)
    if "fold_class_count" in ds and present.size > 1 and (ds["fold_class_count"].values[:, present] > 0).all():
        folds = range(ds.sizes["fold"])
        return _errors([_without_fold(ds.isel(fold=fold)) for fold in folds], OVER_IMAGES)
    last = ds.isel(depth=[-1]) if "depth" in ds.dims else ds
    groups = np.array_split(present, min(GROUPS, present.size))
    return _errors([_without_classes(last, np.setdiff1d(present, group)) for group in groups], OVER_CLASSES)


def _errors(without: Sequence[Mapping[str, float]], said: str) -> CollapseErrors:
    groups = len(without)
    if groups < MIN_GROUPS:
        return CollapseErrors({}, 0, "")
    values = {name: np.array([found[name] for found in without]) for name in without[0]}
    errors = {name: float(np.sqrt((groups - 1) * column.var())) for name, column in values.items()}
    return CollapseErrors({k: v for k, v in errors.items() if np.isfinite(v)}, groups, said.format(groups))


def _without_classes(ds: xr.Dataset, kept: NDArray[np.int64]) -> dict[str, float]:
    return _numbers(ds.isel({dim: kept for dim in ("class", "class_j") if dim in ds.dims}))


def _without_fold(fold: xr.Dataset) -> dict[str, float]:
    """NC1 to NC3 of the images that a fold leaves, as the probe would have stored them."""
    size = fold.sizes["last_coord"]
    stored: dict[str, Any] = {
        "class_count": fold["fold_class_count"],
        "class_mean": fold["last_fold_mean"].rename(last_coord="coord").expand_dims("depth"),
        "within_trace": fold["last_fold_within_trace"].expand_dims("depth"),
        "within_projected": fold["last_fold_within_projected"].expand_dims("depth"),
    }
    if "feature_fold_mean" in fold:
        stored |= {f"feature_{n}": fold[f"feature_fold_{n}"] for n in ("mean", "within_trace", "within_projected")}
        stored |= {"classifier_weight": fold["classifier_weight"]} if "classifier_weight" in fold else {}
    plain = {name: array.drop_vars(list(array.coords)) for name, array in stored.items()}
    return _numbers(xr.Dataset(plain, coords={"state_size": ("depth", [size])}))


def _numbers(ds: xr.Dataset) -> dict[str, float]:
    found = neural_collapse(ds)
    return {str(name): float(found[name].values.ravel()[-1]) for name in found if "disagreement" not in str(name)}
