"""More samples for a finished store, and one store in the place of another: never less than before on disk."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import resdyn
from resdyn import store as stores
from resdyn.errors import StoreError
from resdyn.nets import ResidualMLP
from resdyn.probes import Trajectory
from resdyn.store import place

X = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
Y = torch.arange(30) % 3
PROBES = "trajectory,singular(k=3),coupling(k=2),features"


def make_net() -> torch.nn.Module:
    torch.manual_seed(0)
    return ResidualMLP(in_features=5, width=6, depth=2, classes=3, preactivation=True).eval()


def measure(store, samples, probes=PROBES, data=(X, Y), **options):
    return resdyn.capture(make_net(), data, probes, store, samples=samples, show_progress=False, **options)


@pytest.fixture
def counted(monkeypatch):
    """Indices of the samples that the trajectory probe measures."""
    measured = []
    whole = Trajectory.measure

    def measure(self, sample, n_classes):
        measured.append(sample.index)
        return whole(self, sample, n_classes)

    monkeypatch.setattr(Trajectory, "measure", measure)
    return measured


@pytest.mark.parametrize("chunk_size", [1, 3, 64])
def test_more_samples_are_those_of_a_new_run_and_only_they_are_measured(tmp_path, counted, chunk_size):
    first = measure(tmp_path / "a", 4, chunk_size=chunk_size, notes=["first"])["sample"].values.tolist()
    counted.clear()
    larger = measure(tmp_path / "a", 9, chunk_size=chunk_size)
    new = set(larger["sample"].values.tolist()) - set(first)
    assert sorted(counted) == sorted(new)
    assert len(new) == 5
    fresh = measure(tmp_path / "b", 9, chunk_size=chunk_size)
    assert larger.drop_attrs().identical(fresh.drop_attrs())
    assert larger.attrs["extends"][0]["samples"] == first
    assert "first" in larger.attrs["notes"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    third = measure(tmp_path / "a", 12, chunk_size=chunk_size)
    assert [len(run["samples"]) for run in third.attrs["extends"]] == [4, 9]


def test_indices_extend_in_any_order_and_in_workers(tmp_path):
    measure(tmp_path / "a", [7, 3])
    larger = measure(tmp_path / "a", [1, 3, 20, 7], workers=1)
    assert larger.drop_attrs().identical(measure(tmp_path / "b", [1, 3, 20, 7]).drop_attrs())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 3}, "samples: stored"),
        ({"samples": [1, 2, 3, 4]}, "samples: stored"),
        ({"seed": 1}, "seed: stored"),
        ({"data": (X + (torch.arange(30) == 2)[:, None], Y)}, "data_hash: stored"),
        ({"probes": "trajectory,features"}, "probes"),
    ],
)
def test_what_is_not_the_same_measurement_is_refused(tmp_path, change, message):
    kept = measure(tmp_path / "a", [2, 5]).load()
    with pytest.raises(StoreError, match=message):
        measure(tmp_path / "a", **{"samples": [2, 5, 6], **change})
    assert resdyn.open_store(tmp_path / "a").identical(kept)


def test_an_unfinished_store_is_finished_first(tmp_path, monkeypatch):
    def fail(self, sample, n_classes):
        raise RuntimeError("stopped")

    with monkeypatch.context() as context:
        context.setattr(Trajectory, "measure", fail)
        with pytest.raises(RuntimeError):
            measure(tmp_path / "a", 2)
    with pytest.raises(StoreError, match="samples: stored"):
        measure(tmp_path / "a", 4)


def test_a_failure_while_extending_leaves_the_store_and_the_next_run_resumes(tmp_path, monkeypatch, counted):
    kept = measure(tmp_path / "a", 2).load()
    whole = Trajectory.measure

    def fail(self, sample, n_classes):
        if len(counted) >= 4:
            raise RuntimeError("stopped")
        return whole(self, sample, n_classes)

    with monkeypatch.context() as context:
        context.setattr(Trajectory, "measure", fail)
        with pytest.raises(RuntimeError):
            measure(tmp_path / "a", 6)
    assert resdyn.open_store(tmp_path / "a").identical(kept)
    counted.clear()
    found = measure(tmp_path / "a", 6)
    assert len(counted) == 2
    assert found.drop_attrs().identical(measure(tmp_path / "b", 6).drop_attrs())
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("moment", "how"), [("rename", "extend"), ("second rename", "extend"), ("second rename", "overwrite")]
)
def test_a_process_that_is_killed_at_any_step_leaves_a_store_that_opens(tmp_path, monkeypatch, moment, how):
    measure(tmp_path / "a", 2, "trajectory")
    before = resdyn.open_store(tmp_path / "a").sizes["sample"]
    code = KILLED.format(store=str(tmp_path / "a"), moment=moment, options={"overwrite": how == "overwrite"})
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -9
    assert resdyn.open_store(tmp_path / "a").sizes.get("sample", 0) in ({before, 5} if how == "extend" else {before, 0})
    found = measure(tmp_path / "a", 5, "trajectory", overwrite=how == "overwrite")
    assert found.sizes["sample"] == 5
    assert found.drop_attrs().identical(measure(tmp_path / "b", 5, "trajectory").drop_attrs())
    assert sorted(name for name in os.listdir(tmp_path) if not name.endswith((".partial", ".lock"))) == ["a", "b"]


KILLED = """
import os, shutil, signal, sys
import test_extension, pathlib
from resdyn.store import place
calls = []
def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
rename = os.rename
def counting(old, new):
    if "{store}" in (str(old), str(new)):
        calls.append(new)
        if "{moment}" == "rename" or ("{moment}" == "second rename" and len(calls) == 2):
            die()
    rename(old, new)
