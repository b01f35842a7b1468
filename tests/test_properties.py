"""Verdicts on properties: a stated rule, chance, and the same network untrained, whose properties never hold."""

from __future__ import annotations

import dataclasses
import html
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import resdyn
from resdyn.errors import InputError
from resdyn.metrics import Chance, Criterion, Metric, conclusion, summarize, verdicts
from resdyn.metrics.properties import explained
from resdyn.metrics.properties.concluding import properties_of
from resdyn.metrics.properties.judged import Property, find_verdict
from resdyn.metrics.summary import by_chance, descriptions
from resdyn.phenomena import phenomena
from resdyn.report import render_page
from resdyn.report.sentences import readable
from synthetic import synthetic_dataset

PROBES = "trajectory,singular(k=5),coupling(k=4),features"
NUMBERS = [-1.0, 0.0, 0.02, 0.3, 0.5, 0.9, 1.0, 3.0, 40.0]
LENS = {"in_features": 3, "width": 8, "depth": 4, "classes": 2}
OF_TOKENS = "trajectory,singular(k=3),coupling(k=3)"


def untrained(kind, seed):
    """Small networks at initialisation, and inputs with labels that have nothing to do with them."""
    torch.manual_seed(seed)
    if kind == "mlp":
        return resdyn.nets.ResidualMLP(in_features=12, width=16, depth=7, classes=3).eval()
    if kind == "cnn":
        return resdyn.nets.cifar_resnet(8).eval()
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=3, n_embd=16, n_head=2, vocab_size=20, n_positions=8, bos_token_id=0, eos_token_id=0, use_cache=False
    )
    return transformers.GPT2LMHeadModel(config).eval()


def measured(kind, model):
    generator = torch.Generator().manual_seed(0)
    common = {"store": None, "samples": 2, "show_progress": False}
    if kind == "gpt":
        tokens = torch.randint(0, 20, (8, 6), generator=generator)
        return resdyn.capture(model, {"input_ids": tokens}, OF_TOKENS, position=-1, **common)
    shape = (12,) if kind == "mlp" else (3, 8, 8)
    inputs, labels = torch.randn(30, *shape, generator=generator), torch.arange(30) % 3
    probes = PROBES if kind == "mlp" else "trajectory,features"
    return resdyn.capture(model, (inputs, labels), probes, **common)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "gpt"])
def test_nothing_holds_of_an_untrained_network_beside_another_one(kind):
    model = untrained(kind, 0)
    runs = [measured(kind, model), measured(kind, resdyn.untrained_twin(model, 1))]
    for ds, null in itertools.permutations(runs, 2):
        found = verdicts(ds, null)
        assert found
        assert [v.of.name for v in found if v.verdict == "holds"] == []
    assert "does not show" in conclusion(found, True)


def test_without_an_untrained_network_nothing_holds_and_the_reason_says_so():
    found = verdicts(synthetic_dataset(n_samples=5, n_blocks=10))
    assert found
    assert {v.verdict for v in found} <= {"undecided", "does not hold"}
    line = next(v for v in found if v.of.name == "RA1")
    assert line.verdict == "undecided"
    assert "--null" in line.decisive.reason
    assert "no untrained network was measured" in conclusion(found, False)


def row(value, error=0.01, chance=None, name="a", where=None):
    chance = None if chance is None else Chance("", chance)
    return Metric(
        name, "a metric", value, error, 20, where, "", "", chance=chance, missing="" if value else "undefined"
    )


def asked(*criteria):
    return Property("P", "a property", "a claim", criteria, "a", "b")


def verdict_of(criterion, metrics, nulls):
    return find_verdict(asked(criterion), metrics, nulls)


CRITERIA = [
    Criterion("a", kind, bound, ideal=ideal, factor=factor)
    for kind, ideal in (("at_least", 1.0), ("at_most", 0.0))
    for bound in (0.1, 0.5)
    for factor in (None, 2.0)
]


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
def test_a_verdict_holds_only_of_what_is_beyond_both_nulls(criterion):
    sign = 1 if criterion.kind == "at_least" else -1
    for value, null, chance in itertools.product(NUMBERS, NUMBERS, NUMBERS):
        if verdict_of(criterion, [row(value, chance=chance)], [row(null)]).verdict == "holds":
            assert sign * value > sign * max(sign * criterion.bound, sign * null, sign * chance) * sign
        assert verdict_of(criterion, [row(value)], [row(value)]).verdict != "holds"
        assert verdict_of(criterion, [row(value)], None).verdict != "holds"


