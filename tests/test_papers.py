"""The papers' framework: verdicts, results on disk, every experiment at scale tiny, the page, the command."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from resdyn.cli.app import run
from resdyn.cli.paper import paper as paper_command
from resdyn.errors import InputError
from resdyn.models import weights_hash
from resdyn.papers import (
    Claim,
    Number,
    as_json,
    compare,
    get_paper,
    names,
    pictures,
    results_of,
    run_experiment,
    write_page,
)
from resdyn.papers.case import Case
from resdyn.papers.claims import VERDICTS, estimate_of, rule_of
from resdyn.papers.comparison import headline, same_name_other_weights, verdict_counts
from resdyn.papers.residual_alignment.boundary import growth_fits
from resdyn.papers.residual_alignment.networks import main_cases
from resdyn.papers.residual_alignment.ra2 import vector_counts
from resdyn.papers.results import Result, load_results, save_result
from resdyn.training import Recipe

RA = get_paper("residual_alignment")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all experiments: networks and measurements are made once."""
    return tmp_path_factory.mktemp("papers")


@pytest.mark.parametrize(
    ("rule", "value", "error", "paper", "verdict"),
    [
        ({"at_least": 0.5}, 0.5, None, "aligned", "agrees"),
        ({"at_least": 0.5}, 0.49, 0.3, "aligned", "undecided"),
        ({"at_least": 0.5}, 0.49, 0.001, "aligned", "disagrees"),
        ({"at_least": 0.0, "errors": 2}, 0.1, 0.06, "positive", "undecided"),
        ({"at_least": 0.0, "errors": 2}, 0.1, 0.04, "positive", "agrees"),
        ({"at_most": 0.1}, 0.05, None, "none", "agrees"),
        ({"at_most": 0.1, "errors": 1}, 0.05, 0.06, "none", "undecided"),
        ({"within": 0.1}, 1.05, None, 0.992, "agrees"),
        ({"within": 0.1}, 1.2, None, 0.992, "disagrees"),
    ],
)
def test_a_verdict_follows_from_the_number_by_the_rule(rule, value, error, paper, verdict):
    claim = Claim("it is so", "figure 1", paper, "x", rule_of(rule, paper))
    found, why = claim.judge(Number(value, error, n=100), "small")
    assert found == verdict
    assert str(claim.rule) in why


def test_what_was_not_measured_or_only_at_scale_tiny_is_not_run():
    claim = Claim("it is so", "figure 1", 1.0, "x", rule_of({"within": 0.1}, 1.0))
    assert claim.judge(None, None)[0] == "not run"
    assert claim.judge(Number(None, note="all triplets failed"), "small")[0] == "not run"
    assert claim.judge(Number(1.0), "tiny")[0] == "not run"
    assert claim.judge(Number(1.0), "paper")[0] == "agrees"


def test_a_single_value_is_no_evidence_where_the_rule_asks_for_errors():
    claim = Claim("it is so", "figure 1", "positive", "x", rule_of({"at_least": 0.0, "errors": 2}, "positive"))
    assert claim.judge(Number(0.1), "small")[0] == "undecided"
    assert claim.judge(Number(0.1, 0.01, n=3), "small")[0] == "agrees"


@pytest.mark.parametrize("rule", [{}, {"at_least": 1, "at_most": 2}, {"near": 1}, {"at_least": 1, "eroors": 2}])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(InputError, match="expected one of at_least"):
        rule_of(rule, 1.0)


def test_a_distance_from_words_is_refused():
    content = {"claim": "c", "where": "w", "paper": "aligned", "number": "x", "rule": {"within": 1}}
    with pytest.raises(InputError, match="no number of the paper"):
        Claim.of(content)


def test_a_number_is_the_mean_of_what_is_finite():
    number = Number.of([1.0, 3.0, np.nan], "seeds")
    assert (number.value, number.n, number.over) == (2.0, 2, "seeds")
    assert number.spread == pytest.approx(2**0.5, rel=1e-4)
    assert number.error == pytest.approx(1.0)
    assert Number.of(np.nan) == Number(None, n=0, note="not measured")
    assert Number.of(0.123456789).value == 0.12346


def result(path, scale="small", null=False, **numbers):
    made = Result("residual_alignment", "ra4", scale, path / f"ra4.{scale}{'.null' if null else ''}.json", null)
    made.numbers = {key.replace("__", "."): Number(value) for key, value in numbers.items()}
    save_result(made)
    return made


