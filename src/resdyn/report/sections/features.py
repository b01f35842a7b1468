"""Neural collapse in the report, over depth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from resdyn.metrics.collapse import neural_collapse
from resdyn.report.comparison.overlay import Overlay, Values
from resdyn.report.sections.section import Section, built_in

NC1 = (("within_class_variability", "NC1"),)
NC2 = (
    ("equinorm", "Spread of norms"),
    ("equiangularity", "of cosines"),
    ("maximal_angle", "distance from −1/(C−1)"),
)
NC34 = (("self_duality", "NC3"), ("nearest_mean_disagreement", "NC4"))


def _over_depth(name: str) -> Callable[[xr.Dataset], Values | None]:
    def values(ds: xr.Dataset) -> Values | None:
        if "class_count" not in ds:
            return None
        line = neural_collapse(ds)[name].values[None]
        return (ds["depth"].values, line) if np.isfinite(line).any() else None

    return values


SECTIONS = (
    Section(
        "collapse",
        "Neural collapse",
        "Neural collapse over depth",
        (
            built_in(
                "collapse_variability",
                "NC1: variability within classes",
                "Scatter within the classes against scatter between their means, on a logarithmic scale: "
                "it falls as every class shrinks towards a point.",
                NC1,
            ),
            built_in(
                "collapse_simplex",
                "NC2: simplex of class means",
                "Three distances from a regular simplex: unequal norms, unequal angles, and angles that are not "
                "as wide as they could be; all zero at collapse.",
                NC2,
            ),
            built_in(
                "collapse_decision",
                "NC3 and NC4: the decision",
                "NC4 is the share of images whose nearest class mean differs from the network's prediction; NC3 the "
                "distance between classifier and class means (√2 when unrelated); both zero at collapse.",
                NC34,
            ),
        ),
        expected=True,
    ),
)

OVERLAYS = (
    Overlay(
        "collapse_variability",
        "Variability within classes",
        "NC1: 0 when all samples of a class are one point.",
        "depth",
        "NC1",
        _over_depth("within_class_variability"),
        log=True,
    ),
    Overlay(
        "collapse_decision",
        "Off the nearest class mean",
        "NC4: share of predictions that are not the nearest mean's.",
        "depth",
        "NC4",
        _over_depth("nearest_mean_disagreement"),
    ),
)