def test_a_metric_that_is_good_untrained_decides_nothing():
    found = verdict_of(Criterion("a", "at_least", 0.5), [row(0.948)], [row(0.999)])
    assert found.verdict == "undecided"
    assert "the untrained network has 0.999" in found.decisive.reason


def test_a_line_across_stages_is_no_evidence():
    where = "blocks 1-9 (1-based), across stages or parts"
    found = verdict_of(Criterion("a", "at_least", 0.5), [row(0.9, where=where)], [row(0.0, where=where)])
    assert found.verdict == "undecided"


def test_places_that_disagree_are_undecided():
    stages = [row(value, where=f"stage {k} (depths 0-3)") for k, value in enumerate((0.9, 0.1))]
    nulls = [dataclasses.replace(stage, value=0.0) for stage in stages]
    found = verdict_of(Criterion("a", "at_least", 0.5), stages, nulls)
    assert (found.verdict, [f.verdict for f in found.findings]) == ("undecided", ["holds", "does not hold"])


ODD = [None, -math.inf, math.inf, 0.0, 0.3, 0.9, 5.0]


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
def test_infinite_and_missing_values_of_network_null_and_chance_never_hold(criterion):
    sign = 1 if criterion.kind == "at_least" else -1
    for value, null, chance, error in itertools.product(ODD, ODD, ODD, (None, 0.0, 0.01, math.inf)):
        found = verdict_of(criterion, [row(value, error, chance)], [row(null)])
        assert "not measured" not in found.decisive.reason or value is None
        if found.verdict == "holds":
            assert all(number is not None and math.isfinite(number) for number in (value, null, error))
            beyond = [criterion.bound, null, *([chance] if chance is not None and math.isfinite(chance) else [])]
            assert sign * value >= max(sign * bound for bound in beyond)
            assert value != null


def test_the_rounding_of_a_bound_lets_nothing_pass_that_misses_it():
    rng = np.random.default_rng(0)
    for null, step in zip(rng.random(300), rng.normal(size=300) * 1e-4, strict=True):
        for criterion in (Criterion("a", "at_least", 0.01), Criterion("a", "at_most", 0.99, ideal=0.0)):
            value = criterion.beyond(null) + step
            held = verdict_of(criterion, [row(value, 1e-9)], [row(null, 1e-9)]).verdict == "holds"
            assert not held or (step > 0 if criterion.kind == "at_least" else step < 0)


def test_a_number_without_an_error_says_why():
    found = verdicts(synthetic_dataset(n_samples=1, n_blocks=10))
    (line,) = [verdict for verdict in found if verdict.of.name == "RA1"]
    assert "has no standard error, which the rule asks for (one sample: no standard error)" in line.decisive.reason


def test_a_criterion_without_a_row_leaves_its_place_undecided():
    pair = asked(Criterion("a", "at_least", 0.5), Criterion("b", "at_least", 0.5))
    places = [f"stage {k} (depths 0-3)" for k in (0, 1)]
    good = [row(0.9, name=name, where=where) for name, where in (("a", places[0]), ("a", places[1]), ("b", places[0]))]
    nulls = [row(0.0, name=name, where=where) for name in "ab" for where in places]
    assert find_verdict(pair, good[:1], nulls).verdict == "undecided"
    assert find_verdict(pair, good, nulls).verdict == "undecided"
    assert find_verdict(pair, [*good, row(0.9, name="b", where=places[1])], nulls).verdict == "holds"
    ds = synthetic_dataset(n_samples=5, n_blocks=10)
    overlaps = [name for name in ds.data_vars if name.startswith("overlap_")]
    (judged,) = [v for v in verdicts(ds.drop_vars(overlaps)) if v.of.name == "RA2"]
    assert [f.reason for f in judged.findings if "subspace" in f.metric.title] == [
        f"RA2 overlap of {side} subspaces across blocks: not measured" for side in ("left", "right")
    ]


