"""What a capture says of its cost: only where it is long, from what was measured, near the truth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import resdyn
from resdyn import progress
from resdyn.capturing import cost
from resdyn.capturing.cost import Cost, Size, size_of
from resdyn.capturing.run import _Run
from resdyn.nets import ResidualMLP

SIZE = Size(1_400_000, 2_000_000)
ALL = "trajectory,singular,coupling,spectrum,features"


def data(n: int = 60, width: tuple[int, ...] = (5,), classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, *width, generator=torch.Generator().manual_seed(1)), torch.arange(n) % classes


def mlp(width: int, depth: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return ResidualMLP(in_features=5, width=width, depth=depth, classes=3, preactivation=True).eval()


@pytest.fixture
def impatient(monkeypatch):
    """Everything counts as long work, and is watched closely."""
    monkeypatch.setattr(progress, "SHOWN_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr(cost, "LONG_SECONDS", 0.0)


def test_the_time_is_estimated_from_the_first_samples_and_said_once():
    says, totals = Cost({"samples": "32 samples"}, SIZE), {"samples": 32}
    assert says(totals, {"samples": 0}, 5.0) is None
    assert says(totals, {"samples": 1}, 27.0) == (
        "32 samples: about 14 min (estimated from 1 of 32, which took 27 s); "
        "a store of about 1.4 MB (2.0 MB once loaded)"
    )
    assert says(totals, {"samples": 2}, 60.0) is None


def test_short_work_is_not_spoken_of():
    says, totals = Cost({"samples": "32 samples"}, SIZE), {"samples": 32}
    assert [says(totals, {"samples": n}, n * 0.5) for n in range(33)] == [None] * 33


def test_where_the_first_sample_takes_long_the_rest_is_said_before_it_is_done():
    says, totals = Cost({"samples": "4 samples", "passes": "9 batches"}, SIZE), {"samples": 4, "passes": 9}
    assert "to do: 4 samples, then 9 batches; a store of about 1.4 MB" in says(
        totals, {"samples": 0, "passes": 0}, 11.0
    )
    assert says(totals, {"samples": 0, "passes": 0}, 12.0) is None
    assert "about 4.0 min (estimated from 1 of 4, which took 60 s)" in says(totals, {"samples": 1, "passes": 0}, 60.0)


def test_a_part_is_timed_from_where_the_one_before_it_ended():
    says, totals = Cost({"samples": "4 samples", "passes": "90 batches"}, SIZE), {"samples": 4, "passes": 90}
    assert "about 1.7 min" in says(totals, {"samples": 1, "passes": 0}, 25.0)
    assert says(totals, {"samples": 4, "passes": 0}, 100.0) is None
    assert "90 batches: about 3.0 min (estimated from 3 of 90, which took 6.0 s)" in says(
        totals, {"samples": 4, "passes": 3}, 106.0
    )


@pytest.mark.parametrize(("at_once", "done", "expected"), [(4, 1, "80 s"), (4, 5, "40 s"), (None, 4, "80 s")])
def test_tasks_that_run_at_once_share_the_time(at_once, done, expected):
    says, totals = Cost({"samples": "32 samples"}, SIZE, at_once), {"samples": 32}
    if at_once is None:
        assert says(totals, {"samples": 3}, 9.0) is None
    assert f"about {expected}" in says(totals, {"samples": done}, 10.0)


def test_a_long_capture_says_its_cost_and_a_short_one_nothing(impatient, monkeypatch, capfd, tmp_path):
    probes = "trajectory,singular(k=2)"
    resdyn.capture(mlp(6, 2), data(), probes, tmp_path / "s.zarr", samples=3)
    lines = [line for line in capfd.readouterr().err.splitlines() if "store" in line]
    assert "3 samples of 2 blocks (trajectory, singular): about" in lines[0]
    assert "estimated from" in lines[0]
    monkeypatch.setattr(cost, "LONG_SECONDS", 30.0)
    resdyn.capture(mlp(6, 2), data(), probes, tmp_path / "t.zarr", samples=3)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("model", "shape", "probes", "samples"),
    [
        (mlp(6, 2), (5,), "trajectory", 4),
        (mlp(6, 2), (5,), ALL, 4),
        (mlp(24, 2), (5,), "trajectory,singular(k=3,vectors=true),coupling,features", 2),
        (resdyn.nets.CifarResNet(1).eval(), (3, 32, 32), "trajectory", 20),
    ],
)
def test_the_store_is_as_large_as_is_said(model, shape, probes, samples, tmp_path, monkeypatch):
    plans = []
    run = _Run.into
    monkeypatch.setattr(_Run, "into", lambda self, *a: plans.append(self.plan) or run(self, *a))
    path = tmp_path / "s.zarr"
    ds = resdyn.capture(
        model, data(20, shape, 10 if len(shape) > 1 else 3), probes, path, samples=samples, show_progress=False
    )
    said = size_of(plans[0].layout)
    true = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    assert 0.5 < said.on_disk / true < 2
    assert said.in_memory == sum(array.nbytes for array in ds.data_vars.values())


def test_samples_of_an_extended_store_that_are_there_are_not_counted(impatient, capfd, tmp_path):
    model = mlp(6, 2)
    resdyn.capture(model, data(), "trajectory,singular", tmp_path / "s.zarr", samples=2, show_progress=False)
    resdyn.capture(model, data(), "trajectory,singular", tmp_path / "s.zarr", samples=5)
    said = [line for line in capfd.readouterr().err.splitlines() if "store" in line]
    assert all(line.startswith("3 samples") for line in said)
