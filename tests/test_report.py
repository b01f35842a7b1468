"""The report says what the dataset holds, nothing else, and never lets user text become markup."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr
from matplotlib.figure import Figure as PaperFigure

from resdyn._format import percent, short, with_error
from resdyn.errors import InputError
from resdyn.metrics.summary import metrics_table
from resdyn.report import figures, render_page, write_comparison, write_report
from resdyn.report.header import tiles
from resdyn.report.page import script_json
from resdyn.report.sections import Section
from resdyn.report.sections.coupling import ALIGNMENT
from resdyn.report.sections.features import NC34
from resdyn.report.sentences import sentences
from resdyn.report.stream_svg import stream_svg
from resdyn.report.theme import class_colour, class_symbol, plain
from synthetic import PROBES, synthetic_dataset

NEEDS = {
    "principal_trajectories": "trajectory",
    "random_trajectories": "trajectory",
    "collinearity": "trajectory",
    "step_lengths": "trajectory",
    "coupling_grid": "coupling",
    "coupling_grid_exchanged": "coupling",
    "diagonal_energy": "coupling",
    "singular_values": "singular",
    "inverse_scaling": "singular",
    "stiffness_index": "spectrum",
    "negative_share": "spectrum",
    "eigenvalue_plane": "spectrum",
    "nonnormality": "spectrum",
    "layer_cushion": "cushion",
    "output_cushion": "cushion",
    "block_cushion": "cushion",
    "cushion_histogram": "cushion",
    "collapse_variability": "features",
    "collapse_simplex": "features",
    "collapse_decision": "features",
}
GRIDS = tuple(f"coupling_grid{side}{group}" for side in ("", "_exchanged") for group in ("", "_2"))
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return synthetic_dataset(n_samples=5, n_blocks=10, angle=0.2)


@pytest.fixture(scope="module")
def page(ds: xr.Dataset) -> str:
    return render_page(ds)


def embedded_figures(page: str) -> dict[str, dict]:
    found = re.findall(r'<figure id="(\w+)".*?<script type="application/json">(.*?)</script>', page, re.S)
    return {name: json.loads(text) for name, text in found}


def body_without_code(page: str) -> str:
    """The page as a reader sees it: no style sheet, no program, no data."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.S)


# pictures


@pytest.mark.parametrize("name", NEEDS)
def test_every_picture_is_drawn_for_the_page_and_for_papers(ds, name):
    assert isinstance(getattr(figures, name)(ds), go.Figure)
    assert isinstance(getattr(figures, f"{name}_paper")(ds), PaperFigure)


@pytest.mark.parametrize(("name", "probe"), NEEDS.items())
def test_a_picture_whose_probe_is_absent_is_none(name, probe):
    without = synthetic_dataset(probes=[p for p in PROBES if p != probe])
    assert getattr(figures, name)(without) is None
    assert getattr(figures, f"{name}_paper")(without) is None


def test_the_registry_lists_all_pictures():
    drawn = {n for n in figures.__all__ if not n.endswith("_paper")}
    of_lenses = {n for n in drawn if n.startswith(("transport_", "lyapunov_"))}  # test_transport_report, test_lyapunov
    assert drawn == set(NEEDS) | {"training_alignment", "training_collapse"} | of_lenses
    assert {n.removesuffix("_paper") for n in figures.__all__} == drawn


def test_a_straight_trajectory_stays_straight_and_equispaced_in_both_projections():
    ds = synthetic_dataset(n_samples=1, n_blocks=8)
    for name in ("principal_trajectories", "random_trajectories"):
        trace = getattr(figures, name)(ds).data[0]
        steps = np.diff(np.stack([trace.x, trace.y], axis=1)[:-1], axis=0)
        assert np.allclose(steps, steps[0], atol=1e-5)


def test_principal_axes_keep_all_of_a_planar_motion():
    ds = synthetic_dataset(n_samples=1, n_blocks=8)
    trace = figures.principal_trajectories(ds).data[0]
    steps = np.diff(np.stack([trace.x, trace.y], axis=1)[:-1], axis=0)
    assert np.allclose(np.linalg.norm(steps, axis=1), 0.5, atol=1e-5)


