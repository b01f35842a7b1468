"""Neural collapse NC1-NC4 in the metrics table."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from resdyn.metrics.collapse import neural_collapse
from resdyn.metrics.collapse_errors import collapse_errors
from resdyn.metrics.summary import by_chance
from resdyn.metrics.summary.metric import Chance, Metric, one_number, with_groups, with_interval
from resdyn.metrics.summary.registry import Summary

PAPYAN = "Papyan, Han and Donoho (2020)"
TEXTS = {
    "within_class_variability": ("NC1 tr(Sigma_W Sigma_B^+) / C", "0 when every class is a point", PAPYAN),
    "within_between_ratio": ("NC1 tr(Sigma_W) / tr(Sigma_B)", "0 when classes are points", "scatter ratio"),
    "equinorm": ("NC2 variation of class-mean norms", "0 when the norms agree", PAPYAN),
    "equiangularity": ("NC2 deviation of class-mean cosines", "0 when the angles agree", PAPYAN),
    "maximal_angle": ("NC2 distance from cosine -1/(C-1)", "0 when the angles are as wide as can be", PAPYAN),
    "self_duality": ("NC3 classifier against class means", "0 when proportional, 1.41 orthogonal", PAPYAN),
    "nearest_mean_disagreement": ("NC4 predictions off the nearest class mean", "0 when all agree", PAPYAN),
}
TRIVIAL_FOR_TWO = ("equinorm", "equiangularity", "maximal_angle")


def rows(ds: xr.Dataset) -> Iterator[Metric]:
    """The last depth, and the classifier's input where it is stored."""
    measured = neural_collapse(ds)
    images = int(ds["num_images"]) if "num_images" in ds else int(ds["class_count"].sum())
    empty = measured.attrs["empty_classes"]
    left_out = f"{len(empty)} classes without images left out" if empty else ""
    found_errors = collapse_errors(ds)
    two = ds.sizes["class"] - len(empty) == 2
    for key, values in measured.data_vars.items():
        name = str(key).removeprefix("feature_")
        value = float(values.values[-1] if "depth" in values.dims else values.values)
        where = f"depth {int(ds['depth'].values[-1])}" if "depth" in values.dims else "input of the classifier"
        trivial = "zero by construction for two classes" if two and name in TRIVIAL_FOR_TWO else ""
        size = ds.sizes["feature"] if str(key).startswith("feature_") and "feature" in ds.sizes else _last_size(ds)
        chance = _by_chance(name, ds, ds.sizes["class"] - len(empty), size)
        error = None if trivial else found_errors.errors.get(str(key))
        said = found_errors.said if error is not None else ""
        found = one_number(name, value, error, images, where, left_out, trivial, said, chance=chance)
        found = with_groups(found, found_errors.groups) if error is not None else found
        yield with_interval(found, images) if name == "nearest_mean_disagreement" else found


def _last_size(ds: xr.Dataset) -> int:
    return int(ds["state_size"].values[-1]) if "state_size" in ds.coords else ds.sizes.get("coord", 0)


def _by_chance(name: str, ds: xr.Dataset, num_classes: int, d: int) -> Chance:
    """Of isotropic states whose labels are shuffled, n images per class in d dimensions."""
    if num_classes < 2 or d < 1:
        return Chance("none: fewer than two classes")
    if num_classes == 2 and name in TRIVIAL_FOR_TWO:
        return Chance("zero by construction for two classes", 0.0)
    each = float(ds["class_count"].sum()) / num_classes
    nc1 = by_chance.within_class_variability(num_classes, each, d)
    values = {
        "within_class_variability": ("(C-1)(n-1)/(d-C), isotropic states, labels shuffled", nc1),
        "within_between_ratio": ("(n-1) C/(C-1), labels shuffled", (each - 1) * num_classes / (num_classes - 1)),
        "equinorm": ("1/sqrt(2d), random class means", (2 * d) ** -0.5),
        "equiangularity": ("1/sqrt(d), random class means", d**-0.5),
        "maximal_angle": ("sqrt(2/(pi d)), random class means", by_chance.cosine(d)),
        "self_duality": ("sqrt(2), unrelated directions", 2**0.5),
        "nearest_mean_disagreement": ("1 - 1/C, predictions unrelated to the states", 1 - 1 / num_classes),
    }
    return Chance(*values[name])


SUMMARY = Summary(rows, TEXTS)
