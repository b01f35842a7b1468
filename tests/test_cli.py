"""The command line as people and programs use it: output, exit codes, messages without tracebacks."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from resdyn.cli.app import report_error, run
from resdyn.cli.output import terminal
from resdyn.nets import ResidualMLP
from resdyn.training import DIGITS_RECIPE, train_digits

NET = "resdyn:mlp,in_features=64,width=8,depth=2"
PROBES = "trajectory,singular(k=3),coupling,features"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(ResidualMLP(in_features=64, width=8, depth=2).state_dict(), path)
    return path


def test_inspect_prints_the_stream(weights, capsys):
    assert run(["inspect", NET, "--weights", str(weights)]) == 0
    assert "2 residual blocks" in capsys.readouterr().out


def test_inspect_prints_json(weights, capsys):
    assert run(["inspect", NET, "--weights", str(weights), "--json"]) == 0
    assert [block["gate"] for block in json.loads(capsys.readouterr().out)["blocks"]] == ["relu", "relu"]


def test_analyze_writes_store_report_and_figures(weights, tmp_path, capsys):
    words = [
        "analyze",
        NET,
        "--weights",
        str(weights),
        "--data",
        "digits",
        "--probes",
        PROBES,
        "--samples",
        "3",
        "--out",
        str(tmp_path / "run"),
        "--figures",
        "--json",
    ]
    assert run(words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in answer["metrics"]} >= {"line_shape_score", "diagonal_energy_uv", "self_duality"}
    assert answer["provenance"]["complete"] is True
    assert Path(answer["paths"]["report"]).read_text().lower().startswith("<!doctype html>")
    assert list(Path(answer["paths"]["figures"]).glob("*.pdf"))


def test_capture_then_report_and_options_from_a_file(weights, tmp_path, capsys):
    config = tmp_path / "options.yaml"
    config.write_text(f"data: digits\nsamples: 2\nprobes: trajectory\nweights: {weights}\n")
    store, page = tmp_path / "a.zarr", tmp_path / "page.html"
    assert run(["capture", NET, "--config", str(config), "--out", str(store)]) == 0
    assert run(["report", str(store), "--out", str(page)]) == 0
    assert page.is_file()
    assert "line-shape" in capsys.readouterr().out


def test_a_misspelt_option_in_a_file_is_refused(tmp_path, capsys):
    config = tmp_path / "options.yaml"
    config.write_text("data: digits\nsampels: 2\n")
    assert run(["capture", NET, "--config", str(config), "--out", str(tmp_path / "a.zarr")]) == 2
    assert "sampels" in capsys.readouterr().err


def test_the_resolved_options_can_be_printed(capsys):
    assert run(["capture", NET, "--data", "digits", "--out", "a.zarr", "--samples", "3", "--print-config"]) == 0
    assert "samples: 3" in capsys.readouterr().out


REFUSED = {
    "unknown command": (["analyse"], "analyse"),
    "unknown option": (["inspect", NET, "--wieghts", "x"], "wieghts"),
    "missing data": (["capture", NET, "--out", "a.zarr"], "data"),
    "unknown net": (["inspect", "resdyn:mpl"], "mlp"),
    "missing file": (["inspect", "nowhere.py:net"], "nowhere.py"),
    "no weights": (["inspect", NET, "--weights", "nowhere.safetensors"], "nowhere.safetensors"),
    "unknown data": (["capture", NET, "--data", "digit", "--out", "a.zarr"], "digits"),
    "unknown class": (["capture", NET, "--data", "digits", "--classes", "eleven", "--out", "a.zarr"], "eleven"),
    "unknown probe": (["capture", NET, "--data", "digits", "--probes", "singluar", "--out", "a.zarr"], "singular"),
    "k too large": (["capture", NET, "--data", "digits", "--probes", "singular(k=9)", "--out", "a.zarr"], "9"),
    "no store": (["report", "nowhere.zarr"], "nowhere.zarr"),
    "no configuration": (["inspect", NET, "--config", "nowhere.yaml"], "nowhere.yaml"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_usage_leaves_with_two_and_a_message(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, expected = REFUSED[case]
    assert run(words) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_pickle_offered_as_weights_is_never_unpickled(tmp_path, capsys):
    trap = tmp_path / "trap.pt"
    marker = tmp_path / "executed"
    trap.write_bytes(pickle.dumps(_Trap(str(marker))))
    assert run(["inspect", NET, "--weights", str(trap)]) == 2
    assert not marker.exists()
    assert "safetensors" in capsys.readouterr().err


class _Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_a_model_without_a_stream_is_bad_input_said_in_one_line(tmp_path, capsys):
    factory = tmp_path / "plain.py"
    factory.write_text(
        "import torch\ndef net():\n    return torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.zeros(1, 4)\n"
    )
    assert run(["inspect", f"{factory}:net"]) == 2
    said = capsys.readouterr().err.strip()
    assert "no residual stream" in said
    assert "\n" not in said


NOISY = """
import torch
from resdyn.nets import ResidualMLP
print("imported")
def net():
    print("made")
    return ResidualMLP(in_features=(1, 8, 8), width=8, depth=2)
def broken():
    raise KeyError("depth")
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_with_json_standard_output_holds_nothing_else(tmp_path, workers):
    if workers != "0":
        pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    (tmp_path / "noisy.py").write_text(NOISY)
    words = [
        "capture",
        "noisy.py:net",
        "--data",
        "digits",
        "--probes",
        "trajectory",
        "--samples",
        "2",
        "--out",
        "s",
        "--workers",
        workers,
        "--json",
    ]
    done = resdyn(words, tmp_path)
    out, err = done.communicate(timeout=100)
    assert done.returncode == 0, err
    assert json.loads(out)["provenance"]["model"] == "noisy.py:net"
    assert "made" in err


