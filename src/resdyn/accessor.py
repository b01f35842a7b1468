"""`ds.resdyn`: metrics, figures and the report of a captured dataset, from the dataset itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure as mf
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from resdyn import metrics
from resdyn.errors import InputError, did_you_mean
from resdyn.metrics import metrics_table
from resdyn.report import write_report
from resdyn.report.notes import VARIABLES
from resdyn.report.sections import all_plans

# metric of a dataset -> the probe whose arrays it reads
WHOLE = {
    "line_geometry": "trajectory",
    "alignment": "coupling",
    "aligned_vectors": "coupling",
    "converged_singular_values": "singular",
    "count_unconverged": "singular",
    "singular_rank": "singular",
    "inverse_scaling": "singular",
    "stiffness": "spectrum",
    "cushions": "cushion",
    "neural_collapse": "features",
}
# metric of single arrays -> the metric of a dataset that holds it, and under which name
PARTS = {
    **{
        name: ("line_geometry", name)
        for name in ("line_shape_score", "tortuosity", "collinearity", "equispacing", "step_length")
    },
    "diagonal_energy": ("alignment", "diagonal_energy_uv"),
    "mismatch": ("alignment", "mismatch_uv"),
    **{name: ("singular_rank", name) for name in ("singular_gap", "gap_rank", "numerical_rank")},
    "stiffness_index": ("stiffness", "stiffness_index_flattened"),
    "percent_negative": ("stiffness", "percent_negative_flattened"),
    "layer_cushion": ("cushions", "layer_cushion"),
    **{
        name: ("neural_collapse", name)
        for name in (
            "within_class_variability",
            "within_between_ratio",
            "equinorm",
            "equiangularity",
            "maximal_angle",
            "nearest_mean_disagreement",
        )
    },
    "self_duality": ("neural_collapse", "feature_self_duality"),
}


@xr.register_dataset_accessor("resdyn")
class ResdynAccessor:
    """What can be asked of a captured dataset: `ds.resdyn.alignment()`, `.summary()`, `.figure(name)`, `.report(path)`.

    Every metric of `resdyn.metrics` that reads a dataset is a method here, and those of single arrays read theirs
    from it: `ds.resdyn.line_shape_score()`, `ds.resdyn.stiffness_index()`. Options are those of the metric. A metric
    whose arrays were not captured raises InputError, which names the probe.
    """

    def __init__(self, ds: xr.Dataset) -> None:
        for dim in ("sample", "block", "depth"):
            if dim in ds.coords and dim not in ds.dims:
                raise InputError(
                    f"got a dataset of one {dim} without that dimension; choose with a list, ds.isel({dim}=[0]), so "
                    "that metrics find it"
                )
        self._ds = ds

    def summary(self) -> pd.DataFrame:
        """All metrics that the arrays allow, as `resdyn.metrics.summarize` finds them, one row each."""
        return pd.DataFrame(metrics_table(self._ds))

    def figures(self) -> list[str]:
        """Names of the pictures that this dataset allows."""
        return [name for name, plan in all_plans(self._ds).items() if plan.draw(self._ds) is not None]

    def figure(self, name: str) -> go.Figure:
        """A picture of the report as a plotly Figure. Errors: InputError for one that there is not."""
        return self._drawn(name, "draw")

    def paper_figure(self, name: str) -> mf.Figure:
        """The same picture for print as a matplotlib Figure."""
        return self._drawn(name, "paper")

    def report(self, path: str | Path = "report.html", title: str | None = None) -> Path:
        """Write the report (`resdyn.write_report`)."""
        return write_report(self._ds, path, title=title)

    def _drawn(self, name: str, how: str) -> Any:
        plans = all_plans(self._ds)
        figure = getattr(plans[name], how)(self._ds) if name in plans else None
        if figure is None:
            known = self.figures()
            raise InputError(f"got figure '{name}', expected one of {', '.join(known)}.{did_you_mean(name, known)}")
        return figure

    def _require(self, metric: str) -> None:
        probe = WHOLE[metric]
        if not all(name in self._ds for name in VARIABLES[probe]):
            raise InputError(
                f"{metric} needs the probe '{probe}', which was not captured: capture with probes='{probe}'"
            )


def _whole(name: str) -> Callable[..., Any]:
    function = getattr(metrics, name)

    @functools.wraps(function)
    def method(self: ResdynAccessor, *args: Any, **options: Any) -> Any:
        self._require(name)
        return function(self._ds, *args, **options)

    return method


def _part(name: str, whole: str, variable: str) -> Callable[..., xr.DataArray]:
    @functools.wraps(getattr(metrics, name))
    def method(self: ResdynAccessor, **options: Any) -> xr.DataArray:
        self._require(whole)
        found = getattr(metrics, whole)(self._ds, **options)
        if variable not in found:
            raise InputError(f"{name} is not defined for this dataset: {whole} holds {', '.join(map(str, found))}")
        return found[variable]

    return method


for _name in WHOLE:
    setattr(ResdynAccessor, _name, _whole(_name))
for _name, (_of, _variable) in PARTS.items():
    setattr(ResdynAccessor, _name, _part(_name, _of, _variable))
