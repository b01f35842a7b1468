"""Neural collapse NC1-NC4 in the metrics table."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from resdyn.metrics.collapse import neural_collapse
from resdyn.metrics.summary.metric import Metric, one_number, with_interval
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
    two = ds.sizes["class"] - len(empty) == 2
    for key, values in measured.data_vars.items():
        name = str(key).removeprefix("feature_")
        value = float(values.values[-1] if "depth" in values.dims else values.values)
        where = f"depth {int(ds['depth'].values[-1])}" if "depth" in values.dims else "input of the classifier"
        trivial = "zero by construction for two classes" if two and name in TRIVIAL_FOR_TWO else ""
        found = one_number(name, value, None, images, where, left_out, trivial)
        yield with_interval(found, images) if name == "nearest_mean_disagreement" else found


SUMMARY = Summary(rows, TEXTS)
