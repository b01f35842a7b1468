"""Stores: what is written is what opens, whatever stopped the run, and nothing else gets in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from resdyn import store as stores
from resdyn.errors import StoreError
from resdyn.store.lock import locked
from resdyn.store.store import MAX_CHUNK_BYTES, _chunks

SETTINGS = {"probes": {"singular": {"k": 3}}, "seed": 0, "class_names": ["<b>", "ü"]}


def layout(samples: int = 5, chunk: int = 2) -> stores.Layout:
    variables = {
        "values": stores.Variable(("sample", "rank"), (samples, 3), "float32"),
        "count": stores.Variable(("sample",), (samples,), "int64"),
        "flag": stores.Variable(("sample",), (samples,), "bool"),
        "mean": stores.Variable(("class",), (4,), "float64"),
        "scalar": stores.Variable((), (), "float64"),
    }
    regions = [
        stores.Region(("values", "count", "flag"), start, min(start + chunk, samples))
        for start in range(0, samples, chunk)
    ]
    coords = {"sample": (("sample",), np.arange(samples) * 10), "class": (("class",), np.arange(4))}
    return stores.Layout(variables, coords, (*regions, stores.Region(("mean", "scalar"))), chunk)


def arrays(region: stores.Region) -> dict[str, np.ndarray]:
    if region.start is None:
        return {"mean": np.arange(4.0), "scalar": np.asarray(7.0)}
    rows = np.arange(region.start, region.stop)
    return {"values": rows[:, None] + np.zeros((1, 2)), "count": rows, "flag": rows >= 0}


def written(path: Path, tasks: list[int], settings: dict = SETTINGS) -> xr.Dataset:
    plan = layout()
    stores.create_store(path, plan, settings, {"command": "run"})
    for task in tasks:
        stores.write_task(path, task, plan.regions[task], arrays(plan.regions[task]))
    return stores.open_store(path)


def test_a_finished_store_opens_with_every_value_in_its_place(tmp_path):
    ds = written(tmp_path / "s", [0, 1, 2, 3])
    np.testing.assert_array_equal(ds["count"], np.arange(5))
    np.testing.assert_array_equal(ds["values"][:, 0], np.arange(5))
    np.testing.assert_array_equal(ds["sample"], np.arange(5) * 10)
    np.testing.assert_array_equal(ds["mean"], np.arange(4))
    assert ds["flag"].dtype == bool
    assert float(ds["scalar"]) == 7
    assert ds.attrs == SETTINGS | {"command": "run", "complete": True, "tasks_remaining": 0}


def test_what_an_array_leaves_out_of_its_region_is_nan(tmp_path):
    assert np.isnan(written(tmp_path / "s", [0])["values"][:, 2]).all()


def test_any_zarr_reader_opens_a_store(tmp_path):
    written(tmp_path / "s", [0, 1, 2, 3])
    foreign = xr.open_zarr(tmp_path / "s", consolidated=False)
    assert foreign["values"].dims == ("sample", "rank")


def test_the_samples_of_unfinished_tasks_are_dropped(tmp_path):
    ds = written(tmp_path / "s", [0, 2, 3])
    assert ds["sample"].values.tolist() == [0, 10, 40]
    assert ds["count"].values.tolist() == [0, 1, 4]
    assert ds.attrs["complete"] is False
    assert ds.attrs["tasks_remaining"] == 1


def test_the_variables_of_an_unfinished_pass_over_the_data_are_absent(tmp_path):
    assert "mean" not in written(tmp_path / "s", [0, 1])


def test_a_store_without_any_finished_task_opens_empty(tmp_path):
    ds = written(tmp_path / "s", [])
    assert ds.sizes["sample"] == 0
    assert ds.attrs["tasks_remaining"] == 4


def test_the_order_of_tasks_and_writing_one_twice_make_no_difference(tmp_path):
    xr.testing.assert_identical(written(tmp_path / "a", [0, 1, 2, 3]), written(tmp_path / "b", [3, 1, 1, 0, 2]))


def test_a_task_writes_files_of_its_own_only(tmp_path):
    written(tmp_path / "s", [])

    def files() -> set[Path]:
        return {p for p in (tmp_path / "s").rglob("*") if p.is_file()}

    before, plan = {p: p.stat().st_mtime_ns for p in files()}, layout()
    stores.write_task(tmp_path / "s", 0, plan.regions[0], arrays(plan.regions[0]))
    first = files() - before.keys()
    stores.write_task(tmp_path / "s", 1, plan.regions[1], arrays(plan.regions[1]))
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
    assert len(files() - before.keys()) == 2 * len(first)


def test_a_task_reads_its_own_flag_and_neither_the_record_nor_the_other_flags(tmp_path, monkeypatch):
    written(tmp_path / "s", [1])
    monkeypatch.setattr("resdyn.store.store.Opened", None)
    (tmp_path / "s" / "_done" / "c" / "1").rename(tmp_path / "away")
    (tmp_path / "s" / "_done" / "c" / "1").mkdir()  # whoever reads this flag fails
    region = layout().regions[2]
    assert not stores.is_done(tmp_path / "s", 2)
    stores.write_task(tmp_path / "s", 2, region, arrays(region))
    assert stores.is_done(tmp_path / "s", 2)


def test_large_variables_are_cut_into_chunks_of_bounded_size():
    variable = stores.Variable(("sample", "block", "rank", "coord"), (4, 50, 30, 10**6), "float32")
    chunks = _chunks(variable, 2)
    assert chunks[0] == 2
    assert np.prod(chunks) * 4 <= MAX_CHUNK_BYTES


def test_resuming_with_the_same_settings_is_allowed(tmp_path):
    written(tmp_path / "s", [])
    stores.check_resumable(tmp_path / "s", dict(SETTINGS))


def test_resuming_with_other_settings_names_each_difference(tmp_path):
    written(tmp_path / "s", [])
    other = {"probes": {"singular": {"k": 30}}, "seed": 0, "class_names": ["<b>", "ü"], "kind": "block"}
    with pytest.raises(StoreError) as error:
        stores.check_resumable(tmp_path / "s", other)
    assert "kind: stored 'nothing', asked 'block'" in str(error.value)
    assert "probes.singular.k: stored 3, asked 30" in str(error.value)
    assert "seed" not in str(error.value)


def test_a_setting_that_there_is_no_longer_does_not_keep_a_store_from_being_resumed(tmp_path):
    asked = SETTINGS | {"probes": {"coupling": {"k": 3}}}
    earlier = SETTINGS | {"probes": {"coupling": {"k": 3, "nonsquare": "skip"}}}
    written(tmp_path / "s", [], earlier)
    stores.check_resumable(tmp_path / "s", asked)
    with pytest.raises(StoreError, match=r"probes\.coupling\.k: stored 3, asked 4"):
        stores.check_resumable(tmp_path / "s", SETTINGS | {"probes": {"coupling": {"k": 4}}})


def test_what_is_said_of_blocks_since_does_not_keep_a_store_from_being_resumed(tmp_path):
    block = {"index": 0, "skip": "identity"}
    written(tmp_path / "s", [], SETTINGS | {"stream": [block]})
    stores.check_resumable(tmp_path / "s", SETTINGS | {"stream": [block | {"held": [], "values": []}]})
    with pytest.raises(StoreError, match="embedding"):
        stores.check_resumable(tmp_path / "s", SETTINGS | {"stream": [block | {"held": ["embedding"], "values": []}]})


def test_a_missing_store_says_how_to_make_one(tmp_path):
    with pytest.raises(StoreError, match=r"no store at .* 'resdyn capture' makes one"):
        stores.open_store(tmp_path / "s")


@pytest.mark.parametrize("make", ["folder", "file", "zarr", "broken", "record"])
def test_what_resdyn_did_not_write_is_not_opened(tmp_path, make):
    path = tmp_path / "s"
    if make == "file":
        path.write_text("text")
    elif make == "zarr":
        zarr.create_group(path, zarr_format=3)
    elif make == "record":
        zarr.create_group(path, zarr_format=3, attributes={"resdyn_schema": 1, "resdyn": "{"})
    else:
        path.mkdir()
        (path / ("zarr.json" if make == "broken" else "notes.txt")).write_text("{")
    with pytest.raises(StoreError, match="choose another path"):
        stores.open_store(path)


def test_a_store_of_another_schema_is_not_opened(tmp_path):
    written(tmp_path / "s", [])
    zarr.open_group(tmp_path / "s").attrs["resdyn_schema"] = 99
    with pytest.raises(StoreError, match="has schema 99, this version reads 1"):
        stores.open_store(tmp_path / "s")


def test_an_existing_store_is_never_overwritten(tmp_path):
    written(tmp_path / "s", [0])
    with pytest.raises(StoreError, match="exists already"):
        stores.create_store(tmp_path / "s", layout(), SETTINGS)
    assert stores.done_tasks(tmp_path / "s").tolist() == [True, False, False, False]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*file/s"):
        stores.create_store(tmp_path / "file" / "s", layout(), SETTINGS)


def test_one_run_at_a_time_holds_a_store(tmp_path):
    with (
        locked(tmp_path / "s"),
        pytest.raises(StoreError, match="is being written by process"),
        locked(tmp_path / "s"),
    ):
        pass
    with locked(tmp_path / "s"):
        assert list(tmp_path.iterdir()) == [tmp_path / ".s.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["link", "fifo", "notes"])
def test_a_lock_is_no_way_to_the_files_of_others(tmp_path, what):
    lock, other = tmp_path / ".s.lock", tmp_path / "notes.txt"
    other.write_text("kept")
    if what == "link":
        lock.symlink_to(other)
    elif what == "fifo":
        os.mkfifo(lock)
    else:
        lock.write_text("kept")
    with pytest.raises(StoreError, match=r"\.s\.lock' is (a symbolic link|not a lock)"), locked(tmp_path / "s"):
        pass
    assert other.read_text() == "kept"
    assert what != "notes" or lock.read_text() == "kept"


def test_a_prepared_link_is_not_written_through(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / ".s.partial").symlink_to(tmp_path / "theirs")
    written(tmp_path / "s", [0])
    assert list((tmp_path / "theirs").iterdir()) == []


KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, {tests!r})
import test_store as t
from resdyn.store.lock import locked
from resdyn import store as stores

def run(path):
    plan = t.layout()
    with locked(path):
        if not stores.exists(path):
            stores.create_store(path, plan, t.SETTINGS, {{"command": "run"}})
        for task, done in enumerate(stores.done_tasks(path)):
            if not done:
                stores.write_task(path, task, plan.regions[task], t.arrays(plan.regions[task]))

def killed_at(path, write):
    writes, replace = iter(range(10**6)), os.replace
    def counting(*args, **kwargs):
        if next(writes) == write:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(*args, **kwargs)
    os.replace = counting
    pathlib.Path.replace = lambda source, target: counting(source, target)
    os.rename = counting
    run(path)

for write in range(0, 10**6, 3):
    path = pathlib.Path({root!r}) / f"s{{write:03}}"
    child = os.fork()
    if child == 0:
        killed_at(path, write)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    seen = stores.open_store(path).attrs["tasks_remaining"] if stores.exists(path) else -1
    if seen > 0:
        stores.open_store(path).load()
    run(path)
    print(status, seen)
    if status == 0:
        break
"""


def test_killed_between_two_writes_a_run_leaves_a_store_that_opens_and_is_finished_by_the_next(
    tmp_path,
):
    script = KILLED.format(tests=str(Path(__file__).parent), root=str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    outcomes = [tuple(map(int, line.split())) for line in ran.stdout.splitlines()]
    assert all(status == 9 for status, _ in outcomes[:-1])
    assert {seen for _, seen in outcomes} == {-1, 0, 1, 2, 3, 4}
    undisturbed, *others = (stores.open_store(path) for path in sorted(tmp_path.glob("s*"), reverse=True))
    for finished in others:
        xr.testing.assert_identical(finished, undisturbed)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_text_is_kept_in_attributes_only(tmp_path):
    written(tmp_path / "s", [])
    group = zarr.open_group(tmp_path / "s", mode="r")
    assert {str(array.dtype) for _, array in group.arrays()} <= {
        "float32",
        "float64",
        "int64",
        "bool",
        "uint64",
    }
    assert json.loads(group.attrs["resdyn"])["settings"]["class_names"] == ["<b>", "ü"]
