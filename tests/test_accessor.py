"""`ds.resdyn`, and what a notebook shows."""

from __future__ import annotations

import inspect

import matplotlib.figure
import numpy as np
import pandas
import plotly.graph_objects
import pytest
import torch
import xarray as xr

import resdyn
from resdyn import metrics
from resdyn.accessor import ResdynAccessor
from resdyn.errors import InputError
from synthetic import synthetic_dataset


@pytest.fixture(scope="module")
def ds():
    return synthetic_dataset()


WHOLE = (
    "verdicts",
    "line_geometry",
    "alignment",
    "aligned_vectors",
    "converged_singular_values",
    "count_unconverged",
    "singular_rank",
    "inverse_scaling",
    "stiffness",
    "cushions",
    "neural_collapse",
)
OWN = {"summary", "figures", "figure", "paper_figure", "report"}
METHODS = {name for name in vars(ResdynAccessor) if not name.startswith("_")}


@pytest.mark.parametrize("name", WHOLE)
def test_a_metric_of_a_dataset_is_a_method(ds, name):
    found, expected = getattr(ds.resdyn, name)(), getattr(metrics, name)(ds)
    assert found.equals(expected) if hasattr(expected, "equals") else found == expected


@pytest.mark.parametrize("name", sorted(METHODS - OWN - set(WHOLE)))
def test_a_metric_of_arrays_reads_them_from_the_dataset(ds, name):
    found = getattr(ds.resdyn, name)()
    assert isinstance(found, xr.DataArray)
    assert np.isfinite(found.values).any()
    assert f"`resdyn.metrics.{name}`" in inspect.getdoc(getattr(ResdynAccessor, name))
    assert callable(getattr(metrics, name))


@pytest.mark.parametrize("name", sorted(METHODS - {"figure", "paper_figure", "report", "count_unconverged", "figures"}))
def test_a_method_returns_what_its_signature_says(ds, name):
    said = inspect.signature(getattr(ResdynAccessor, name)).return_annotation
    kinds = {"xr.Dataset": xr.Dataset, "xr.DataArray": xr.DataArray, "pd.DataFrame": pandas.DataFrame}
    assert isinstance(getattr(ds.resdyn, name)(), kinds.get(said, list if said.startswith("list") else tuple))


def test_every_metric_of_a_dataset_has_a_method():
    public = {name: getattr(metrics, name) for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))}
    takes_it = {
        name for name, function in public.items() if next(iter(inspect.signature(function).parameters), "") == "ds"
    }
    of_a_lens = {"transport_structures"}  # a capture has none
    assert takes_it - set(WHOLE) - of_a_lens == {"summarize", "metrics_table", "coupled_rank", "determined"}


def test_the_line_shape_score_is_one_on_a_line(ds):
    np.testing.assert_allclose(ds.resdyn.line_shape_score(), 1.0, rtol=1e-6)


def test_options_are_those_of_the_metric(ds):
    assert ds.resdyn.alignment(rank=2).attrs["rank"] == 2


def test_the_summary_is_a_table(ds):
    table = ds.resdyn.summary()
    assert list(table["name"]) == [row["name"] for row in metrics.metrics_table(ds)]
    assert "<table" in table._repr_html_()


def test_figures_are_the_plotting_libraries_own(ds):
    assert isinstance(ds.resdyn.figure("inverse_scaling"), plotly.graph_objects.Figure)
    assert isinstance(ds.resdyn.paper_figure("inverse_scaling"), matplotlib.figure.Figure)
    assert {"inverse_scaling", "collinearity", "coupling_grid"} <= set(ds.resdyn.figures())


def test_a_misspelt_figure_is_answered_with_the_right_name(ds):
    with pytest.raises(InputError, match="Did you mean 'inverse_scaling'"):
        ds.resdyn.figure("inverse_scalling")


def test_a_metric_that_was_not_captured_names_its_probe():
    short = synthetic_dataset(probes=("trajectory",))
    with pytest.raises(InputError, match="needs the probe 'coupling'"):
        short.resdyn.diagonal_energy()


def test_the_report_is_written(ds, tmp_path):
    assert ds.resdyn.report(tmp_path / "r.html").exists()


class TestNotebook:
    def test_a_stream_shows_its_blocks_and_escapes_names(self):
        model = resdyn.nets.ResidualMLP(in_features=4, width=4, depth=3).eval()
        type(model).__name__ = "<Net>"
        try:
            shown = resdyn.find_stream(model, torch.randn(2, 4))._repr_html_()
        finally:
            type(model).__name__ = "ResidualMLP"
        assert "&lt;Net&gt;: 3 residual blocks" in shown
        assert shown.count("<tr") == 4

    def test_triplets_show_their_residuals(self):
        found = resdyn.svd(resdyn.linalg.DenseOperator(torch.diag(torch.tensor([3.0, 2.0, 1.0]))), 2, "dense")
        assert "<td>3</td>" in found._repr_html_()
        assert "converged" in found._repr_html_()

    def test_eigenvalues_show_their_backward_errors(self):
        found = resdyn.eigenvalues(resdyn.linalg.DenseOperator(torch.diag(torch.tensor([3.0, 2.0, 1.0]))))
        assert "backward error" in found._repr_html_()
        assert "3+0j" in found._repr_html_()

    def test_noise_shows_mean_and_error(self):
        shown = resdyn.NoiseResponse((0.1,), np.array([[0.5, 0.7]]))._repr_html_()
        assert "<td>0.6</td>" in shown


def test_a_sample_that_was_chosen_without_its_dimension_is_refused_with_the_way_that_keeps_it(ds):
    with pytest.raises(InputError, match=r"isel\(sample=\[0\]\)"):
        _ = ds.isel(sample=0).resdyn
    assert ds.isel(sample=[0]).resdyn.line_shape_score().sizes["sample"] == 1