def test_results_come_back_and_later_folders_win(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    result(first, x=1.0)
    result(second, x=2.0)
    (found,) = load_results([first, second, tmp_path / "absent"], "residual_alignment")
    assert found.numbers == {"x": Number(2.0)}
    assert load_results([first], "another_paper") == []


def part_of(path, part, **numbers):
    made = Result("residual_alignment", "ra4", "paper", path / f"ra4.paper.{part}.json", part=[part])
    made.numbers = {f"{part}.{key}": Number(value) for key, value in numbers.items()}
    save_result(made)


def test_a_run_for_some_networks_stands_beside_those_for_others(tmp_path):
    result(tmp_path, "small", type1__mnist__slope=0.5, type2__mnist__slope=0.6)
    part_of(tmp_path, "type1.mnist", slope=0.9)
    part_of(tmp_path, "type1.cifar10", slope=1.0)
    (row,) = [row for row in compare(RA, load_results([tmp_path], RA.name)) if row.experiment.name == "ra4"]
    found = {c.claim.number: (c.number.value, c.scale) for c in row.claims if c.number is not None}
    assert found["type1.mnist.slope"] == (0.9, "paper")
    assert found["type1.cifar10.slope"] == (1.0, "paper")
    assert found["type2.mnist.slope"] == (0.6, "small")


def test_of_two_runs_of_one_scale_that_measure_a_number_the_later_folder_s_counts(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    result(first, "paper", type1__mnist__slope=0.5)
    part_of(first, "type1.mnist", slope=0.6)
    result(second, "paper", type1__mnist__slope=0.7)
    (row,) = [row for row in compare(RA, load_results([first, second], RA.name)) if row.experiment.name == "ra4"]
    assert [c.number.value for c in row.claims if c.claim.number == "type1.mnist.slope"] == [0.7]


def test_an_experiment_runs_for_the_networks_asked_for(tmp_path):
    found = run_experiment(RA, "ra1", "tiny", tmp_path, quiet=True, networks=["type1.digits"])
    assert {key.rsplit(".", 1)[0] for key in found.numbers} == {"type1.digits"}
    assert found.path.name == "ra1.tiny.type1.digits.json"
    (again,) = load_results([tmp_path / "results"], RA.name)
    assert again.part == ["type1.digits"]


def test_networks_that_an_experiment_does_not_have_are_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match=r"got the network .type1.digit., expected one of .* Did you mean"):
        run_experiment(RA, "ra1", "tiny", tmp_path, quiet=True, networks=["type1.digit"])
    for name in ("skip", "theory"):
        with pytest.raises(InputError, match=f"the experiment '{name}', which needs all of its own"):
            run_experiment(RA, name, "tiny", tmp_path, quiet=True, networks=["type1.digits"])
    assert not list(tmp_path.iterdir())


def test_vectors_of_singular_values_at_rounding_are_not_compared():
    """Type 1 trained for 500 epochs on CIFAR-10 has four values above rounding, and nine classes less one."""
    values = np.full((2, 4, 12), 1e-8)
    values[0, :, :4] = [4.0, 3.0, 2.0, 1.0]
    values[1] = np.linspace(2, 1, 12)
    ds = xr.Dataset(
        {
            "singular_values": (("sample", "block", "rank"), values.astype(np.float32)),
            "singular_converged": (("sample", "block", "rank"), np.ones(values.shape, bool)),
            "state_size": ("depth", [512] * 5),
        },
        {"block": np.arange(4)},
        {"class_names": [str(c) for c in range(10)]},
    )
    assert vector_counts(ds) == [4, 9]


def test_a_foreign_file_among_the_results_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(InputError, match="is not the result of a paper's experiment"):
        load_results([tmp_path], "residual_alignment")


def test_the_largest_scale_speaks(tmp_path):
    key = "type1__cifar10__slope"
    results = [
        result(tmp_path, "tiny", **{key: 0.1}),
        result(tmp_path, "paper", **{key: 0.99}),
        result(tmp_path, **{key: 5.0}),
    ]
    (row,) = [row for row in compare(RA, results) if row.experiment.name == "ra4"]
    assert (row.claims[0].scale, row.claims[0].number) == ("paper", Number(0.99))


def first_claim(results):
    return next(row for row in compare(RA, results) if row.experiment.name == "ra4").claims[0]


def test_a_claim_agrees_only_beside_its_null(tmp_path):
    key = "type1__cifar10__slope"
    ours, other = result(tmp_path, **{key: 0.99}), result(tmp_path, null=True, **{key: 0.2})
    alone, beside = first_claim([ours]), first_claim([ours, other])
    assert (alone.verdict, beside.verdict) == ("undecided", "agrees")
    assert "--null" in alone.why
    assert beside.null == Number(0.2)
    assert first_claim([ours, result(tmp_path, null=True, **{key: 1.01})]).verdict == "undecided"
    assert first_claim([ours, result(tmp_path, "paper", null=True, **{key: 0.2})]).verdict == "undecided"


def test_a_null_without_a_value_is_no_null(tmp_path):
    key = "type1__cifar10__slope"
    empty = result(tmp_path, null=True, **{key: None})
    found = first_claim([result(tmp_path, **{key: 0.99}), empty])
    assert (found.verdict, found.null) == ("undecided", None)
    assert "has not been measured" in found.why


def test_a_test_without_power_does_not_refute():
    content = {"claim": "c", "where": "w", "paper": "some", "number": "x", "rule": {"at_least": 1}}
    assert Claim.of(content).judge(Number(0.0), "small")[0] == "disagrees"
    verdict, why = Claim.of(content | {"lacks_power": "too few images"}).judge(Number(0.0), "small")
    assert (verdict, "too few images" in why) == ("undecided", True)


def test_a_null_of_another_kind_is_named_in_the_reason():
    compared = compare(get_paper("identity_connections"), results_of(get_paper("identity_connections"), Path("none")))
    (row,) = [row for row in compared if row.experiment.name == "equivalence"]
    assert row.experiment.null_name == "the twin that decays to zero"
    claim = Claim("it is so", "figure 1", "small", "x", rule_of({"at_most": 0.1}, "small"))
    assert claim.judge(Number(0.01), "small", Number(0.02), row.experiment.null_name)[1].count("the twin that decays")


def test_no_rule_passes_its_null():
    """Every claim, judged with the untrained network's number in place of ours; and with what chance gives."""
    for name in names():
        paper = get_paper(name)
        for row in compare(paper, load_results([paper.folder / "results"], name)):
            for c in row.claims:
                if c.null is not None:
                    assert c.claim.judge(c.null, c.scale, c.null)[0] != "agrees", c.claim.number
                if c.claim.null is not None:
                    assert c.claim.judge(Number(c.claim.null.value), "paper")[0] != "agrees", c.claim.number
                if c.verdict == "agrees":
                    reason = row.experiment.no_null or c.claim.no_null
                    assert reason or c.null is not None or c.claim.null is not None, c.claim.number


def test_a_disagreement_clears_its_error():
    for name in names():
        for row in compare(get_paper(name), load_results([get_paper(name).folder / "results"], name)):
            for c in (c for c in row.claims if c.verdict == "disagrees"):
                assert c.claim.rule.on(estimate_of(c.number)) == "does not hold"


def test_the_headline_counts_by_scale_and_networks_of_one_name_are_compared(tmp_path):
    results = results_of(RA, tmp_path)
    compared = compare(RA, results)
    rows = headline(compared)
    assert sum(sum(counts.values()) for _, counts in rows) == sum(verdict_counts(compared).values())
    first, second = result(tmp_path), result(tmp_path, "paper")
    first.networks = second.networks = {"a": {"train_loss": 0.1}}
    assert same_name_other_weights([first, second]) == []
    second.networks = {"a": {"train_loss": 0.2}}
    assert same_name_other_weights([first, second]) == ["a: 2 different networks, of ra4 (small); of ra4 (paper)"]


def test_claims_of_one_training_say_so(tmp_path):
    made = result(tmp_path, type1__cifar10__slope=0.5)
    made.networks = {"a": {"train_loss": 0.1}}
    found = first_claim([made])
    assert found.few_seeds == "one seed"
    assert found.why.endswith("one seed")


def test_an_untrained_run_measures_the_network_as_it_was_drawn(tmp_path):
    null = run_experiment(RA, "accuracy", "tiny", tmp_path, quiet=True, null=True)
    assert null.path.name == "accuracy.tiny.null.json"
    case = main_cases("tiny")[0][1]
    drawn = case.build(case.images_of("train"))[0]
    assert null.networks[case.name]["weights_hash"] == weights_hash(drawn)


def test_every_paper_is_whole():
    for name in names():
        paper = get_paper(name)
        assert paper.experiments
        assert all(experiment.claims for experiment in paper.experiments.values())
        claims = [e.name + c.number + str(c.rule) for e in paper.experiments.values() for c in e.claims]
        assert len(set(claims)) == len(claims)
        committed = load_results([paper.folder / "results"], name)
        assert all(r.experiment in paper.experiments and r.scale != "tiny" for r in committed)
        assert all({"command", "commit", "seed", "machine"} <= set(r.provenance) for r in committed)
        assert all(r.path.stat().st_size < 1_000_000 for r in committed)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"expected one of residual_alignment.*Did you mean"):
        get_paper("residual_alignmnt")
    with pytest.raises(InputError, match="expected one of ra1"):
        RA.experiment("ra5")
    with pytest.raises(InputError, match="expected one of tiny, small, paper"):
        run_experiment(RA, "theory", "huge")


