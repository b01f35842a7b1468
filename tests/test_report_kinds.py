"""Mistakes of a kind that a report once made: each is looked for everywhere, not only where it was found."""

from __future__ import annotations

import dataclasses
import json
import re
import time

import jinja2.meta
import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

from resdyn._format import percent
from resdyn.cli.app import run as command
from resdyn.metrics import summarize, verdicts
from resdyn.metrics.summary import metrics_table
from resdyn.report import figures, render_page
from resdyn.report.comparison.page import comparison_page, opened
from resdyn.report.comparison.runs import Run
from resdyn.report.figures.lyapunov import lyapunov_exponents
from resdyn.report.figures.stiffness import stiffness_index
from resdyn.report.page import STATIC
from resdyn.report.sections import all_figures, paper_figures
from resdyn.report.sentences import sentences
from resdyn.report.theme import log_ticks, paper_style
from synthetic import synthetic_dataset

TEMPLATES = STATIC.parent / "templates"


@pytest.fixture(scope="module")
def ds():
    return synthetic_dataset(n_samples=5, n_blocks=10, angle=0.2)


def text_of(page):
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.S)


# templates


@pytest.mark.parametrize("name", ["page.html.jinja", "comparison.html.jinja"])
def test_no_template_asks_for_a_method_where_it_means_a_value(name):
    source = (TEMPLATES / name).read_text()
    asked = set(re.findall(r"\b\w+\.(\w+)\b(?!\()", " ".join(re.findall(r"\{[{%](.*?)[%}]\}", source, re.S))))
    methods = {method for kind in (dict, list, str, tuple) for method in dir(kind)} - {"title", "index"}  # keys
    assert asked & methods == set()
    assert jinja2.meta.find_undeclared_variables(jinja2.Environment().parse(source))


def test_only_differences_beyond_two_standard_errors_are_bold():
    first, second = synthetic_dataset(n_samples=5), synthetic_dataset(n_samples=5)
    rng = np.random.default_rng(0)
    first["noise_amplitude"] = ("sample", 1 + 0.1 * rng.normal(size=5))
    second["noise_amplitude"] = ("sample", 1 + 0.1 * rng.normal(size=5))
    second["gradient_amplitude"] = ("sample", 9 + 0.1 * rng.normal(size=5))
    page = text_of(comparison_page(opened([first, second], ["one", "two"])))
    rows = {row[: row.index("</td>")]: row for row in page.split('<tr><td data-label="metric">')[1:]}
    bold = {title for title, row in rows.items() if "<b>" in row.split('data-label="how to read it"')[0]}
    assert "the same along gradients" in bold
    assert "smallest noise that flips the answer" not in bold
    assert len(bold) < 5


# figures for print


def test_figures_for_print_show_plain_numbers_and_nothing_is_cut(ds):
    drawn = dict(paper_figures(ds.assign_attrs(training=[{"epoch": k, "loss": 10.0**-k} for k in range(4)])))
    assert "collapse_variability" in drawn
    for name, figure in drawn.items():
        with paper_style():
            FigureCanvasAgg(figure).draw()
            renderer = figure.canvas.get_renderer()
            for axis in figure.axes:
                labels = [*axis.get_xticklabels(), *axis.get_yticklabels(), axis.title]
                assert not [label.get_text() for label in labels if "$" in label.get_text()], name
                assert axis.get_yscale() != "log" or any(label.get_text() for label in axis.get_yticklabels()), name
                box = axis.title.get_window_extent(renderer)
                assert box.x0 >= -1, name
                assert box.x1 <= figure.bbox.x1 + 1, name
            widest = max(axis.get_position().width for axis in figure.axes)
            assert widest > 0.35, name


def test_the_sign_in_the_text_is_the_sign_in_the_figure(ds):
    said = sentences(metrics_table(ds), (("stiffness_index_flattened", "Index"),))
    drawn = stiffness_index(ds)
    assert "Index: −" in said[0]
    assert all(tick.startswith("−") for tick in drawn.layout.yaxis.ticktext)
    assert [float(tick[1:]) for tick in drawn.layout.yaxis.ticktext] == pytest.approx(drawn.layout.yaxis.tickvals)
    assert drawn.layout.yaxis.title.text == "max Re λ / min Re λ"
    mixed = ds.copy(deep=True)
    mixed["smallest_real"][:, :3] *= -1
    assert stiffness_index(mixed).layout.yaxis.title.text == "|max Re λ / min Re λ|"
    assert stiffness_index(mixed).layout.yaxis.ticktext is None
    assert all("−%{y" in trace.hovertemplate for trace in drawn.data)


