"""What a newcomer sees first: short displays, and refusals in one line."""

import pytest
import torch

import resdyn
from resdyn.cli.app import run
from resdyn.errors import InputError
from resdyn.report.sections.training import _first_to_last


def test_data_and_monitors_are_shown_in_one_line():
    assert repr(resdyn.load_data("digits")) == "ImageData(digits, test, 297 images, 10 classes)"
    assert repr(resdyn.Monitor(every=2, budget=0.05)) == "Monitor(every=2, unit='epoch', samples=5, budget=0.05)"


@pytest.mark.parametrize("solve", [lambda a: resdyn.svd(a, k=1), resdyn.eigenvalues])
def test_a_plain_matrix_is_refused_with_the_way_to_wrap_it(solve):
    with pytest.raises(InputError, match=r"got a Tensor; expected a LinearOperator; wrap a matrix in .*DenseOperator"):
        solve(torch.eye(2))


def test_a_usage_error_names_the_help_of_its_command(capsys):
    assert run(["inspect", "x", "--dtype", "float80"]) == 2
    assert capsys.readouterr().err.rstrip().endswith('Did you mean "float64"? See resdyn inspect --help')
    assert run(["nothing"]) == 2
    assert capsys.readouterr().err.rstrip().endswith("; see resdyn --help")


def test_a_column_that_begins_later_says_so():
    rows = [
        {"epoch": 0, "a": 1.0, "loss": None},
        {"epoch": 2, "a": 2.0, "loss": 3.0},
        {"epoch": 4, "a": 5, "loss": 1.0},
    ]
    ds = torch.nn.Module()
    ds.attrs = {"training": rows}
    (said,) = _first_to_last(ds, [], columns=(("a", "A"), ("loss", "loss")))
    assert "A 1 → 5; loss 3 → 1 (epochs 2 → 4)" in said
    assert "epochs 0 → 4" in said