place.os.rename = counting
test_extension.measure("{store}", 5, "trajectory", **{options})
"""


class TestOverwrite:
    def test_replaces_a_store_of_any_settings(self, tmp_path):
        measure(tmp_path / "a", 2)
        found = measure(tmp_path / "a", 3, "trajectory", seed=1, overwrite=True)
        assert found.attrs["seed"] == 1
        assert found.sizes["sample"] == 3
        assert os.listdir(tmp_path) == ["a"]
        assert measure(tmp_path / "new", 1, "trajectory", overwrite=True).sizes["sample"] == 1

    @pytest.mark.parametrize("kind", ["folder", "file", "zarr"])
    def test_never_replaces_what_is_not_a_store(self, tmp_path, kind):
        path = tmp_path / "a"
        if kind == "file":
            path.write_text("mine")
        elif kind == "folder":
            path.mkdir()
            (path / "mine.txt").write_text("mine")
        else:
            import zarr

            zarr.create_group(path, zarr_format=3)
        with pytest.raises(StoreError, match="not a store that resdyn wrote"):
            measure(path, 1, "trajectory", overwrite=True)
        assert path.exists()
        assert os.listdir(tmp_path) == ["a"]

    def test_a_run_that_does_not_start_leaves_the_old_one(self, tmp_path, monkeypatch):
        kept = measure(tmp_path / "a", 2).load()
        with pytest.raises(resdyn.errors.InputError):
            measure(tmp_path / "a", 2, data=(X[:, :4], Y), overwrite=True)

        def fail(*arguments):
            raise OSError("no space left")

        monkeypatch.setattr(stores.store, "_allocate", fail)
        with pytest.raises(StoreError, match="no space left"):
            measure(tmp_path / "a", 3, overwrite=True)
        assert resdyn.open_store(tmp_path / "a").identical(kept)

    def test_a_link_keeps_pointing_at_the_store(self, tmp_path):
        measure(tmp_path / "real", 2, "trajectory")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        for found in (
            measure(tmp_path / "link", 3, "trajectory"),
            measure(tmp_path / "link", 1, "trajectory", overwrite=True),
        ):
            assert found.sizes["sample"] in (1, 3)
        assert (tmp_path / "link").is_symlink()
        assert resdyn.open_store(tmp_path / "real").sizes["sample"] == 1


def test_a_store_that_waits_under_the_name_of_the_larger_one_is_not_taken_for_it(tmp_path):
    measure(tmp_path / "a", 2, "trajectory")
    place.beside(tmp_path / "a").symlink_to(tmp_path)
    with pytest.raises(StoreError):
        measure(tmp_path / "a", 4, "trajectory")
    assert resdyn.open_store(tmp_path / "a").sizes["sample"] == 2