# words


def test_the_reason_of_a_missing_value_is_beside_it_and_not_beside_another():
    rows = [
        {"name": "a", "value": 2.0, "standard_error": 0.1, "n": 3, "where": "x", "note": "fine", "missing": ""},
        {
            "name": "b",
            "value": None,
            "standard_error": None,
            "n": 0,
            "where": "x",
            "note": "why",
            "missing": "undefined",
        },
    ]
    assert sentences(rows, (("a", "One"), ("b", "another"))) == [
        "One: 2.00 ± 0.10 (n = 3); another: undefined (why) — x."
    ]


def test_what_was_measured_and_has_no_value_is_undefined(ds):
    zero = ds.copy()
    zero["smallest_real"] = 0 * ds["smallest_real"]
    missing = {metric.name: metric.missing for metric in summarize(zero) if metric.value is None}
    notes = {metric.name: metric.note for metric in summarize(zero)}
    assert "where 0 is an eigenvalue and no real part is negative" in notes["stiffness_size"]
    assert "0 is an eigenvalue" not in {metric.name: metric.note for metric in summarize(ds)}["stiffness_size"]
    assert missing["stiffness_index_flattened"] == missing["stiffness_size"] == "undefined"
    assert "not measured" not in {metric.missing for metric in summarize(zero)}


def test_every_section_that_reads_a_jacobian_agrees_with_the_head_of_the_page(ds):
    stamped = ds.copy()
    for name, probe, kind in (("singular_values", "singular", "gated"), ("largest_real", "spectrum", "block")):
        stamped[name].attrs |= {"probe": probe, "kind": kind}
    page = text_of(render_page(stamped))
    assert "gated (singular); block (spectrum)" in page
    assert "read as block" in page


def test_chance_is_shown_wherever_a_number_is(ds, tmp_path, capsys):
    page = text_of(render_page(ds))
    table = page[page.index('id="metrics-table"') :]
    assert "by chance" in table
    for metric in summarize(ds):
        if str(metric.chance):
            assert f">{metric.chance}<" in table, metric.name
    compared = text_of(comparison_page(opened([ds, ds.assign_attrs(model="other")], ["one", "two"])))
    assert "<th>by chance</th>" in compared


def test_a_verdict_shows_what_its_number_has_to_reach(ds):
    cards = re.findall(r"<small>(.*?)</small>", text_of(render_page(ds)))
    asked = [f for verdict in verdicts(ds) if (f := verdict.decisive).bound is not None]
    assert len(asked) > 3
    assert sum("asked" in card for card in cards) == len(asked)
    assert any(card.startswith("at most 5.0 % asked") for card in cards)


def test_percent_is_written_in_one_way(ds):
    assert percent(0.9798, digits=2) == "97.98 %"
    assert re.findall(r"\d%", re.sub(r"style=.*?>", "", text_of(render_page(ds)))) == []


@pytest.mark.parametrize("name", ["compare", "paper", "capture", "analyze", "inspect", "report", "prune", "demo"])
def test_help_names_the_arguments_as_their_description_does(name, capsys):
    assert command([name, "--help"]) == 0
    usage = capsys.readouterr().out.partition("\n\n")[0]
    assert "ARGS" not in usage


# sizes


@pytest.mark.parametrize(
    "size",
    [
        {"n_blocks": 100, "n_samples": 2, "num_classes": 3},
        {"num_classes": 300, "n_blocks": 4, "n_samples": 2, "rank": 8, "stage_sizes": (400, 320)},
        {"n_blocks": 1, "n_samples": 3},
        {"num_classes": 1, "n_samples": 3, "probes": ("singular", "coupling", "spectrum", "robustness")},
        {"n_samples": 500, "n_blocks": 3, "num_classes": 3, "rank": 4},
    ],
    ids=["100 blocks", "300 classes", "one block", "one class", "500 samples"],
)
def test_a_page_of_any_size_stays_small(size):
    started = time.monotonic()
    page = render_page(synthetic_dataset(**size))
    assert len(page) < 10e6
    assert json.loads(re.search(r'id="themes">(.*?)</script>', page)[1])
    assert time.monotonic() - started < 120


def test_the_page_runs_its_own_scripts_alone(ds):
    page = render_page(ds)
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', page)[1]
    assert "default-src &#39;none&#39;" in policy
    assert policy.count("sha256-") == 2
    script = policy[policy.index("script-src") :].partition(";")[0]
    assert "unsafe" not in script


# parts


