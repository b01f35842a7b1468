"""Progress: shown on a terminal, after a while, where somebody asked for it."""

from __future__ import annotations

import contextlib
import io
import sys
import time

import pytest
import torch

from resdyn import find_stream, progress
from resdyn.capturing.executor import Task, run_tasks
from resdyn.nets import ResidualMLP


@pytest.fixture
def terminal(monkeypatch):
    """Standard error counts as a terminal, and everything as long work."""
    monkeypatch.setattr(progress, "is_interactive", lambda stream: True)
    monkeypatch.setattr(progress, "SHOWN_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.01)


def test_a_log_gets_no_bar_from_short_work(capfd, monkeypatch):
    monkeypatch.setattr(progress, "SHOWN_AFTER_SECONDS", 0.0)
    run_tasks(lambda shared, payload, tick: None, [Task(1)], 1)
    assert capfd.readouterr() == ("", "")


def test_a_log_gets_whole_lines_from_long_work(capfd, monkeypatch):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.05)
    with progress.progress_bars({"samples": 4, "class means": 9}) as advance:
        advance("samples", 3)
        time.sleep(0.3)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0].startswith("samples: 75 %, 3 of 4 after 00:00")
    assert "class means" not in err
    assert "\r" not in err


def test_what_an_earlier_run_did_does_not_shorten_the_time_left(capfd, monkeypatch):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.05)
    with progress.progress_bars({"training": 30}, before={"training": 20}):
        time.sleep(0.3)
    assert capfd.readouterr().err.splitlines()[0].startswith("training: 67 %, 20 of 30 after 00:00, ? left")
    (line,) = progress._lines({"training": 30}, {"training": 20}, {"training": 25}, 100.0)
    assert line == "training: 83 %, 25 of 30 after 01:40, 01:40 left"


def test_a_notebook_counts_as_a_place_where_a_person_watches():
    class OutStream(io.StringIO):
        __module__ = "ipykernel.iostream"

    assert progress.is_interactive(OutStream())
    assert not progress.is_interactive(io.StringIO())


def test_a_terminal_is_shown_a_bar_with_the_time_left(terminal, capfd):
    with progress.progress_bars({"samples": 4}) as advance:
        advance("samples", 3)
        time.sleep(0.1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "samples" in err
    assert "4" in err


def test_work_of_unknown_length_shows_the_time_since_its_start(terminal, capfd):
    with progress.progress_bars({"exporting": None}):
        time.sleep(0.1)
    err = capfd.readouterr().err
    assert "exporting" in err
    assert "00:00" in err


def test_a_library_is_quiet_unless_it_is_asked_to_show_its_steps(terminal, capfd):
    model, x = ResidualMLP(in_features=3, width=4, depth=2).eval(), torch.zeros(1, 3)
    find_stream(model, x)
    with progress.show_progress(False):
        find_stream(model, x)
    assert capfd.readouterr().err == ""
    with progress.show_progress():
        find_stream(model, x)
    err = capfd.readouterr().err
    assert "exporting the model" in err
    assert "verifying the blocks" in err


def test_it_is_shown_and_standard_error_stays_where_the_work_redirects_it_for_a_moment(terminal, capfd):
    before = sys.stderr
    with progress.show_progress(), progress.stage("exporting"), contextlib.redirect_stderr(io.StringIO()):
        time.sleep(0.3)  # time for the bar to start
    assert sys.stderr is before
    assert "exporting" in capfd.readouterr().err


def test_a_step_that_fails_leaves_no_bar_behind(terminal, capfd):
    with pytest.raises(ValueError, match="broken"), progress.show_progress(), progress.stage("exporting"):
        raise ValueError("broken")
    with progress.show_progress():
        assert list(progress.track([1, 2], "items")) == [1, 2]
