"""Stores on object storage: the same numbers, the same promise about kills, no confusion with folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import resdyn
from resdyn import store as stores
from resdyn.errors import InputError, StoreError
from resdyn.store.objects import Objects

# a server's sockets are closed by the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SETTINGS = {"samples": 4, "seed": 0, "chunk_size": 1, "show_progress": False}


@pytest.fixture(scope="module")
def s3_server():
    """A real S3 server of this machine, for the time of the module."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed").ThreadedMotoServer
    served = server(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    yield f"http://{host}:{port}"
    served.stop()


@pytest.fixture(params=["memory", "s3"])
def bucket(request, monkeypatch) -> str:
    """A new, empty place for objects."""
    name = f"b{uuid.uuid4().hex}"
    if request.param == "s3":
        endpoint = request.getfixturevalue("s3_server")
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "word", "AWS_DEFAULT_REGION": "us-east-1"}
        for variable, value in (keys | {"AWS_ENDPOINT_URL": endpoint}).items():
            monkeypatch.setenv(variable, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir(name)
    return f"{request.param}://{name}"


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(9, 3, generator=generator), torch.arange(9) % 2


def test_a_capture_to_a_url_equals_one_to_a_folder_and_is_resumed_for_nothing(bucket, model, data, tmp_path):
    url = f"{bucket}/deep/run.zarr"
    there = resdyn.capture(model, data, "trajectory,features", url, **SETTINGS)
    here = resdyn.capture(model, data, "trajectory,features", tmp_path / "run.zarr", **SETTINGS)
    for name in here.data_vars:
        np.testing.assert_array_equal(there[name].values, here[name].values)
    before = Objects(url).keys()
    again = resdyn.capture(model, data, "trajectory,features", url, **SETTINGS)
    assert again.attrs["complete"]
    assert Objects(url).keys() == before
    assert resdyn.open_store(url)["states"].equals(there["states"])


def test_a_run_killed_after_any_object_opens_and_is_finished(bucket, model, data, monkeypatch):
    whole = resdyn.capture(model, data, "trajectory", f"{bucket}/whole.zarr", **SETTINGS)
    total = []
    plain = Objects.push

    def counting(self, folder, keys):
        total.extend(keys)
        plain(self, folder, keys)

    monkeypatch.setattr(Objects, "push", counting)
    resdyn.capture(model, data, "trajectory", f"{bucket}/counted.zarr", **SETTINGS)
    every = sorted({0, len(total) // 3, *range(len(total) - 7, len(total), 2)})
    for kill_at in every if bucket.startswith("memory") else every[-2:]:
        left = [kill_at]

        def dying(self, folder, keys, left=left):
            for key in keys:
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
                plain(self, folder, [key])

        url = f"{bucket}/killed{kill_at}.zarr"
        monkeypatch.setattr(Objects, "push", dying)
        with pytest.raises(KeyboardInterrupt):
            resdyn.capture(model, data, "trajectory", url, **SETTINGS)
        if stores.exists(url):
            part = resdyn.open_store(url)
            assert not part.attrs["complete"]
            assert np.isfinite(part["loss"].values).all()
        monkeypatch.setattr(Objects, "push", plain)
        finished = resdyn.capture(model, data, "trajectory", url, **SETTINGS)
        np.testing.assert_array_equal(finished["states"].values, whole["states"].values)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from resdyn.store.objects import Objects
import test_objects

plain, left = Objects.push, [{after}]

def dying(self, folder, keys):
    for key in keys:
        if left[0] == 0:
            print("killed before", key, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        plain(self, folder, [key])

Objects.push = dying
test_objects.captured({url!r})
"""


def captured(url):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(9, 3, generator=generator), torch.arange(9) % 2
    torch.manual_seed(0)
    net = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
    return resdyn.capture(net, inputs, "trajectory", url, command="", **SETTINGS)


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
def test_a_process_killed_with_sigkill_while_it_writes_objects_is_finished_by_the_same_call(bucket, tmp_path):
    whole, total = captured(f"{bucket}/whole.zarr"), len(Objects(f"{bucket}/whole.zarr").keys())
    for after, written in ((total - 1, True), (total - 3, True), (total // 4, False)):  # of four tasks the last's flag
        url = f"{bucket}/killed{after}.zarr"
        script = KILLED.format(tests=str(Path(__file__).parent), after=after, url=url)
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False)
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        assert stores.exists(url) == written  # its own metadata come last
        if written:
            assert ran.stdout.split()[-1].startswith("_done/c") == (after == total - 1)
            assert stores.done_tasks(url).tolist() == [True, True, True, False]
            assert resdyn.open_store(url).sizes["sample"] == 3
        xr.testing.assert_identical(captured(url).load(), whole.load())


def test_missing_and_damaged_objects_are_named(model, data):
    bucket = f"memory://{uuid.uuid4().hex}"
    url = f"{bucket}/run.zarr"
    resdyn.capture(model, data, "trajectory", url, **SETTINGS)
    objects = Objects(url)
    chunk = "states/c/1/0/0"
    objects.fs.pipe_file(f"{objects.root}/{chunk}", b"else")
    with pytest.raises(StoreError, match=rf"{url}/{chunk}' is damaged"):
        resdyn.open_store(url)["states"].load()
    objects.fs.rm(f"{objects.root}/{chunk}")
    with pytest.raises(StoreError, match=rf"{url}/{chunk}' is missing, though task 1 is marked as done"):
        resdyn.open_store(url)


def test_what_is_not_a_store_of_these_settings_is_refused(model, data):
    bucket = f"memory://{uuid.uuid4().hex}"
    url = f"{bucket}/run.zarr"
    with pytest.raises(StoreError, match="no store at"):
        resdyn.open_store(url)
    resdyn.capture(model, data, "trajectory", url, **SETTINGS)
    with pytest.raises(StoreError, match=f"'{url}' belongs to other settings: kind"):
        resdyn.capture(model, data, "trajectory", url, kind="block", **SETTINGS)
    with pytest.raises(InputError, match="overwrite=True"):
        resdyn.capture(model, data, "trajectory", url, overwrite=True, **SETTINGS)
    foreign = Objects(f"{bucket}/foreign.zarr")
    foreign.fs.pipe_file(f"{foreign.root}/notes.txt", b"mine")
    with pytest.raises(StoreError, match=r"holds other objects \('notes.txt'\)"):
        resdyn.capture(model, data, "trajectory", foreign.url, **SETTINGS)


def test_a_url_that_went_through_a_path_is_still_one_and_never_a_folder(model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"memory://{uuid.uuid4().hex}/run.zarr"
    resdyn.capture(model, data, "trajectory", Path(name), **SETTINGS)
    assert resdyn.open_store(name).sizes["sample"] == 4
    with pytest.raises(InputError, match="not a URL"):
        resdyn.transport(model, data[0], store=name, show_progress=False)
    assert os.listdir(tmp_path) == []


def test_a_store_of_objects_without_the_package_of_its_protocol_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match=r"pip install 'resdyn\[s3\]'"):
        resdyn.open_store("s3://nowhere/run.zarr")