VARIANTS = (
    "skip_cifar10",
    "skip_convolutional",
    "precision_type1",
    "precision_convolutional",
)  # of experiments that are run here


@pytest.mark.parametrize("name", [name for name in RA.experiments if name not in VARIANTS])
def test_every_experiment_runs_at_scale_tiny(name, folder):
    found = run_experiment(RA, name, "tiny", folder, quiet=True)
    assert found.complete
    assert found.numbers
    assert all(number.value is not None for number in found.numbers.values())
    (again,) = [r for r in load_results([folder / "results"], RA.name) if r.experiment == name]
    assert again.numbers == found.numbers


def test_a_claim_names_a_number_that_its_experiment_makes(folder):
    """Numbers of claims end as those of the tiny run do: other networks and data, the same measures."""
    for result in load_results([folder / "results"], RA.name):
        made = {key.split(".")[-1] for key in result.numbers}
        claims = [(c.experiment or e.name, c) for e in RA.experiments.values() for c in e.claims]
        wanted = {claim.number.split(".")[-1] for name, claim in claims if name == result.experiment}
        assert wanted <= made, result.experiment


class Page(HTMLParser):
    """Counts what the page shows, and what it would fetch."""

    def __init__(self):
        super().__init__()
        self.verdicts, self.images, self.fetched = 0, 0, []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.verdicts += tag == "td" and "verdict" in (values.get("class") or "")
        self.images += tag == "img"
        source = values.get("src") or ""
        if source and not source.startswith("data:"):
            self.fetched.append(source)


