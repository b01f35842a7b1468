"""Damaged stores: what is read is what was written, or an error in one line that names the file."""

from __future__ import annotations

import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from resdyn import store as stores
from resdyn.cli.app import run
from resdyn.errors import StoreError
from test_store import SETTINGS, arrays, layout, written

FILES = 26  # of the store of test_store.py, finished


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "good"
    written(path, [0, 1, 2, 3])
    return path


@pytest.fixture
def store(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "s"))


def files(path: Path) -> list[Path]:
    found = sorted(p for p in path.rglob("*") if p.is_file())
    assert len(found) == FILES
    return found


def read_or_refused(path: Path, file: Path, good: Path) -> str:
    """How a store with one damaged file is read; the error names the file, or the array that it is part of."""
    message = ""
    try:
        ds = stores.open_store(path).load()
    except StoreError as error:
        message = str(error)
    if message:
        assert "\n" not in message
        assert any(f"{p}'" in message for p in (file, *file.parents)), message
        return "refused"
    if not ds.attrs["complete"]:
        return "unfinished"
    xr.testing.assert_identical(ds, stores.open_store(good).load())
    return "right"


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def test_one_flipped_bit_anywhere_is_never_another_number(store, good):
    rng = random.Random(0)
    for file in files(store):
        content = file.read_bytes()
        for _ in range(8):
            file.write_bytes(flipped(content, rng.randrange(8 * len(content))))
            assert read_or_refused(store, file, good) in ("refused", "right")
        file.write_bytes(content)


def test_another_digit_in_metadata_is_never_another_number(store, good):
    for file in files(store):
        if file.name == "zarr.json":
            text = file.read_text()
            for place in [n for n, character in enumerate(text) if character.isdecimal()][::5]:
                file.write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}")
                assert read_or_refused(store, file, good) in ("refused", "right")
            file.write_text(text)


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b"\0" * 99, "half", "folder", "loop"])
def test_a_file_that_is_lost_or_something_else_is_never_another_number(store, good, content):
    for file in files(store):
        kept = file.read_bytes()
        file.unlink()
        if content == "folder":
            file.mkdir()
        elif content == "loop":
            file.symlink_to(file)
        elif content is not None:
            file.write_bytes(kept[: len(kept) // 2] if isinstance(content, str) else content)
        lost_flag = content is None and "_done" in file.parts and file.name != "zarr.json"
        assert read_or_refused(store, file, good) == ("unfinished" if lost_flag else "refused"), file
        file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
        file.write_bytes(kept)


def test_a_chunk_in_anothers_place_is_noticed(store, good):
    shutil.copy(store / "values/c/1/0", store / "values/c/0/0")
    assert read_or_refused(store, store / "values/c/0/0", good) == "refused"


def test_a_lost_chunk_is_noticed_when_the_store_is_opened_and_its_task_can_be_measured_again(store, good):
    (store / "values/c/1/0").unlink()
    for look in (stores.open_store, stores.done_tasks):
        with pytest.raises(StoreError, match=r"values/c/1/0' is missing, though task 1 is .*remove '.*_done/c/1' and"):
            look(store)
    shutil.rmtree(store / "_done/c/1")
    assert stores.done_tasks(store).tolist() == [True, False, True, True]
    region = layout().regions[1]
    stores.write_task(store, 1, region, arrays(region))
    xr.testing.assert_identical(stores.open_store(store).load(), stores.open_store(good).load())


def test_a_store_that_moved_while_it_was_open_is_an_error_and_no_nan(store):
    ds = stores.open_store(store)
    store.rename(store.with_name("away"))
    with pytest.raises(StoreError, match="was moved or removed while it was open"):
        ds["values"].load()


def test_an_open_store_does_not_depend_on_the_working_directory_and_can_be_sent_on(store, monkeypatch, tmp_path):
    monkeypatch.chdir(store.parent)
    ds = stores.open_store(store.name)
    monkeypatch.chdir(tmp_path.parent)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds))["count"], np.arange(5))