def test_the_grid_holds_the_couplings_in_per_cent_of_the_largest_singular_value(ds):
    grid = figures.coupling_grid(ds)
    shown = np.asarray(grid.data[1].z)  # the first single sample
    blocks = slice(0, 5)
    expected = np.abs(ds["coupling_uv"].values[0, blocks, blocks])
    expected = 100 * expected / ds["singular_values"].values[0, blocks, 0][:, None, None, None]
    rank = ds.sizes["rank"]
    for i in range(5):
        for j in range(5):
            square = shown[i * rank : (i + 1) * rank, j * rank : (j + 1) * rank]
            assert np.abs(square - expected[i, j]).max() <= 0.5 + 1e-9


def test_there_is_one_grid_for_each_group_of_blocks_of_equal_shape(ds, page):
    assert {"coupling_grid", "coupling_grid_2"} <= set(embedded_figures(page))
    assert figures.coupling_grid(ds, group=2) is None
    assert "no other block maps between the same shapes: block 5." in page


def test_a_missing_coupling_stays_a_gap_and_is_never_drawn_as_zero():
    ds = synthetic_dataset(n_samples=1)
    ds["coupling_uv"][0, 1, 2, 3, 3] = np.nan
    shown = np.asarray(figures.coupling_grid(ds).data[0].z)
    assert np.isnan(shown).sum() == 1


def test_a_sample_without_all_couplings_is_left_out_of_the_grid():
    ds = synthetic_dataset(n_samples=3)
    ds["coupling_uv"][0, 1, 2, 3, 3] = np.nan
    labels = [b.label for b in figures.coupling_grid(ds).layout.updatemenus[0].buttons]
    assert labels[0] == "mean over 2 samples"
    assert len(labels) == 3


def test_a_big_grid_stays_small():
    ds = synthetic_dataset(n_samples=4, n_blocks=16, rank=30, probes=["singular", "coupling"])
    assert len(figures.coupling_grid(ds).to_json()) < 1_500_000


def test_unconverged_triplets_are_open_circles_and_noted(ds):
    doubtful = ds.copy(deep=True)
    doubtful["singular_converged"][2, 3, 1] = False
    symbols = [s for trace in figures.singular_values(doubtful).data for s in trace.marker.symbol]
    assert symbols.count("circle-open") == 2  # in its own sample and in the mean
    assert "1 of 300 singular triplets did not converge" in render_page(doubtful)
    assert "did not converge (" not in render_page(ds)


def test_the_fitted_line_is_the_metrics_line(ds):
    line = figures.inverse_scaling(ds).data[-1]
    (slope,) = [r["value"] for r in metrics_table(ds) if r["name"] == "inverse_scaling_slope"]
    assert (line.y[1] - line.y[0]) / (line.x[1] - line.x[0]) == pytest.approx(slope)


def test_a_network_too_short_for_a_line_still_shows_its_singular_values():
    ds = synthetic_dataset(n_blocks=3)
    assert len(figures.inverse_scaling(ds).data) == 2
    assert "Slope: undefined (" in render_page(ds)


def test_no_more_lines_are_drawn_than_a_page_can_hold_and_the_page_says_so():
    ds = synthetic_dataset(n_samples=250, n_blocks=4, probes=["trajectory"])
    drawn = figures.random_trajectories(ds)
    shown = sum(int(np.isnan(t.x).sum()) for t in drawn.data if t.visible)
    assert shown == 100
    assert "The first 100 of 250 samples are drawn" in render_page(ds)


def test_without_labels_all_samples_share_one_colour():
    ds = synthetic_dataset(probes=["trajectory"], n_samples=3).drop_vars("label")
    assert {t.name for t in figures.random_trajectories(ds).data} == {"samples"}


def test_forty_classes_are_told_apart_by_colour_and_symbol():
    assert len({(class_colour(c), class_symbol(c)) for c in range(40)}) == 40


# the page


def test_the_page_needs_nothing_beside_it(page):
    outside = body_without_code(page)
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', outside)
    assert "@import" not in page
    assert "url(" not in re.findall(r"<style>(.*?)</style>", page, re.S)[0]


def test_the_page_holds_one_picture_for_each_probe_and_its_number(page):
    assert set(NEEDS) <= set(embedded_figures(page))
    for text in re.findall(r"<figure .*?</figure>", page, re.S):
        assert text.count('class="how"') == 1
        assert 'class="number"' in text


