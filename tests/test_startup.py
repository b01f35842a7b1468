"""What starts without PyTorch: help, the version, and every mistake that the command line alone can see."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from resdyn.cli import options
from resdyn.stream import KINDS, Granularity

HEAVY = ("torch", "numpy", "xarray", "pandas", "plotly", "sklearn", "zarr")
PROGRAM = """
import sys
from resdyn.__main__ import main
try:
    main()
except SystemExit as leaving:
    heavy = [name for name in {heavy} if name in sys.modules]
    print("code", leaving.code or 0, "heavy", *heavy, file=sys.stderr)
"""
CAPTURE = ["capture", "x", "--data", "digits", "--out", "y"]
COMMANDS = {
    "version": (["--version"], 0, "0."),
    "help": (["--help"], 0, "analyze"),
    "no command": ([], 0, "analyze"),
    "help of a command": (["capture", "--help"], 0, "--device"),
    "help of prune": (["prune", "--help"], 0, "--max-accuracy-loss"),
    "help of paper": (["paper", "--help"], 0, "--scale"),
    "help of compare": (["compare", "--help"], 0, "--titles"),
    "unknown command": (["analyse"], 2, 'Did you mean "analyze"?'),
    "unknown option": (["inspect", "x", "--wieghts", "y"], 2, "Did you mean --weights?"),
    "bad choice": (
        ["capture", "x", "--data", "digits", "--out", "y", "--kind", "foo"],
        2,
        '"gated", "branch", "block"',
    ),
    "bad number": ([*CAPTURE, "--samples", "2.5"], 2, "whole number"),
    "bad device": (["inspect", "x", "--device", "gpu"], 2, "expected auto, cpu, cuda, cuda:INDEX or mps"),
    "bad dtype": (["inspect", "x", "--dtype", "float31"], 2, '"float64"'),
    "missing option": (["capture", "x", "--out", "y"], 2, "--data"),
    "printed options": (["capture", "x", "--out", "y", "--data", "z", "--print-config"], 0, "tokens: 64"),
    "missing configuration": (["inspect", "x", "--config", "nowhere.yaml"], 2, "nowhere.yaml"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_help_and_usage_errors_load_nothing_heavy(case, tmp_path):
    words, code, expected = COMMANDS[case]
    program = PROGRAM.format(heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    said, last = done.stdout + done.stderr, done.stderr.splitlines()[-1]
    assert expected in said
    assert last == f"code {code} heavy"
    assert "Traceback" not in said


def test_the_package_runs_as_a_module(tmp_path):
    done = subprocess.run([sys.executable, "-m", "resdyn", "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


LAZY = {
    "resdyn": "torch numpy xarray pandas zarr plotly matplotlib sklearn networkx jinja2 rich scipy tqdm",
    "resdyn.stream": "xarray zarr plotly matplotlib sklearn jinja2 torch._dynamo",
    "resdyn.linalg": "xarray zarr plotly matplotlib sklearn jinja2 networkx torch._dynamo",
    "resdyn.nets": "xarray zarr plotly matplotlib sklearn jinja2 networkx torch._dynamo",
}


@pytest.mark.parametrize("module", LAZY)
def test_importing_loads_only_what_is_needed(module):
    absent = LAZY[module].split()
    program = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stream_is_found_without_figures_stores_or_data_sets():
    program = """
import sys, torch, resdyn
from resdyn.nets import ResidualMLP
stream = resdyn.find_stream(ResidualMLP(in_features=3, width=4, depth=2).eval(), torch.zeros(1, 3))
resdyn.svd(stream.jacobian(0, stream.states(torch.zeros(1, 3))), k=1)
print([name for name in ("xarray", "zarr", "plotly", "matplotlib", "sklearn", "jinja2") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_options_name_the_same_choices_as_the_library():
    assert set(get_args(options.Granularity)) == set(get_args(Granularity))
    assert set(get_args(options.Kind)) == set(KINDS)