def test_a_factory_that_raises_is_named_with_its_file(tmp_path, capsys):
    (tmp_path / "noisy.py").write_text(NOISY)
    assert run(["inspect", f"{tmp_path / 'noisy.py'}:broken"]) == 2
    message = capsys.readouterr().err
    assert "broken() in" in message
    assert "noisy.py' raised KeyError: 'depth'" in message


def resdyn(words, folder):
    # Whoever runs the tests in the background has SIGINT ignored, and children inherit that: Ctrl-C works again here.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from resdyn.__main__ import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_an_interrupted_run_says_how_to_go_on(tmp_path):
    running = resdyn(["demo", "--epochs", "100000", "--out", "demo"], tmp_path)
    assert running.stderr.readline().startswith("training 8 residual blocks")
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted; the same command resumes where it stopped" in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize("module", ["cyclopts", "torch"])
def test_an_interruption_while_modules_are_loaded_is_one_line(tmp_path, module):
    (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt")
    starting = resdyn(["inspect", "resdyn:mlp"], tmp_path)
    out, err = starting.communicate(timeout=60)
    assert out == ""
    assert err.startswith("resdyn: interrupted")
    assert err.count("\n") == 1
    assert starting.returncode == 130


def test_a_second_interruption_ends_the_first_at_once(tmp_path):
    running = resdyn(["demo", "--epochs", "100000", "--out", "demo"], tmp_path)
    assert running.stderr.readline().startswith("training 8 residual blocks")
    for _ in range(20):
        running.send_signal(signal.SIGINT)
        time.sleep(0.02)
    err = running.communicate(timeout=60)[1]
    assert running.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in err


def test_a_demonstration_of_other_settings_is_refused_with_the_option_to_give(tmp_path, capsys):
    train_digits(recipe=replace(DIGITS_RECIPE, epochs=1), checkpoint=tmp_path / "checkpoint")
    assert run(["demo", "--epochs", "2", "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "another run" in message
    assert "--out" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--samples", "0"], "got 0 samples"), (["--out", "taken/demo"], "cannot make the folder taken/demo")],
)
def test_a_demonstration_is_checked_before_it_trains(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("a file")
    assert run(["demo", *words]) == 2
    assert message in capsys.readouterr().err


def test_classes_that_the_model_does_not_know_are_refused(tmp_path, capsys):
    words = ["capture", "resdyn:mlp,in_features=64,width=8,depth=2", "--data", "digits", "--classes", "3", "4"]
    assert run([*words, "--out", str(tmp_path / "a.zarr")]) == 2
    assert "--classes" in capsys.readouterr().err


def test_help_is_complete(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("demo", "inspect", "capture", "report", "analyze", "Exit codes", "MODEL"))
    assert run(["analyze", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"--{word}" in text for word in ("data", "weights", "probes", "samples", "workers", "json", "config"))


def test_the_core_runs_without_any_extra(tmp_path):
    """Train, capture and report in a process where every optional package fails to import."""
    program = '''
import sys
EXTRAS = {"transformers", "datasets", "umap", "dask", "distributed", "timm", "torchvision"}
class Without:
    """A finder that does not find the extras, as where they are not installed."""
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in EXTRAS else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from resdyn.cli.app import run
code = run(["demo", "--epochs", "2", "--samples", "2", "--out", sys.argv[1]])
assert not EXTRAS & set(sys.modules), EXTRAS & set(sys.modules)
assert run(["capture", "resdyn:mlp", "--data", "mnist", "--data-root", sys.argv[1], "--out", "x.zarr"]) == 2
sys.exit(code)
'''
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").is_file()
    assert "pip install 'resdyn[data]'" in done.stderr


def test_a_name_between_colons_is_no_emoji(capsys):
    report_error(terminal(stderr=True), "net.py:factory: NaN", 1)
    assert "net.py:factory: NaN" in capsys.readouterr().err


LOUD = """
import os, subprocess, sys
from resdyn.nets import ResidualMLP
def net():
    os.write(1, b"written")
    subprocess.run(["echo", "child"], check=True)
    sys.__stdout__.write("kept stream")
    return ResidualMLP(in_features=(1, 8, 8), width=8, depth=2)
def leaves():
    sys.exit(0)
def says_goodbye():
    import atexit
    atexit.register(lambda: os.write(1, b"goodbye"))
    return net()
"""


def test_with_json_even_descriptors_and_children_do_not_get_in_front(tmp_path):
    (tmp_path / "loud.py").write_text(LOUD)
    done = resdyn(["inspect", "loud.py:says_goodbye", "--json"], tmp_path)
    out, err = done.communicate(timeout=100)
    assert done.returncode == 0, err
    assert json.loads(out)["model"] == "loud.py:says_goodbye"
    assert "goodbye" in err
    assert "written" in err
    assert "child" in err


@pytest.mark.parametrize(
    "text",
    [
        "def net():\n    import sys\n    sys.exit(0)\n",
        "import sys\nsys.exit(0)\n",
        "def net():\n    raise BaseException('out')\n",
        "raise GeneratorExit\n",
    ],
)
def test_a_factory_that_ends_the_process_is_refused(tmp_path, capsys, text):
    (tmp_path / "leaves.py").write_text(text)
    assert run(["inspect", f"{tmp_path / 'leaves.py'}:net"]) == 2
    assert "leaves.py'" in capsys.readouterr().err
