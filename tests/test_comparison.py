"""Runs side by side: what differs, the differences with their errors, and the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import resdyn
from resdyn.cli.app import run as command
from resdyn.errors import InputError, StoreError
from resdyn.report.comparison.outline import comparison_outline
from resdyn.report.comparison.page import distinct, opened
from resdyn.report.comparison.runs import comparability_warnings, metrics_comparison, overlaid, runs_of, settings_table
from synthetic import synthetic_dataset


def run(**changes):
    ds = synthetic_dataset(**{key: value for key, value in changes.items() if key not in ("attrs", "loss")})
    return ds.assign_attrs({"data_hash": "one", "kind": "gated", "complete": True} | changes.get("attrs", {}))


def compared(*datasets):
    return runs_of(datasets, [f"run {k}" for k in range(len(datasets))])


def drawn_of(runs):
    return [row for _, overlays in comparison_outline(runs) for row in overlaid(runs, overlays)]


def row_of(runs, name):
    return next(row for row in metrics_comparison(runs) if row["name"] == name)


def test_the_difference_is_the_second_less_the_first():
    row = row_of(compared(run(speed=1.0), run(early_blocks=4)), "inverse_scaling_start")
    assert row["difference"] == row["values"][1]["value"] - row["values"][0]["value"]


def test_of_the_same_samples_it_is_paired_and_its_error_is_over_the_differences():
    first, second = run(n_samples=5), run(n_samples=5)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=5)
    first["noise_amplitude"] = ("sample", 10 + noise)
    second["noise_amplitude"] = ("sample", 12 + noise + 1e-3 * rng.normal(size=5))
    row = row_of(compared(first, second), "noise_amplitude")
    each = second["noise_amplitude"].values - first["noise_amplitude"].values
    assert row["paired"]
    assert row["difference"] == pytest.approx(each.mean())
    assert row["difference_error"] == pytest.approx(each.std(ddof=1) / 5**0.5)


def test_of_other_samples_errors_are_added_in_squares():
    first, second = run(n_samples=5), run(n_samples=5, attrs={"data_hash": "another"})
    for ds, values in ((first, [1.0, 2, 3, 4, 5]), (second, [2.0, 4, 6, 8, 10])):
        ds["noise_amplitude"] = ("sample", np.array(values))
    row = row_of(compared(first, second), "noise_amplitude")
    assert not row["paired"]
    assert row["difference_error"] == pytest.approx(np.hypot(*(v["standard_error"] for v in row["values"])))


def test_without_an_error_none_is_invented():
    row = row_of(compared(run(), run(attrs={"data_hash": "another"})), "least_layer_cushion")
    assert row["difference_error"] is None


def test_what_differs_in_the_making_is_marked():
    rows = {row["name"]: row for row in settings_table(compared(run(), run(attrs={"kind": "block"})))}
    assert rows["kind"]["differs"]
    assert not rows["blocks"]["differs"]


@pytest.mark.parametrize(
    ("attrs", "words"),
    [
        ({"kind": "block"}, "differently"),
        ({"data_hash": "another"}, "different samples"),
        ({"position": -1}, "different tokens"),
        ({"granularity": "layer"}, "whole layer"),
        ({"dtype": "float64"}, "precision"),
    ],
)
def test_what_makes_runs_incomparable_is_said_first(attrs, words):
    plain = {"dtype": "float32", "granularity": "join"}
    assert comparability_warnings(compared(run(attrs=plain), run(attrs=plain))) == []
    (note,) = comparability_warnings(compared(run(attrs=plain), run(attrs=plain | attrs)))
    assert words in note


def test_a_probe_of_other_settings_is_a_trap_and_one_left_out_is_none():
    first, second = (run(attrs={"probes": {"singular": {"k": k}, "trajectory": {}}}) for k in (4, 8))
    assert "singular" in comparability_warnings(compared(first, second))[0]
    assert comparability_warnings(compared(first, run(attrs={"probes": {"trajectory": {}}}))) == []


class TestPictures:
    def test_show_a_line_for_each_run_that_has_the_quantity(self):
        drawn = {
            overlay.name: (figure, missing)
            for overlay, figure, missing in drawn_of(compared(run(), run(probes=("trajectory",))))
        }
        figure, missing = drawn["collinearity"]
        assert [trace.name for trace in figure.data] == ["run 0", "run 1"]
        assert (len(drawn["inverse_scaling"][0].data), drawn["inverse_scaling"][1]) == (1, ["run 1"])
        assert missing == []

    def test_of_runs_of_unequal_depth_are_over_relative_depth(self):
        drawn = {overlay.name: figure for overlay, figure, _ in drawn_of(compared(run(n_blocks=8), run(n_blocks=4)))}
        ends = [(min(trace.x), max(trace.x)) for trace in drawn["top_singular_value"].data]
        assert ends == [(0.0, 1.0), (0.0, 1.0)]
        assert "relative" in drawn["top_singular_value"].layout.xaxis.title.text

    def test_of_the_top_value_hold_what_is_stored(self):
        ds = run()
        drawn = {overlay.name: figure for overlay, figure, _ in drawn_of(compared(ds, ds))}
        expected = ds["singular_values"].isel(rank=0).mean("sample").values
        np.testing.assert_allclose(drawn["top_singular_value"].data[0].y, expected)


class TestPage:
    def test_is_one_file_with_titles_escaped_and_differences_beside(self, tmp_path):
        page = resdyn.write_comparison([run(), run(early_blocks=4)], tmp_path / "c.html", titles=["<b>a", "b"])
        text = page.read_text(encoding="utf-8")
        assert "&lt;b&gt;a" in text
        assert "<b>a" not in text
        assert "<th>difference</th>" in text
        assert 'http-equiv="refresh"' not in text

    def test_of_three_runs_has_no_differences(self, tmp_path):
        page = resdyn.write_comparison([run(), run(), run()], tmp_path / "c.html")
        text = page.read_text(encoding="utf-8")
        assert "<th>difference</th>" not in text
        assert "run 3" in text

    @pytest.mark.parametrize(
        ("datasets", "titles", "message"),
        [
            ([run()], None, "got 1 run"),
            ([run(), run()], ["a", "a"], "all different"),
            ([run(), run(attrs={"complete": False, "tasks_remaining": 3})], None, "not finished: 3 tasks"),
            ([run(), run().states], ["a", "b"], "got DataArray"),
        ],
    )
    def test_refuses_what_cannot_be_compared(self, datasets, titles, message, tmp_path):
        with pytest.raises(InputError, match=message):
            resdyn.write_comparison(datasets, tmp_path / "c.html", titles=titles)
        assert not list(tmp_path.iterdir())

    def test_titles_are_what_tells_paths_apart(self, tmp_path):
        def names(*paths):
            return distinct([tmp_path / path for path in paths])

        assert names("a.zarr", "b.zarr") == ["a", "b"]
        assert names("first/store.zarr", "second/store.zarr") == ["first", "second"]
        assert names("x/a.zarr", "y/a.zarr", "y/b.zarr") == ["x/a", "y/a", "y/b"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder, digits = tmp_path_factory.mktemp("stores"), resdyn.load_data("digits")
    for seed in range(2):
        torch.manual_seed(seed)
        model = resdyn.nets.ResidualMLP(in_features=(1, 8, 8), width=8, depth=3).eval()
        resdyn.capture(
            model, digits, "trajectory,singular(k=2)", folder / f"seed{seed}.zarr", samples=3, show_progress=False
        )
    return [str(folder / f"seed{seed}.zarr") for seed in range(2)]


class TestCommand:
    def test_writes_the_page_and_prints_the_table_as_json(self, stores, tmp_path, capsys):
        assert command(["compare", *stores, "--out", str(tmp_path / "c.html"), "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert [run["title"] for run in answer["runs"]] == ["seed0", "seed1"]
        row = next(row for row in answer["metrics"] if row["name"] == "collinearity")
        assert row["paired"]
        assert (tmp_path / "c.html").exists()

    def test_prints_a_table_for_a_person(self, stores, tmp_path, capsys):
        assert command(["compare", *stores, "--out", str(tmp_path / "c.html"), "--titles", "one", "two"]) == 0
        said = capsys.readouterr().out
        assert "difference" in said
        assert "one" in said

    def test_says_what_is_wrong_in_one_line(self, stores, tmp_path, capsys):
        for words, message in (
            ([stores[0]], "at least two"),
            ([stores[0]] * 2, "twice"),
            ([stores[0], str(tmp_path)], "not a resdyn store"),
        ):
            assert command(["compare", *words]) in (1, 2)
            assert message in capsys.readouterr().err


def test_a_path_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, error in ((tmp_path / "loop", StoreError), ("a\0b", InputError)):
        with pytest.raises(error, match=r"loop|a path"):
            opened([path, run()])


def test_a_store_and_a_dataset_can_stand_side_by_side():
    assert [run.title for run in opened([run(), run()])] == ["run 1", "run 2"]


def test_numbers_of_unlike_places_have_no_difference_and_the_page_says_why():
    first, second = run(n_blocks=4), run(n_blocks=7)
    runs = compared(first, second)
    row = row_of(runs, "line_shape_score")
    assert row["values"][0]["where"] != row["values"][1]["where"]
    assert row["difference"] is None
    assert row["values"][0]["chance"] != row["values"][1]["chance"]
    shapes = [[{"shape_in": [4], "shape_out": [4]}] * blocks for blocks in (4, 7)]
    unlike = compared(first.assign_attrs(stream=shapes[0]), second.assign_attrs(stream=shapes[1]))
    assert any("not alike" in note for note in comparability_warnings(unlike))
    assert not any("not alike" in note for note in comparability_warnings(compared(first, first)))