def test_attention_and_feed_forward_have_lines_and_names_of_their_own():
    ds = synthetic_dataset(n_samples=3, n_blocks=24, num_classes=2)
    parts = [{"branch_modules": ["ln_1", "attn"]}, {"branch_modules": ["ln_2", "mlp"]}] * 12
    stream = [row | part | {"path": f"h.{k // 2}"} for k, (row, part) in enumerate(zip(ds.attrs["stream"], parts))]
    ds = ds.assign_attrs(stream=stream)
    places = [metric.where for metric in summarize(ds) if metric.name == "inverse_scaling_slope"]
    assert len(places) == 4
    assert sum("attention" in place for place in places) == 2
    drawn = figures.inverse_scaling(ds)
    assert "h.0, attention" in str(drawn.data[1].text[0])
    assert sum("attention" in (trace.name or "") for trace in drawn.data) == 2


def test_a_line_across_stages_says_so():
    metric = next(m for m in summarize(synthetic_dataset(n_blocks=8)) if m.name == "inverse_scaling_slope")
    assert "across stages" in metric.where
    assert dataclasses.asdict(metric)["where"] == metric.where


def test_every_axis_has_a_title(ds):
    ds = ds.copy()
    ds.attrs["training"] = [
        {"epoch": e, "collinearity": 0.1 * e, "within_class_variability": 1.0, "loss": 0.5} for e in range(3)
    ]
    found = all_figures(ds)
    assert {"collapse_decision", "training_alignment", "training_collapse"} <= set(found)
    for name, planned in found.items():
        drawn = planned.draw(ds)
        layout = {} if drawn is None else drawn.to_plotly_json()["layout"]
        axes = {key: axis for key, axis in layout.items() if re.fullmatch(r"[xy]axis\d*", key)}
        assert [key for key, axis in axes.items() if not axis.get("title", {}).get("text")] == [], name
        printed = None if planned.paper is None else planned.paper(ds)
        for axis in [] if printed is None else printed.axes:
            bar = axis.get_label() == "<colorbar>"
            assert axis.get_ylabel(), name
            assert axis.get_xlabel() or bar, name


@pytest.mark.parametrize("values", [(1.02, 1.9), (0.98, 1.4), (3.0, 29.0), (1e-4, 3e-4), (2.0, 2.0)])
def test_a_logarithmic_axis_below_a_decade_has_ticks_among_its_values(values):
    found = log_ticks(values)
    inside = [tick for tick in found["tickvals"] if values[0] * 0.999 <= tick <= values[1] * 1.001]
    assert len(inside) >= (2 if values[1] > values[0] else 1)


@pytest.mark.parametrize("values", [(3.0, 9.0), (3.0, 80.0), (2.0, 4e5)])
def test_every_tick_of_an_axis_of_negative_values_has_its_sign(values):
    found = log_ticks(values, "−")
    assert [text for text in found["ticktext"] if not text.startswith("−")] == []
    assert len([tick for tick in found["tickvals"] if values[0] <= tick <= values[1]]) >= 2


def test_one_block_has_no_pairs_and_its_page_says_one_block():
    alone = synthetic_dataset(n_blocks=1)
    assert figures.diagonal_energy(alone) is figures.diagonal_energy_paper(alone) is None
    assert "through the one residual block of" in render_page(alone)


def test_a_mean_of_exponents_ends_where_the_smallest_are_missing():
    values = np.array([[0.3, -0.1, -0.2], [0.1, -0.3, np.nan]])
    ds = xr.Dataset({"lyapunov_exponent": (("sample", "rank"), values)}, {"sample": [0, 1]})
    mean = lyapunov_exponents(ds).data[-1]
    np.testing.assert_allclose(mean.y, [0.2, -0.2, np.nan])


def test_a_comparison_says_means_over_samples_only_of_what_has_them():
    runs = [synthetic_dataset(n_samples=4, seed=seed) for seed in (0, 1)]
    page = comparison_page([Run(str(n), ds) for n, ds in enumerate(runs)])
    captions = dict(re.findall(r'<figure id="(\w+)".*?<p class="how">(.*?)</p>', page, re.S))
    assert "Means over samples" in captions["singular_growth" if "singular_growth" in captions else "collinearity"]
    assert "Means over samples" not in captions["collapse_variability"]


def test_a_long_axis_title_of_paths_has_two_lines():
    ds = synthetic_dataset(n_samples=6)
    ds["states"] = ds["states"] + 100 * xr.DataArray(np.arange(6.0), dims="sample")
    title = figures.principal_trajectories(ds).layout.xaxis.title.text
    assert title.partition("<br>")[2].startswith("samples centred: ")
    assert all(len(line) < 45 for line in title.split("<br>"))
