"""Watching a training run: what the monitor reports, and that it changes nothing."""

from __future__ import annotations

from dataclasses import replace

import torch

import resdyn
from resdyn.training import DIGITS_RECIPE, Monitor, train_digits

RECIPE = replace(DIGITS_RECIPE, epochs=3)
NET = {"width": 8, "depth": 3, "recipe": RECIPE}


def test_a_monitor_reports_the_start_every_nth_epoch_and_the_end():
    watched = train_digits(**NET, callbacks=[Monitor(every=2, samples=2, probes="trajectory,singular(k=3),coupling")])
    rows = watched.history.results[0]
    assert [row["epoch"] for row in rows] == [0, 2, 3]
    assert all(-1 <= row["collinearity"] <= 1 and 0 <= row["diagonal_energy_uv"] <= 1 for row in rows)
    assert "loss" not in rows[0]
    assert rows[-1]["loss"] == watched.history.records[-1]["loss"]


def test_training_is_the_same_to_the_bit_with_and_without_a_monitor():
    alone = train_digits(**NET)
    watched = train_digits(**NET, callbacks=[Monitor(every=1, samples=2, probes="trajectory")])
    assert alone.history.records == watched.history.records
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name])


def test_a_report_of_a_watched_run_shows_its_training(tmp_path):
    watched = train_digits(**NET, callbacks=[Monitor(every=1, samples=2, probes="trajectory")])
    ds = resdyn.capture(watched.model, watched.train, "trajectory", tmp_path / "a.zarr", samples=2, quiet=True,
                        training=watched.history.results[0])  # fmt: skip
    page = resdyn.write_report(ds, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "As the network trained" in page
    assert "epochs 0 → 3" in page