def test_equal_datasets_give_equal_bytes(tmp_path, ds):
    paths = [write_report(ds.copy(deep=True), tmp_path / name / "r.html") for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_paper_figures_are_pdf_and_png_with_embedded_fonts_and_equal_bytes(tmp_path):
    ds = synthetic_dataset(n_samples=2, probes=["coupling"])
    for name in "ab":
        write_report(ds, tmp_path / "r.html", figures_dir=tmp_path / name)
    names = {p.name for p in (tmp_path / "a").iterdir()}
    assert names == {f"{n}.{e}" for n in (*GRIDS, "diagonal_energy") for e in ("pdf", "png")}
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)
    pdf = (tmp_path / "a" / "diagonal_energy.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.parametrize("probes", [[], *[[p] for p in PROBES]])
def test_any_subset_of_probes_gives_a_page_that_says_what_is_missing(probes):
    page = render_page(synthetic_dataset(probes=probes, n_samples=2))
    for probe in (p for p in PROBES if p not in ("cushion", "robustness")):  # those have no place kept for them
        assert (f"captured without the probe &#39;{probe}&#39;" in page) == (probe not in probes)
    expected = {name for name, probe in NEEDS.items() if probe in probes}
    assert expected <= set(embedded_figures(page))


def test_a_dataset_of_nan_alone_shows_no_number():
    ds = synthetic_dataset(n_samples=2)
    for name, array in ds.data_vars.items():
        if array.dtype.kind == "f" and name != "num_images":
            ds[name] = array * np.nan
    assert not embedded_figures(render_page(ds))


def test_a_single_sample_has_no_standard_error():
    page = render_page(synthetic_dataset(n_samples=1, probes=["trajectory"]))
    numbers = re.findall(r'<p class="number">(.*?)</p>', page)
    assert numbers
    assert not any("±" in n for n in numbers)


def test_an_incomplete_store_is_announced(ds):
    assert "This capture is not complete" in render_page(ds.assign_attrs(complete=False))
    assert "This capture is not complete" not in render_page(ds)


def test_notes_recorded_with_the_data_stand_at_the_top(ds):
    page = render_page(ds.assign_attrs(notes=["images were compressed <again>"]))
    head = page[: page.index("<nav")]
    assert "images were compressed &lt;again&gt;" in head


def test_the_table_of_metrics_keeps_exact_values_for_the_copy(ds, page):
    cells = re.findall(r'data-exact="([^"]*)"', page)
    for row in metrics_table(ds):
        if row["value"] is not None:
            assert repr(row["value"]) in cells


def test_provenance_shows_every_attribute(ds, page):
    shown = page[page.index('id="provenance"') :]
    for name in ds.attrs:
        assert f">{name.replace('_', ' ')}</th>" in shown
    assert "coupling_uv  (sample=5" in shown


def test_user_text_never_becomes_markup():
    ds = synthetic_dataset(n_samples=4, num_classes=4, class_names=[EVIL, "<b>bold</b>", "a & b", "<!-- x"])
    ds.attrs |= {"model": EVIL, "data": "<!--", "command": "</script><script>alert(2)</script>"}
    ds.attrs["stream"][0] |= {"path": EVIL, "gate": "<i>", "skip": "identity"}
    page = render_page(ds)
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<!--" not in re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert "<i>" not in body_without_code(page)
    for content in embedded_figures(page).values():
        text = json.dumps([content["data"], content["layout"]])
        assert EVIL not in text  # plotly reads its own HTML in names, labels and hover texts
        assert "<b>bold" not in text


def test_legend_names_are_escaped_for_plotly_and_choices_are_not():
    ds = synthetic_dataset(n_samples=4, class_names=[EVIL, "b", "c", "d"])
    content = embedded_figures(render_page(ds))
    names = {t["name"] for t in content["random_trajectories"]["data"]}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in names
    assert any(EVIL in entry["label"] for entry in content["coupling_grid"]["menu"])


def test_json_in_a_script_element_cannot_close_it():
    value = {"x": "</script><!-- & \u2028"}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_numbers_travel_in_binary(page):
    z = embedded_figures(page)["coupling_grid"]["data"][0]["z"]
    assert z["dtype"] == "u1"
    assert len(base64.b64decode(z["bdata"])) == (5 * 6) ** 2


# the words


def test_plain_text_is_shortened_before_it_is_escaped():
    assert plain("<" * 60).count("&lt;") == 39
    assert plain("the first of many classes", 13) == "the firs…sses"
    assert plain("two\nlines") == "two lines"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.95312, 0.0123, "0.953 ± 0.012"),
        (-2.5, 0.5, "−2.50 ± 0.50"),
        (1234.5, 67.8, "1234 ± 68"),
        (3.0, None, "3"),
        (0.123456, None, "0.1235"),
        (1.0, 0.0, "1 ± 0"),
        (float("nan"), None, "not defined"),
    ],
)
def test_a_value_is_rounded_to_its_error(value, error, text):
    assert with_error(value, error) == text


