"""`ds.resdyn`: metrics, figures and the report of a captured dataset, from the dataset itself."""

from __future__ import annotations

from pathlib import Path

import matplotlib.figure as mf
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from resdyn import metrics
from resdyn.errors import InputError, did_you_mean
from resdyn.metrics.scaling import InverseScalingFit, LineFit
from resdyn.phenomena import phenomena
from resdyn.report import write_report
from resdyn.report.sections import ReportFigure, all_figures


@xr.register_dataset_accessor("resdyn")
class ResdynAccessor:
    """What can be asked of a captured dataset: `ds.resdyn.alignment()`, `.summary()`, `.figure(name)`, `.report(path)`.

    Metrics of a whole dataset return a Dataset (or the DataArray of that name), and single quantities a DataArray with
    the dims (sample, block), (sample, stage) or (depth,). A metric whose arrays were not captured raises InputError,
    which names the probe.

    Args:
        ds: What `resdyn.capture` or `resdyn.open_store` returned, or a part of it.

    Raises:
        InputError: A dimension was dropped, as by `ds.isel(sample=0)`; choose with a list.

    Example:
        >>> import torch, resdyn
        >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
        >>> ds = resdyn.capture(model, torch.rand(5, 3), "trajectory", store=None, samples=2, show_progress=False)
        >>> ds.resdyn.step_length().sizes
        Frozen({'sample': 2, 'depth': 3})
    """

    def __init__(self, ds: xr.Dataset) -> None:
        for dim in ("sample", "block", "depth"):
            if dim in ds.coords and dim not in ds.dims:
                raise InputError(
                    f"got a dataset of one {dim} without that dimension; choose with a list, ds.isel({dim}=[0]), so "
                    "that metrics find it"
                )
        self._ds = ds

    # The whole

    def summary(self, *, rank: int | None = None) -> pd.DataFrame:
        """All metrics that the arrays allow, one row each.

        Args:
            rank: Limits RA2 to the top triplets.

        Returns:
            The columns name, title, value, standard_error, n, where, reading, source, note and interval.
        """
        return pd.DataFrame(metrics.metrics_table(self._ds, rank=rank))

    def figures(self) -> list[str]:
        """Names of the figures that this dataset allows."""
        return [name for name, picture in all_figures(self._ds).items() if picture.draw(self._ds) is not None]

    def figure(self, name: str) -> go.Figure:
        """A figure of the report as a plotly Figure.

        Args:
            name: One of `figures()`.

        Raises:
            InputError: For another name; it lists the known ones.
        """
        picture = self._picture(name)
        figure = None if picture is None else picture.draw(self._ds)
        if figure is None:
            raise self._no_figure(name)
        return figure

    def paper_figure(self, name: str) -> mf.Figure:
        """The same figure for print as a matplotlib Figure.

        Args:
            name: One of `figures()`.

        Raises:
            InputError: For another name, and for a figure that has no version for print.
        """
        picture = self._picture(name)
        figure = None if picture is None or picture.paper is None else picture.paper(self._ds)
        if figure is None:
            raise self._no_figure(name)
        return figure

    def report(
        self, path: str | Path = "report.html", title: str | None = None, null: xr.Dataset | None = None
    ) -> Path:
        """Write the report (`resdyn.write_report`) and return its path.

        Args:
            path: The file to write.
            title: Heading of the page. None: the model and its data.
            null: The same measurement of the same network untrained, for the verdicts.

        Raises:
            InputError: If the file cannot be written.
        """
        return write_report(self._ds, path, title=title, null=null)

    def verdicts(self, null: xr.Dataset | None = None) -> list[metrics.PropertyVerdict]:
        """Whether each property holds, by a stated rule (`resdyn.metrics.verdicts`).

        Args:
            null: The same measurement of the same network untrained. None: no property is said to hold.
        """
        return metrics.verdicts(self._ds, null)

    # RA1: the states

    def line_geometry(self) -> xr.Dataset:
        """All of RA1 for every sample and stage (`resdyn.metrics.line_geometry`)."""
        return metrics.line_geometry(self._with("line_geometry", "states"))

    def line_shape_score(self) -> xr.DataArray:
        """(sample, stage): 1 when every step points the same way (`resdyn.metrics.line_shape_score`)."""
        return self.line_geometry()["line_shape_score"]

    def tortuosity(self) -> xr.DataArray:
        """(sample, stage): length of the path over the distance of its ends (`resdyn.metrics.tortuosity`)."""
        return self.line_geometry()["tortuosity"]

    def collinearity(self) -> xr.DataArray:
        """(sample, depth): cosine of the steps into and out of each state (`resdyn.metrics.collinearity`)."""
        return self.line_geometry()["collinearity"]

    def equispacing(self) -> xr.DataArray:
        """(sample, stage): coefficient of variation of the step lengths (`resdyn.metrics.equispacing`)."""
        return self.line_geometry()["equispacing"]

    def step_length(self) -> xr.DataArray:
        """(sample, depth): length of the step that starts from each state (`resdyn.metrics.step_length`)."""
        return self.line_geometry()["step_length"]

    # RA2: coupled blocks

    def alignment(self, rank: int | None = None) -> xr.Dataset:
        """All of RA2 for every sample and pair of blocks (`resdyn.metrics.alignment`).

        Args:
            rank: Use the top triplets alone. None: all that are coupled.
        """
        return metrics.alignment(self._with("alignment", "coupling_uv"), rank)

    def aligned_vectors(self) -> xr.DataArray:
        """(sample, block, block_j, rank): whether vectors line up, 0 or 1 (`resdyn.metrics.aligned_vectors`)."""
        return metrics.aligned_vectors(self._with("aligned_vectors", "coupling_uv"))

    def diagonal_energy(self, rank: int | None = None) -> xr.DataArray:
        """(sample, block, block_j): share of |U_j^T J_i V_j|^2 on its diagonal (`resdyn.metrics.diagonal_energy`).

        Args:
            rank: Use the top triplets alone. None: all that are coupled.
        """
        return self._of(self.alignment(rank), "diagonal_energy", "diagonal_energy_uv")

    def mismatch(self, rank: int | None = None) -> xr.DataArray:
        """(sample, block, block_j): distance of U_j^T J_i V_j from diag(s_i) (`resdyn.metrics.mismatch`).

        Args:
            rank: Use the top triplets alone. None: all that are coupled.
        """
        return self._of(self.alignment(rank), "mismatch", "mismatch_uv")

    # RA3 and RA4: singular values

    def converged_singular_values(self) -> xr.DataArray:
        """(sample, block, rank), NaN where a triplet did not converge (`resdyn.metrics.converged_singular_values`)."""
        return metrics.converged_singular_values(self._with("converged_singular_values", "singular_values"))

    def count_unconverged(self) -> int:
        """Number of stored triplets that did not converge (`resdyn.metrics.count_unconverged`)."""
        return metrics.count_unconverged(self._with("count_unconverged", "singular_values"))

    def singular_rank(self, num_classes: int | None = None) -> xr.Dataset:
        """RA3 for every sample and block (`resdyn.metrics.singular_rank`).

        Args:
            num_classes: C. None: that of the data, if it has classes.
        """
        return metrics.singular_rank(self._with("singular_rank", "singular_values"), num_classes)

    def singular_gap(self, num_classes: int | None = None) -> xr.DataArray:
        """(sample, block): s_C / s_(C+1) (`resdyn.metrics.singular_gap`).

        Args:
            num_classes: C. None: that of the data, if it has classes.
        """
        return self._of(self.singular_rank(num_classes), "singular_gap", "singular_gap")

    def gap_rank(self) -> xr.DataArray:
        """(sample, block): number of singular values before the largest gap (`resdyn.metrics.gap_rank`)."""
        return self.singular_rank()["gap_rank"]

    def numerical_rank(self) -> xr.DataArray:
        """(sample, block): number of singular values above rounding (`resdyn.metrics.numerical_rank`)."""
        return self.singular_rank()["numerical_rank"]

    def inverse_scaling(self, start: int | None = None) -> tuple[InverseScalingFit, list[LineFit]]:
        """RA4: the line of 1/s_1 against depth, and each sample's own (`resdyn.metrics.inverse_scaling`).

        Args:
            start: First block of the line, counted from 1. None: it is chosen.

        Returns:
            The fit, and one line per sample.

        Raises:
            InputError: Where there are too few blocks.
        """
        return metrics.inverse_scaling(self._with("inverse_scaling", "singular_values"), start=start)

    # Eigenvalues

    def stiffness(self) -> xr.Dataset:
        """Stiffness index and negative shares for every sample and block (`resdyn.metrics.stiffness`)."""
        return metrics.stiffness(self._with("stiffness", "largest_real"))

    def stiffness_index(self) -> xr.DataArray:
        """(sample, block): max Re / min Re of the Jacobian's eigenvalues (`resdyn.metrics.stiffness_index`)."""
        return self.stiffness()["stiffness_index_flattened"]

    def percent_negative(self) -> xr.DataArray:
        """(sample, block): eigenvalues with negative real part, per cent (`resdyn.metrics.percent_negative`)."""
        return self.stiffness()["percent_negative_flattened"]

    # Noise stability

    def cushions(self) -> xr.Dataset:
        """Cushions of layers and blocks for every sample (`resdyn.metrics.cushions`)."""
        return metrics.cushions(self._with("cushions", "span_product_norm"))

    def layer_cushion(self) -> xr.DataArray:
        """(sample, block, part): |A x| / (|A|_F |x|) of every layer (`resdyn.metrics.layer_cushion`)."""
        return self.cushions()["layer_cushion"]

    # Neural collapse

    def neural_collapse(self) -> xr.Dataset:
        """NC1-NC4 over depth and of the classifier's input (`resdyn.metrics.neural_collapse`)."""
        return metrics.neural_collapse(self._with("neural_collapse", "class_count"))

    def within_class_variability(self) -> xr.DataArray:
        """(depth,): NC1, tr(Sigma_W Sigma_B^+) / C (`resdyn.metrics.within_class_variability`)."""
        return self._of(self.neural_collapse(), "within_class_variability", "within_class_variability")

    def within_between_ratio(self) -> xr.DataArray:
        """(depth,): tr(Sigma_W) / tr(Sigma_B) (`resdyn.metrics.within_between_ratio`)."""
        return self._of(self.neural_collapse(), "within_between_ratio", "within_between_ratio")

    def equinorm(self) -> xr.DataArray:
        """(depth,): NC2, variation of the norms of class means (`resdyn.metrics.equinorm`)."""
        return self._of(self.neural_collapse(), "equinorm", "equinorm")

    def equiangularity(self) -> xr.DataArray:
        """(depth,): NC2, spread of the cosines of class means (`resdyn.metrics.equiangularity`)."""
        return self._of(self.neural_collapse(), "equiangularity", "equiangularity")

    def maximal_angle(self) -> xr.DataArray:
        """(depth,): NC2, distance of these cosines from -1/(C-1) (`resdyn.metrics.maximal_angle`)."""
        return self._of(self.neural_collapse(), "maximal_angle", "maximal_angle")

    def self_duality(self) -> xr.DataArray:
        """A number: NC3, distance of classifier and class means (`resdyn.metrics.self_duality`)."""
        return self._of(self.neural_collapse(), "self_duality", "feature_self_duality")

    def nearest_mean_disagreement(self) -> xr.DataArray:
        """(depth,): NC4, predictions off the nearest mean (`resdyn.metrics.nearest_mean_disagreement`)."""
        return self._of(self.neural_collapse(), "nearest_mean_disagreement", "nearest_mean_disagreement")

    def _with(self, metric: str, variable: str) -> xr.Dataset:
        """The dataset, if it holds what a metric reads."""
        if variable not in self._ds:
            probe = next(p.name for p in phenomena() if variable in p.variables)
            raise InputError(
                f"{metric} needs the probe '{probe}', which was not captured: capture with probes='{probe}'"
            )
        return self._ds

    @staticmethod
    def _of(found: xr.Dataset, metric: str, variable: str) -> xr.DataArray:
        if variable not in found:
            raise InputError(f"{metric} is not defined for this dataset, which allows {', '.join(map(str, found))}")
        return found[variable]

    def _picture(self, name: str) -> ReportFigure | None:
        return all_figures(self._ds).get(name)

    def _no_figure(self, name: str) -> InputError:
        known = self.figures()
        return InputError(f"got figure '{name}', expected one of {', '.join(known)}.{did_you_mean(name, known)}")
