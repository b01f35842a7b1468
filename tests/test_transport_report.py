"""The report of a lens store: its section, its numbers, and what is refused."""

import json
import re

import numpy as np
import pytest
import torch

import resdyn
from resdyn.cli.app import run as command
from resdyn.metrics import transport_structures
from resdyn.report import figures, render_page

FIGURES = ("transport_size", "transport_parts", "transport_spectrum", "transport_ranks", "transport_overlap")


@pytest.fixture(scope="module")
def lens():
    torch.manual_seed(0)
    model = resdyn.nets.ResidualMLP(in_features=3, width=16, depth=7, classes=2).eval()
    return resdyn.transport(model, torch.randn(12, 3), show_progress=False)


@pytest.fixture(scope="module")
def page(lens):
    return render_page(lens.dataset)


def text_of(page):
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.S)


def test_the_page_of_a_lens_is_about_the_transport_and_misses_nothing(page):
    assert re.findall(r'<section id="(\w+)"', page) == [
        "verdicts",
        "stream",
        "transport",
        "metrics",
        "provenance",
    ]
    text = text_of(page)
    assert "How a change of the state at 7 depths of ResidualMLP arrives" in text
    assert "J_l is the d target / d h, both flattened row-major; the target is the state at depth 7." in text
    assert "Not measured" not in text
    assert [name for name in FIGURES if f'data-figure="{name}"' in page] == list(FIGURES)


def test_figures_show_the_structure_of_the_stored_arrays(lens):
    found = transport_structures(lens.dataset)
    size = figures.transport_size(lens.dataset)
    np.testing.assert_allclose(size.data[1].y, found["norm"] / 4)
    spectrum = figures.transport_spectrum(lens.dataset)
    assert [trace.visible for trace in spectrum.data[:8]] == [True] * 7 + [False]
    assert len(spectrum.layout.updatemenus[0].buttons) == 8
    for name in FIGURES:
        assert getattr(figures, name)(lens.dataset[[]]) is None
        assert getattr(figures, f"{name}_paper")(lens.dataset[[]]) is None
        assert getattr(figures, f"{name}_paper")(lens.dataset) is not None
    assert set(lens.dataset.resdyn.figures()) == set(FIGURES)


def test_the_command_reports_stores_and_files_and_refuses_a_store_that_is_not_finished(lens, tmp_path, capsys):
    lens.save(tmp_path / "lens.pt")
    assert command(["report", str(tmp_path / "lens.pt"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["metrics"]
    assert {row["name"] for row in rows} >= {"transport_norm", "transport_growth_rate", "transport_overlap"}
    page = (tmp_path / "lens.html").read_text(encoding="utf-8")
    assert "a lens file holds none" in page
    from resdyn.store import Layout, Region, Variable, create_store

    layout = Layout({"mean_0": Variable(("depth",), (2,), "float32")}, {}, (Region(("mean_0",)),))
    create_store(tmp_path / "begun.zarr", layout, {"measurement": "transport"})
    assert command(["report", str(tmp_path / "begun.zarr")]) == 2
    assert "is not finished: 1 tasks remain" in capsys.readouterr().err


def test_resuming_says_how_much_is_done(tmp_path, capfd, monkeypatch):
    from resdyn.transporting import fit

    model, data = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval(), torch.randn(6, 3)
    original, calls = fit.run_transport_task, []

    def stopping(job, task, tick):
        calls.append(task.number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(job, task, tick)

    monkeypatch.setattr(fit, "run_transport_task", stopping)
    with pytest.raises(KeyboardInterrupt):
        resdyn.transport(model, data, tmp_path / "lens.zarr", chunk_size=2)
    assert "resuming" not in capfd.readouterr().err
    resdyn.transport(model, data, tmp_path / "lens.zarr", chunk_size=2)
    assert "resuming: 2 of 3 parts are done" in capfd.readouterr().err


def test_the_command_fits_the_untrained_network_beside_and_says_the_verdict(tmp_path, capsys):
    words = ["transport", "resdyn:mlp,width=64,depth=3", "--data", "digits", "--out", str(tmp_path / "lens.zarr")]
    assert command([*words, "--samples", "3", "--null", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (verdict,) = said["verdicts"]
    assert verdict["name"] == "transport"
    assert all(finding["untrained"] is not None for finding in verdict["findings"])
    assert "with the same network untrained" in said["conclusion"]
    assert command(["report", str(tmp_path / "lens.zarr")]) == 0
    assert "untrained" in (tmp_path / "lens.html").read_text(encoding="utf-8").partition("</header>")[0]