def test_the_interval_of_a_share_of_all_is_told_in_plain_numbers_below_the_tile():
    assert percent(1.0, 0.0, (0.8389, 1.0)) == "100.0 % (95 %: 84 to 100 %)"
    row = {
        "name": "nearest_mean_disagreement",
        "value": 0.0,
        "standard_error": None,
        "interval": (0.0, 0.0026),
        "n": 1500,
        "where": "last",
        "note": "",
    }
    section = Section("collapse", "", "", tiles=(("nearest_mean_disagreement", "off the nearest mean"),))
    (tile,) = tiles([row], [section])
    assert tile.value == "0.0 %"
    assert tile.detail.startswith("95 %: 0 to 0.26 %, n = 1500")


def test_shares_are_per_cent_and_have_no_error_at_the_ends():
    assert percent(0.98, 0.008) == "98.0 % ± 0.8 %"
    assert percent(0.0, 0.0) == "0.0 %"
    assert short(12345.6) == "12346"


def test_equal_findings_of_two_places_are_said_once():
    ds = synthetic_dataset(probes=["features"])
    said = sentences(metrics_table(ds), NC34)
    assert len(said) == 2
    twice = [r | {"where": w} for r in metrics_table(ds) if r["name"] == "self_duality" for w in ("A", "B")]
    (one,) = sentences(twice, NC34)
    assert one.endswith("A and B.")


def test_chance_level_joins_the_sentence_of_the_energy(ds):
    (sentence,) = sentences(metrics_table(ds), ALIGNMENT)
    assert "0.167 by chance" in sentence


def test_the_drawing_has_one_branch_for_each_block_and_marks_projections(ds):
    drawing = stream_svg(ds.attrs["stream"])
    assert drawing.count('class="branch"') == 10
    assert drawing.count('class="skip projection"') == 1
    assert drawing.count('class="state"') == 11
    assert stream_svg([]) == ""


# bad input


def test_something_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"got dict, expected an xarray.Dataset"):
        write_report({}, tmp_path / "r.html")  # type: ignore[arg-type]


def test_a_path_that_cannot_be_written_is_named(tmp_path, ds):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file"):
        write_report(ds, tmp_path / "file" / "r.html")


def test_the_licence_of_the_embedded_library_is_shipped():
    static = Path(figures.__file__).parent.parent / "static"
    (library,) = static.glob("plotly-*.min.js")
    licence = library.with_name(library.name.replace(".min.js", ".LICENSE.txt"))
    assert "MIT License" in licence.read_text(encoding="utf-8")


def test_rows_of_a_monitor_may_count_steps():
    rows = [{"step": k, "loss": 2.0 - k / 100, "within_class_variability": 1.0} for k in (0, 50, 100)]
    ds = synthetic_dataset().assign_attrs(training=rows)
    figure = ds.resdyn.figure("training_collapse")
    assert list(figure.data[0].x) == [0, 50, 100]
    assert figure.layout.xaxis.title.text == "steps done"


def test_a_prepared_link_is_not_written_through(tmp_path):
    (tmp_path / "theirs").write_text("kept")
    for name in (".report.html.partial", "report.html.partial", "report.html"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    write_report(synthetic_dataset(probes=["trajectory"]), tmp_path / "report.html")
    assert (tmp_path / "theirs").read_text() == "kept"
    assert not (tmp_path / "report.html").is_symlink()


def test_infinite_values_are_shown_as_such(tmp_path):
    ds = synthetic_dataset(n_samples=4)
    ds["singular_values"][:3, :, ds.sizes["class"] :] = 0.0
    page = write_report(ds, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "3 of 4 samples infinite" in page
    assert "∞" in page
    both = write_comparison([ds, synthetic_dataset(n_samples=4)], tmp_path / "c.html").read_text(encoding="utf-8")
    assert "3 of 4 samples infinite" in both
