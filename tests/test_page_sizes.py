"""Pages of many blocks, classes and samples: computed once, in pieces, and small."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from resdyn._remember import remembered, remembering
from resdyn.metrics import alignment, line, line_geometry, residual_alignment
from resdyn.report import render_page
from synthetic import synthetic_dataset


def test_a_result_is_remembered_by_its_dataset_and_arguments_while_a_page_is_made_and_no_longer():
    calls = []

    @remembered
    def count(ds: xr.Dataset, rank: int | None = None) -> int:
        calls.append(rank)
        return len(calls)

    one, other = xr.Dataset(), xr.Dataset()
    assert (count(one), count(one)) == (1, 2)
    with remembering():
        first = count(one)
        with remembering():
            assert count(one, None) == count(one, rank=None) == first
        assert count(other) != first
        assert count(one, 2) == count(one, 2) != first
    assert count(one) == len(calls)


def test_a_remembered_dataset_that_is_gone_is_not_taken_for_a_new_one():
    size = remembered(lambda ds: ds.sizes["x"])
    with remembering():
        assert [size(xr.Dataset({"v": ("x", np.zeros(n))})) for n in range(1, 40)] == list(range(1, 40))


@pytest.mark.parametrize("samples", [0, 1, 7])
def test_samples_in_pieces_give_the_same_numbers(monkeypatch, samples):
    ds = synthetic_dataset(n_samples=7, angle=0.3, speed=0.2).isel(sample=slice(samples))
    whole = line_geometry(ds), alignment(ds)
    monkeypatch.setattr(line, "BATCH_BYTES", 1)
    monkeypatch.setattr(residual_alignment, "PIECE_BYTES", 1)
    for before, after in zip(whole, (line_geometry(ds), alignment(ds)), strict=True):
        xr.testing.assert_identical(before, after)


def test_a_page_computes_the_alignment_of_its_blocks_once(monkeypatch):
    ds = synthetic_dataset(probes=("singular", "coupling"))
    calls = []
    plain = residual_alignment._couplings
    monkeypatch.setattr(residual_alignment, "_couplings", lambda *a: calls.append(1) or plain(*a))
    render_page(ds)
    assert len(calls) == 1


def test_a_page_of_a_hundred_blocks_stays_below_ten_megabytes():
    ds = synthetic_dataset(n_samples=2, n_blocks=100, rank=8, probes=("trajectory", "singular", "coupling", "spectrum"))
    assert len(render_page(ds).encode()) < 10e6


@pytest.mark.parametrize("size", [{"n_blocks": 1}, {"num_classes": 1}, {"n_samples": 1}])
def test_pages_of_one_block_class_or_sample_are_made(size):
    with np.errstate(invalid="ignore"):
        ds = synthetic_dataset(**size)
    assert len(render_page(ds)) < 4e6
