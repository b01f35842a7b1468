"""The probe `spectrum` and its metrics on blocks whose eigenvalues are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import resdyn
from resdyn import metrics
from resdyn.errors import InputError
from resdyn.probes import Spectrum, parse_probes
from test_eig import random


class LinearBlocks(nn.Module):
    """h -> h + A_i h: the eigenvalues of block i are 1 + those of A_i."""

    def __init__(self, matrices: list[torch.Tensor]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(len(m), len(m), bias=False) for m in matrices)
        for block, matrix in zip(self.blocks, matrices):
            block.weight.data = matrix.float()
        self.head = nn.Linear(len(matrices[0]), 3)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            h = h + block(h)
        return self.head(h)


def measured(model: nn.Module, inputs: torch.Tensor, tmp_path, probes: str = "spectrum(slices=true)", **settings):
    labels = torch.arange(len(inputs)) % 3
    return resdyn.capture(
        model.eval(), (inputs, labels), probes, tmp_path / "s.zarr", samples=2, show_progress=False, **settings
    )


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    matrices = [torch.diag(torch.linspace(-3.0, 1.0, 9)), random(9, 9).float()]
    model = LinearBlocks(matrices)
    return matrices, measured(model, torch.randn(6, 9), tmp_path_factory.mktemp("linear"))


def test_eigenvalues_of_linear_blocks_are_theirs_shifted_by_the_skip(linear):
    matrices, ds = linear
    for block, matrix in enumerate(matrices):
        exact = torch.linalg.eigvals(matrix + torch.eye(9))
        row = ds.isel(sample=0, block=block)
        assert float(row["largest_real"]) == pytest.approx(float(exact.real.max()), abs=1e-4)
        assert float(row["smallest_real"]) == pytest.approx(float(exact.real.min()), abs=1e-4)
        assert float(row["spectral_radius"]) == pytest.approx(float(exact.abs().max()), abs=1e-4)
        assert int(row["num_negative"]) == int((exact.real < 0).sum())
        assert float(row["jacobian_norm"]) == pytest.approx(
            float(torch.linalg.matrix_norm(matrix + torch.eye(9), 2)), rel=1e-4
        )
        stored = np.sort(row["eigenvalues_real"].values)
        np.testing.assert_allclose(stored, np.sort(exact.real.numpy()), atol=1e-4)


def test_index_and_share_are_those_of_the_eigenvalues(linear):
    ds = linear[1]
    found = metrics.stiffness(ds).isel(sample=0, block=0)
    assert float(found["stiffness_index_flattened"]) == pytest.approx(-1.0)  # from 1 - 3 to 1 + 1
    assert float(found["percent_negative_flattened"]) == pytest.approx(100 * 4 / 9)
    assert float(found["percent_negative_error"]) == 0
    assert float(found["stiffness_index_error"]) < 1e-3
    normal = ds.isel(sample=0, block=0)
    assert float(normal["departure_from_normality"]) < 1e-3
    assert float(normal["condition_largest"]) == pytest.approx(1.0, abs=1e-3)


def test_flat_states_have_no_slices(linear):
    assert np.isnan(linear[1]["largest_real_slices"].values).all()


def test_a_reading_has_its_own_kind(tmp_path):
    model = LinearBlocks([torch.diag(torch.tensor([-3.0, 2.0, 1.0]))])
    ds = measured(model, torch.randn(4, 3), tmp_path, "spectrum(kind=branch)")
    assert float(ds["smallest_real"][0, 0]) == pytest.approx(-3.0, abs=1e-5)
    assert ds.attrs["probes"]["spectrum"]["kind"] == "branch"


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    torch.manual_seed(0)
    model = resdyn.nets.ResidualCNN(depth=2, width=3, image_size=8, downsample=True).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    return model, torch.randn(6, 3, 8, 8)


@pytest.mark.parametrize("nonsquare", ["undefined", "projection"])
def test_convolutional_blocks_agree_with_dense_references_by_both_readings(convolutional, nonsquare, tmp_path):
    model, inputs = convolutional
    probe = f"spectrum(nonsquare={nonsquare}, slices=true)"
    ds = measured(model, inputs, tmp_path, probe)
    stream = resdyn.find_stream(model, inputs[:1])
    index = int(ds["sample"][0])
    states = stream.states(inputs[index : index + 1])
    for block in stream:
        A = stream.jacobian(block.index, states, "block").to_dense().double()
        row = ds.isel(sample=0, block=block.index)
        slices = np.linalg.eigvals(A.reshape(*block.shape_out, *block.shape_in).numpy())
        assert float(row["largest_real_slices"]) == pytest.approx(slices.real.max(), abs=1e-4)
        assert float(row["smallest_real_slices"]) == pytest.approx(slices.real.min(), abs=1e-4)
        assert int(row["num_eigenvalues_slices"]) == slices.size
        undecided = int(row["num_undecided_slices"])
        assert abs(int(row["num_negative_slices"]) - int((slices.real < -1e-7).sum())) <= undecided
        if not block.square and nonsquare == "undefined":
            assert np.isnan(float(row["largest_real"]))
            continue
        if not block.square:
            A = A @ torch.linalg.pinv(stream.skip_jacobian(block.index, states).to_dense().double(), rtol=1e-6)
        exact = torch.linalg.eigvals(A)
        assert float(row["largest_real"]) == pytest.approx(float(exact.real.max()), abs=1e-3)
        assert float(row["smallest_real"]) == pytest.approx(float(exact.real.min()), abs=1e-3)


def test_above_the_dense_limit_the_ends_and_the_count_are_the_same(convolutional, tmp_path):
    model, inputs = convolutional
    dense = measured(model, inputs, tmp_path / "a", "spectrum")
    ends = measured(model, inputs, tmp_path / "b", "spectrum(dense_limit=0)")
    assert "eigenvalues_real" not in ends
    for name in ("largest_real", "smallest_real", "spectral_radius", "num_live"):
        np.testing.assert_allclose(ends[name].values, dense[name].values, atol=1e-3)
    counted = ends["num_negative_error"].values == 0
    np.testing.assert_array_equal(ends["num_negative"].values[counted], dense["num_negative"].values[counted])
    off = np.abs(ends["num_negative"].values - dense["num_negative"].values)
    assert (off <= 5 * ends["num_negative_error"].values)[~np.isnan(off)].all()
    assert np.isnan(ends["departure_from_normality"].values).all()


def test_an_index_over_zero_has_no_value_and_signs_are_kept():
    np.testing.assert_array_equal(metrics.stiffness_index([1.0, 2.0, 3.0], [0.0, -4.0, 1.5]), [np.nan, -0.5, 2.0])
    np.testing.assert_array_equal(metrics.percent_negative([1, np.nan], [4, np.nan]), [25.0, np.nan])


def test_the_summary_names_both_readings_and_the_last_block(linear):
    rows = metrics.summarize(linear[1])
    places = {row.where for row in rows if row.name == "stiffness_index_flattened"}
    assert places == {"mean over blocks", "last block"}
    assert any(row.name == "percent_negative_slices" and row.value is None for row in rows)


def test_bad_settings_and_missing_probes_are_told():
    with pytest.raises(InputError, match="spectrum: got kind='whole'"):
        Spectrum(kind="whole")
    with pytest.raises(InputError, match="dense_limit=-1"):
        Spectrum(dense_limit=-1)
    with pytest.raises(InputError, match="keys: kind, nonsquare, slices, dense_limit"):
        parse_probes("spectrum(kinds=branch)")
    with pytest.raises(InputError, match="without the probe 'spectrum'"):
        metrics.stiffness(xr.Dataset())
