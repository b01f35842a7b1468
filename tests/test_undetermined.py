"""What its error exceeds is not shown as a value, and the summary and the report say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import resdyn
from resdyn import metrics
from resdyn.report.sections.spectrum import SECTIONS
from test_eig import grcar
from test_stiffness import LinearBlocks, measured


class Causal(nn.Module):
    """h + conv(pad(h)): every position depends on itself and the two before it."""

    def __init__(self, channels: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv1d(channels, channels, 3) for _ in range(blocks))
        self.head = nn.Linear(channels, 3)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            h = h + block(torch.relu(nn.functional.pad(h, (2, 0))))
        return self.head(h.mean(-1))


@pytest.mark.parametrize("limit", [4096, 0])
def test_the_spectrum_of_a_causal_block_is_that_of_its_positions(limit, tmp_path):
    torch.manual_seed(0)
    model = Causal().eval()
    for block in model.blocks:
        block.weight.data *= 3
    inputs = torch.randn(6, 4, 60)
    ds = measured(model, inputs, tmp_path, f"spectrum(slices=false, dense_limit={limit})")
    stream = resdyn.find_stream(model, inputs[:1])
    for row in range(2):
        states = stream.states(inputs[[int(ds["sample"][row])]])
        for block in range(2):
            J = stream.jacobian(block, states, "block").to_dense().double().reshape(4, 60, 4, 60)
            exact = torch.cat([torch.linalg.eigvals(J[:, t, :, t]) for t in range(60)])
            found = ds.isel(sample=row, block=block)
            assert float(found["largest_real"]) == pytest.approx(float(exact.real.max()), abs=1e-4)
            assert float(found["smallest_real"]) == pytest.approx(float(exact.real.min()), abs=1e-4)
            assert float(found["spectral_radius"]) == pytest.approx(float(exact.abs().max()), abs=1e-4)
            true, undecided = int((exact.real < 0).sum()), float(found["num_undecided"])
            assert float(found["num_negative"]) <= true <= float(found["num_negative"]) + undecided
            assert undecided == 0
            assert bool(found["eigen_converged"])


def test_values_whose_error_exceeds_them_are_undetermined_everywhere(tmp_path):
    turn = torch.linalg.qr(torch.randn(80, 80, generator=torch.Generator().manual_seed(0)).double())[0]
    hopeless = turn @ grcar(80) @ turn.T - torch.eye(80)
    ds = measured(LinearBlocks([hopeless]), torch.randn(6, 80), tmp_path)
    found = metrics.stiffness(ds)
    assert not ds["eigen_converged"].values.any()
    for end in ("smallest_real", "spectral_radius"):
        assert (ds[f"{end}_error"].values > np.abs(ds[end].values)).all()
    true = float(torch.linalg.eigvals(grcar(80)).real.max())
    assert (np.abs(ds["largest_real"].values - true) <= ds["largest_real_error"].values).all()
    assert np.isnan(found["stiffness_index_flattened"].values).all()
    assert (found["stiffness_index_error"].values > 1).all()
    assert np.isnan(found["percent_negative_flattened"].values).all()
    assert (found["percent_negative_error"].values > 50).all()
    rows = {row.name: row for row in metrics.summarize(ds)}
    for name in ("stiffness_index_flattened", "percent_negative_flattened", "spectral_radius"):
        assert rows[name].value is None
        assert "the error exceeds the value" in rows[name].note
    assert any("is undetermined" in note for note in SECTIONS[0].notes(ds))