def test_a_null_counts_at_the_place_of_the_number_alone():
    criterion = Criterion("a", "at_most", 1.0, ideal=0.0, where="mean")
    own = [row(0.2, where="mean over blocks")]
    assert verdict_of(criterion, own, [row(0.9, where="mean over blocks")]).verdict == "holds"
    elsewhere = verdict_of(criterion, own, [row(0.9, where="worst block")])
    assert elsewhere.verdict == "undecided"
    assert "no finite value there" in elsewhere.decisive.reason
    lines = [f"blocks {start}-9 (1-based), attention" for start in (1, 4)]
    moved = verdict_of(Criterion("a", "at_least", 0.5), [row(0.9, where=lines[0])], [row(0.1, where=lines[1])])
    assert moved.verdict == "holds"
    least = verdict_of(
        Criterion("a", "at_most", 0.5, ideal=0.0), [row(0.1, where="block 7")], [row(0.9, where="block 3")]
    )
    assert least.findings[0].null.value == 0.9


def test_a_transport_is_judged_beside_that_of_the_untrained_network():
    net, data = resdyn.nets.ResidualMLP(**LENS).eval(), torch.randn(6, 3)
    lenses = [
        resdyn.transport(model, data, show_progress=False).dataset for model in (net, resdyn.untrained_twin(net, 1))
    ]
    (found,) = verdicts(*lenses)
    assert found.of.name == "transport"
    assert {finding.metric.where for finding in found.findings} == {"depth 0", "depth 2", "depth 3"}
    assert all(finding.null.where == finding.metric.where for finding in found.findings)
    shares = [finding.metric.value for finding in found.findings]
    assert found.verdict != "holds"
    (other,) = verdicts(lenses[0].assign(transport=lenses[0]["transport"] * 0 + 1.0))
    assert other.verdict in ("does not hold", "undecided")
    assert all(0 <= share <= 1 for share in shares)
    with pytest.raises(InputError, match="got a null with to = logits"):
        verdicts(lenses[0], lenses[1].assign_attrs(to="logits"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"kind": "block"}, "kind"), ({"position": 3}, "position"), ({"complete": False}, "not finished")],
)
def test_a_null_of_another_measurement_is_refused(changes, message):
    ds = synthetic_dataset()
    with pytest.raises(InputError, match=message):
        verdicts(ds, ds.assign_attrs({"weights_hash": "other"} | changes))


def test_the_network_itself_is_no_null():
    ds = synthetic_dataset().assign_attrs(weights_hash="one")
    with pytest.raises(InputError, match="same weights"):
        verdicts(ds, ds)


def test_every_metric_says_what_it_is_by_chance_or_why_there_is_no_such_value():
    net, data = resdyn.nets.ResidualMLP(**LENS).eval(), torch.randn(4, 3)
    lens = resdyn.transport(net, data, show_progress=False).dataset
    growth = resdyn.capture(net, data, "lyapunov", store=None, samples=2, show_progress=False)
    found = [row for ds in (synthetic_dataset(n_samples=5, n_blocks=12), lens, growth) for row in summarize(ds)]
    assert {metric.name for metric in found} == set(descriptions())
    for metric in found:
        assert metric.chance is not None, metric.name
        assert metric.chance.basis
        assert metric.chance.ends is not None or "none" in metric.chance.basis or "differs" in metric.chance.basis


def test_every_property_has_a_metric_of_the_table_and_a_caution():
    known = descriptions()
    for phenomenon in phenomena():
        for asked_for in properties_of(phenomenon):
            assert {criterion.metric for criterion in asked_for.criteria} <= set(known)
            assert asked_for.caution


def test_the_formulas_are_met_by_random_arrays():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(4000, 12))
    cosines = np.abs(directions[:, 0]) / np.linalg.norm(directions, axis=1)
    assert by_chance.cosine(12) == pytest.approx(cosines.mean(), rel=0.03)
    values = np.linalg.svd(rng.normal(size=(40, 60, 60)), compute_uv=False)
    assert by_chance.singular_gap(10, 60) == pytest.approx(np.median(values[:, 9] / values[:, 10]), rel=0.02)
    nc1 = []
    for _ in range(40):
        images = rng.normal(size=(5, 20, 64))
        means = images.mean(1)
        within, centred = (images - means[:, None]).reshape(-1, 64), means - means.mean(0)
        projected = (centred @ within.T) @ (within @ centred.T) / len(within)
        nc1.append(resdyn.metrics.within_class_variability(means, projected))
    assert by_chance.within_class_variability(5, 20, 64) == pytest.approx(np.mean(nc1), rel=0.05)


class OwnParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(3, 3), nn.Parameter(torch.ones(3))


class Forgets(OwnParameter):
    def reset_parameters(self):
        """Draws nothing: `noise` keeps what was learned."""

    def __init__(self):
        super().__init__()
        self.noise = nn.Parameter(torch.randn(4))


class TestTwin:
    def test_has_new_weights_and_the_model_keeps_its_own(self):
        model = untrained("mlp", 0)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        state = torch.get_rng_state()
        twin = resdyn.untrained_twin(model, seed=1)
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert not torch.equal(twin.blocks[0].branch[0].weight, model.blocks[0].branch[0].weight)
        again = resdyn.untrained_twin(model, seed=1).state_dict()
        assert all(torch.equal(again[name], value) for name, value in twin.state_dict().items())

    def test_forgets_running_statistics(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()
        model(torch.randn(9, 3) + 5)
        assert torch.equal(resdyn.untrained_twin(model)[1].running_mean, torch.zeros(3))

    @pytest.mark.parametrize(("model", "message"), [(OwnParameter(), "scale"), (Forgets(), "noise is as before")])
    def test_that_would_keep_what_was_learned_is_refused(self, model, message):
        with pytest.raises(InputError, match=message):
            resdyn.untrained_twin(model)

    @pytest.mark.parametrize("wrapped", [weight_norm, spectral_norm])
    def test_of_layers_whose_weights_are_parametrised(self, wrapped):
        model = nn.Sequential(wrapped(nn.Linear(4, 4)), nn.Linear(4, 2)).eval()
        before = model[0].weight.clone()
        twin = resdyn.untrained_twin(model, 7)
        assert torch.equal(model[0].weight, before)
        assert not torch.equal(twin[0].weight, before)
        assert not torch.equal(twin[0].bias, model[0].bias)
        assert torch.equal(twin(torch.ones(1, 4)), resdyn.untrained_twin(model, 7)(torch.ones(1, 4)))

    def test_of_a_model_of_transformers_that_was_made_without_a_part(self):
        transformers = pytest.importorskip("transformers")
        config = transformers.BertConfig(
            vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
        model = transformers.BertModel(config, add_pooling_layer=False).eval()
        twin = resdyn.untrained_twin(model, 7)
        assert twin.pooler is None
        assert not torch.equal(twin.embeddings.word_embeddings.weight, model.embeddings.word_embeddings.weight)

    def test_of_attention_and_recurrent_layers(self):
        for model in (nn.TransformerEncoderLayer(8, 2), nn.LSTM(3, 4)):
            twin = resdyn.untrained_twin(model, 7)
            assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_every_verdict_links_to_its_explanation_in_the_page_with_the_text_of_the_documentation():
    page = render_page(synthetic_dataset(n_samples=3, num_classes=4))
    assert "<b>undecided</b>" in page
    linked = re.findall(r'href="#(how-to-read-\d+)"', page)
    assert len(linked) == page.count("<details><summary>Why</summary>") > 5
    parts = re.split(r'<dt id="(how-to-read-\d+)">', page.partition('<dl class="reading">')[2].partition("</dl>")[0])
    told = dict(zip(parts[1::2], map(html.unescape, parts[2::2]), strict=True))
    assert sorted(told) == sorted(linked)
    docs = (Path(__file__).parents[1] / "docs" / "reading.md").read_text(encoding="utf-8")
    for subject in (one for phenomenon in phenomena() for one in properties_of(phenomenon)):
        assert f"\n## {subject.reading}\n" in docs
        own = [text for text in told.values() if f"<small>{subject.reading}</small>" in text]
        assert not own or any(all(readable(said) in text for said in explained(subject)) for text in own)
    assert "By chance, RA1 mean cosine of successive steps: 0 (" in told["how-to-read-1"]