def test_the_page_shows_every_claim_and_fetches_nothing(tmp_path):
    compared = compare(RA, results_of(RA, tmp_path))
    page = Page()
    page.feed(write_page(RA, compared, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.verdicts == sum(len(e.claims) for e in RA.experiments.values())
    assert page.images >= len(RA.experiments) - 1  # table 1 has none
    assert page.fetched == []


def test_a_table_of_the_paper_is_shown_as_one(tmp_path):
    compared = [row for row in compare(RA, results_of(RA, tmp_path)) if row.experiment.name == "accuracy"]
    text = write_page(RA, compared, tmp_path / "page.html").read_text(encoding="utf-8")
    for name in ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "ImageNette", "Type 1", "Type 2", "Type 3"):
        assert f"<th>{name}</th>" in text


def test_equal_results_make_equal_pages(tmp_path):
    compared = [row for row in compare(RA, results_of(RA, tmp_path)) if row.experiment.name in ("ra4", "skip")]
    first = write_page(RA, compared, tmp_path / "a.html").read_bytes()
    assert write_page(RA, compared, tmp_path / "b.html").read_bytes() == first


def test_the_command_lists_compares_and_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("resdyn.papers.write_page", lambda paper, compared, page: page.write_text(paper.name))
    folder = tmp_path / "work"
    paper_command(json=True)
    listed = json.loads(capsys.readouterr().out)["papers"]
    assert [row["name"] for row in listed] == list(names())
    page = tmp_path / "page.html"
    paper_command("residual_alignment", "theory", out=folder, page=page, json=True)
    (experiment,) = json.loads(capsys.readouterr().out)["experiments"]
    assert experiment["name"] == "theory"
    assert {"claim", "paper", "ours", "scale", "verdict", "why"} <= set(experiment["claims"][0])
    assert page.read_text() == "residual_alignment"
    paper_command("residual_alignment", out=folder)
    assert "Type 1 on MNIST" in capsys.readouterr().out
    paper_command()
    assert "residual_alignment" in capsys.readouterr().out
    with pytest.raises(InputError, match="without a paper"):
        paper_command(page=page)


def test_as_json_holds_every_claim():
    content = as_json(compare(RA, results_of(RA)))
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    verdicts = {claim["verdict"] for row in content["experiments"] for claim in row["claims"]}
    assert verdicts <= set(VERDICTS)


def test_a_case_has_a_name_of_its_own_and_builds_the_same_weights():
    case = Case("mlp", "digits", Recipe(epochs=1, seed=4), images=20, classes=3, options=(("width", 8), ("depth", 2)))
    data = case.images_of("train")
    assert len(data) == 20
    assert data.class_names == ("0", "1", "2")
    first, second = case.build(data)[0], case.build(data)[0]
    assert all((a == b).all() for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.classifier.out_features == 3
    assert Case("mlp", "digits", Recipe(epochs=1, seed=5)).name != Case("mlp", "digits", Recipe(epochs=2, seed=5)).name


def test_growth_is_told_from_its_kind():
    """prod (1 + 1/i) is a line in depth, prod (1 + s) an exponential."""
    i = np.arange(1, 17)
    inverse, equal = growth_fits(1 / i[None]), growth_fits(np.full((1, 16), 0.5) + 1e-9 * i)
    assert inverse["growth"][0] == pytest.approx(1)
    assert inverse["log_growth"][0] < 0.995
    assert equal["log_growth"][0] == pytest.approx(1)
    assert equal["growth"][0] < 0.9
    assert inverse["inverse_s"][0] == pytest.approx(1)


def test_pictures_are_drawn_from_plain_json():
    row = pictures.series("a", [1, 2, 3], [1.0, np.nan, 2.0], [0.1, 0.1, 0.1])
    drawn = [
        pictures.lines("t", "w", [row], "x", "y"),
        pictures.paths("t", "w", np.zeros((2, 3, 2)), [0, 1]),
        pictures.grid("t", "w", np.random.default_rng(0).standard_normal((2, 2, 3, 3)), [4, 5]),
        pictures.row("t", "w", {"C = 2": np.eye(3), "C = 4": np.ones((3, 3))}),
        pictures.lines("t", "w", [row], "x", "y", log=True),
    ]
    for picture in json.loads(json.dumps(drawn, allow_nan=False)):
        assert pictures.draw(picture).startswith("data:image/svg+xml;base64,")
        assert pictures.draw(picture) == pictures.draw(picture)


def test_grids_of_earlier_results_are_drawn_as_those_of_today():
    matrices = np.random.default_rng(0).standard_normal((2, 2, 3, 3))
    packed = pictures.grid("t", "w", matrices, [4, 5])
    cells = pictures._cells(packed, 6)
    earlier = {k: v for k, v in packed.items() if k != "packed"} | {"cells": base64.b64encode(cells.tobytes()).decode()}
    assert cells.shape == (6, 6)
    assert pictures.draw(packed) == pictures.draw(earlier)


def test_logarithmic_axes_have_numbers():
    picture = pictures.lines("t", "w", [pictures.series("a", [1, 2], [1e-3, 10.0])], "x", "y", log=True)
    drawn = base64.b64decode(pictures.draw(picture).split(",", 1)[1]).decode()
    assert "0.01" in drawn
    assert "$" not in drawn


def test_results_of_ones_own_are_said_to_stand_in_place_of_the_committed_ones(tmp_path, capsys):
    own = tmp_path / "results" / "ra4.small.json"
    own.parent.mkdir()
    own.write_bytes((RA.folder / "results" / "ra4.small.json").read_bytes())
    assert run(["paper", "residual_alignment", "--out", str(tmp_path)]) == 0
    assert "of your own runs, in place of the results that come with resdyn: ra4 (small)" in capsys.readouterr().err
    assert run(["paper", "residual_alignment", "--out", str(tmp_path / "nothing")]) == 0
    assert "of your own runs" not in capsys.readouterr().err
