"""What is printed: a table of a screen at most, the same rows in a terminal and in a notebook."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import resdyn
from resdyn._display import MAX_LINES, elided, table
from resdyn.errors import InputError
from resdyn.interventions.pruning import BlockEffect, Pruning, RemovalCandidate
from resdyn.interventions.pruning.ranking import BlockEffects, PruningStep
from resdyn.interventions.pruning.run import Accuracy
from resdyn.linalg import DenseOperator, slice_eigenvalues, spectral_distribution
from resdyn.nets import ResidualMLP
from resdyn.training.loop import History


@pytest.fixture(scope="module")
def stream():
    torch.manual_seed(0)
    return resdyn.find_stream(ResidualMLP(in_features=5, width=6, depth=3, classes=2).eval(), torch.zeros(1, 5))


def results():
    operator = DenseOperator(torch.randn(60, 60, generator=torch.Generator().manual_seed(0)))
    yield resdyn.svd(operator, 50)
    yield resdyn.eigenvalues(operator)
    yield resdyn.eigenvalues(operator, ("LR", "SR"), conditions=True)
    yield spectral_distribution(operator, np.linspace(-9, 9, 100))
    yield slice_eigenvalues(DenseOperator(torch.ones(60, 60)), (15, 2, 2), (15, 2, 2))
    yield resdyn.NoiseResponse(tuple(np.linspace(0, 1, 80)), np.ones((80, 3)))
    candidates = [RemovalCandidate(n, None, "why") for n in range(90)]
    effects = [
        BlockEffect(n, f"layers.{n}", 0.1, 0.2, -0.01, 0.005, candidate) for n, candidate in enumerate(candidates)
    ]
    yield BlockEffects(effects)
    rungs = [PruningStep(tuple(range(n + 1)), 0.1, -0.01, 0.001) for n in range(90)]
    accuracy = Accuracy(0.9, 0.01, 500, 0.88, 0.92)
    yield Pruning(91, effects, rungs, (0, 1), ["layers.0", "layers.1"], accuracy, accuracy, 0.0, 0.01, 100)
    yield History([{"epoch": n, "loss": 0.5} for n in range(300)], [], 3.0)


@pytest.mark.parametrize("result", list(results()), ids=lambda result: type(result).__name__)
def test_every_result_is_a_table_of_one_screen(result):
    for text in (str(result), repr(result)):
        assert len(text.splitlines()) <= MAX_LINES
        assert max(map(len, text.splitlines())) <= 120
        assert "tensor(" not in text
    assert " more" in str(result) or len(str(result).splitlines()) < MAX_LINES
    assert "<table" in result._repr_html_()


def test_the_middle_is_left_out_and_counted():
    assert elided(list("abcde"), 5) == list("abcde")
    assert elided(range(200), 4) == [0, 1, "... 197 more", 199]
    shown = table("t", ["n"], [[n] for n in range(200)], "note").text()
    assert len(shown.splitlines()) == MAX_LINES
    assert "... 181 more" in shown
    assert shown.splitlines()[-1] == "note"


def test_a_value_that_has_not_converged_is_marked():
    operator = DenseOperator(torch.diag(torch.linspace(1, 1.001, 200)))
    result = resdyn.svd(operator, 2, method="lanczos", max_matvecs=20)
    assert not bool(result.converged.all())
    assert "NO" in str(result)


def test_markup_of_a_name_is_text_in_a_notebook():
    shown = table("<b>", ["<i>"], [["<script>"], "<u>"], "<p>").html()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert "&lt;u&gt;" in shown


def test_states_show_their_shapes(stream):
    shown = str(stream.states(torch.zeros(2, 5)))
    assert "4 states of 2 samples" in shown
    assert "0 to 3  6                 torch.float32  cpu" in shown


class TestBlocksByName:
    def test_are_those_by_index(self, stream):
        path = stream[1].path
        assert stream[path] is stream[1] is stream.blocks[1]
        assert stream["blocks.1"] is stream[1]
        assert stream[1:] == stream.blocks[1:]
        assert [block.index for block in stream] == [0, 1, 2]
        states = stream.states(torch.ones(1, 5))
        for named, by_index in (
            (stream.jacobian(path, states), stream.jacobian(1, states)),
            (stream.skip_jacobian(path, states), stream.skip_jacobian(1, states)),
        ):
            assert torch.equal(named.to_dense(), by_index.to_dense())

    def test_a_name_of_none_or_of_several_is_refused(self, stream):
        with pytest.raises(InputError, match=r"Did you mean 'blocks.1.branch'"):
            stream["blocks.1.branches"]
        with pytest.raises(InputError, match=r"of blocks \[0, 1, 2\]"):
            stream["blocks"]
        with pytest.raises(InputError, match="got block 3, expected 0 to"):
            stream.jacobian(3, stream.states(torch.ones(1, 5)))
        with pytest.raises(IndexError):
            stream[3]