def test_values_that_a_probe_left_undefined_are_written_as_such(tmp_path):
    plan = layout()
    stores.create_store(tmp_path / "s", plan, SETTINGS)
    for task, region in enumerate(plan.regions):
        nothing = {
            name: np.full_like(values, np.nan, dtype="float32") if name in ("values", "mean") else values
            for name, values in arrays(region).items()
        }
        stores.write_task(tmp_path / "s", task, region, nothing)
    assert np.isnan(stores.open_store(tmp_path / "s")["values"]).all()
    (tmp_path / "s/mean/c/0").unlink()
    with pytest.raises(StoreError, match="mean/c/0' is missing"):
        stores.open_store(tmp_path / "s")


def test_a_run_killed_between_the_folder_of_a_flag_and_the_flag_has_not_finished_the_task(tmp_path):
    written(tmp_path / "s", [0, 1])
    (tmp_path / "s/_done/c/2").mkdir()
    assert stores.done_tasks(tmp_path / "s").tolist() == [True, True, False, False]


def test_any_zarr_reader_notices_a_damaged_chunk(store):
    chunk = store / "values/c/0/0"
    chunk.write_bytes(flipped(chunk.read_bytes(), 100))
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(store / "values", mode="r")[:]


def unsealed(path: Path, samples: int = 2) -> Path:
    """A finished store as earlier versions wrote it: no digests, chunks of NaN left out, a flag of one number."""
    group = zarr.create_group(path, zarr_format=3)
    values = group.create_array(
        "values",
        shape=(samples, 3),
        chunks=(1, 3),
        dtype="float32",
        fill_value=np.nan,
        dimension_names=("sample", "rank"),
    )
    values[0] = 1.0
    group.create_array("_done", data=np.ones(2, "uint8"), chunks=(1,), dimension_names=("task",))
    regions = ", ".join(f'{{"variables": ["values"], "start": {n}, "stop": {n + 1}}}' for n in range(2))
    record = f'{{"settings": {{"seed": 0}}, "provenance": {{"notes": ["old"]}}, "variables": ["values"], "coords": [], "regions": [{regions}]}}'  # noqa: E501
    group.attrs.update({"resdyn_schema": 1, "resdyn": record})
    return path


def test_a_store_of_an_earlier_version_opens_with_a_note_that_it_has_no_checksums(tmp_path):
    ds = stores.open_store(unsealed(tmp_path / "s"))
    assert ds["values"].values[0].tolist() == [1, 1, 1]
    assert ds.attrs["complete"]
    assert ds.attrs["notes"][0] == "old"
    assert "kept no checksums" in ds.attrs["notes"][1]
    stores.check_resumable(tmp_path / "s", {"seed": 0})


def test_a_store_of_an_earlier_version_that_is_not_finished_is_not_resumed(tmp_path):
    (unsealed(tmp_path / "s") / "_done/c/1").unlink()
    assert stores.open_store(tmp_path / "s").attrs["tasks_remaining"] == 1
    with pytest.raises(StoreError, match="kept no checksums, and is not finished; capture again to another path"):
        stores.check_resumable(tmp_path / "s", {"seed": 0})


def test_a_store_that_declares_ten_million_samples_is_refused_at_once(tmp_path):
    with pytest.raises(StoreError, match="declares 10000000 samples, expected at most 1000000"):
        stores.open_store(unsealed(tmp_path / "s", 10**7))
    region = stores.Region(("values",), 0, 10**7)
    with pytest.raises(StoreError, match="declares 10000000 samples"):
        stores.create_store(tmp_path / "t", stores.Layout({}, {}, (region,)), SETTINGS)


def test_on_the_command_line_damage_is_one_line_and_exit_code_two(store, tmp_path, capsys):
    (store / "values/zarr.json").write_text("{")
    assert run(["report", str(store), "--out", str(tmp_path / "r.html")]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "values/zarr.json' is damaged" in said.err
