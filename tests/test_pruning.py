"""Pruning after training: which blocks can go, what it costs, a shrunken model on disk."""

import dataclasses
import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from resdyn import find_stream, load_data, load_model
from resdyn.cli.app import run as run_command
from resdyn.errors import InputError
from resdyn.interventions.pruning import drop, droppable_blocks, load_pruned, prune, rank_blocks, remove_greedily
from resdyn.interventions.pruning.files import FORMAT
from resdyn.interventions.pruning.run import binomial
from resdyn.nets import LogisticResNet, ResidualCNN, ResidualMLP, cifar_resnet
from resdyn.training import DIGITS_RECIPE, train_digits

SPEC = "resdyn:mlp,width=24,depth=5"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A residual net on digits whose third block has been silenced."""
    model = train_digits(24, 5, dataclasses.replace(DIGITS_RECIPE, epochs=10, weight_decay=1e-3)).model
    nn.init.zeros_(model.blocks[2].branch.norm2.weight)
    nn.init.zeros_(model.blocks[2].branch.norm2.bias)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(model.state_dict(), path)
    return path


def droppables(model, x):
    stream = find_stream(model, x)
    return droppable_blocks(stream, stream.states(x))


def test_blocks_that_keep_the_shape_can_go_and_those_that_change_it_say_why_not():
    found = droppables(cifar_resnet(20).eval(), torch.randn(1, 3, 32, 32))
    assert [c.module for c in found] == [
        "layer1.0",
        "layer1.1",
        "layer1.2",
        None,
        "layer2.1",
        "layer2.2",
        None,
        "layer3.1",
        "layer3.2",
    ]
    assert "the shape would not fit" in found[3].reason


@pytest.mark.parametrize(
    "model",
    [ResidualMLP(6, width=5, depth=3), ResidualCNN(1, width=4, depth=3, image_size=8), LogisticResNet(6, 5, 3)],
)
def test_the_modules_of_our_own_networks_are_found(model):
    found = droppables(model.eval(), torch.randn(1, *model.input_size))
    assert [c.module for c in found] == ["blocks.0", "blocks.1", "blocks.2"]


def test_a_block_that_is_no_module_of_its_own_stays():
    class Inline(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = x + self.first(x).tanh()
            return x + self.second(x).tanh()

    for candidate in droppables(Inline().eval(), torch.randn(1, 4)):
        assert candidate.module is None
        assert candidate.reason == "no module of the model is exactly this block"


def test_a_shared_block_can_go_from_one_of_its_places():
    found = droppables(LogisticResNet(6, 5, 3, shared=True).eval(), torch.randn(1, 6))
    assert [c.module for c in found] == ["blocks.0", "blocks.1", "blocks.2"]


def test_a_silent_block_ranks_first_and_costs_nothing(weights):
    loaded, data = load_model(SPEC, weights), load_data("digits", "test")
    before = loaded.model.state_dict()
    data = data.prepared(loaded.preprocessing)
    stream = find_stream(loaded.model, data.inputs([0]))
    found = droppable_blocks(stream, stream.states(data.inputs([0])))
    first = rank_blocks(stream, found, data)[0]
    assert (first.index, first.step, first.logits, first.accuracy) == (2, 0, 0, 0)
    rungs = remove_greedily(stream, found, data, limit=2)
    assert rungs[0].dropped == (2,)
    assert len(rungs[1].dropped) == 2
    assert list(before) == list(loaded.model.state_dict())


def test_the_proposal_is_measured_on_images_that_did_not_choose_it(weights):
    loaded, data = load_model(SPEC, weights), load_data("digits", "test")
    found = prune(loaded, data, max_accuracy_loss=0.02, num_selection_images=100)
    assert 2 in found.dropped
    assert found.before.images == found.after.images == 197
    assert found.change == pytest.approx(found.after.value - found.before.value)
    assert found.before.error == pytest.approx(math.sqrt(found.before.value * (1 - found.before.value) / 197))
    chosen = next(r for r in found.rungs if set(r.dropped) == set(found.dropped))
    assert chosen.accuracy >= -0.02
    assert all(r.accuracy < -0.02 for r in found.rungs if len(r.dropped) > len(chosen.dropped))


def test_the_command_writes_a_model_that_loads_again(weights, tmp_path, capsys):
    out = tmp_path / "pruned"
    words = [
        "prune",
        SPEC,
        "--weights",
        str(weights),
        "--data",
        "digits",
        "--out",
        str(out),
        "--num-selection-images",
        "100",
        "--max-accuracy-loss",
        "0.02",
        "--json",
    ]
    assert run_command(words) == 0
    told = json.loads(capsys.readouterr().out)
    written = json.loads((out / "pruned.json").read_text())
    assert written["dropped"] == told["dropped_modules"]
    assert "blocks.2" in written["dropped"]
    assert not any(name.startswith("blocks.2.") for name in load_file(out / "weights.safetensors"))
    again = load_pruned(out)
    data = load_data("digits", "test")
    loaded = load_model(SPEC, weights)
    drop(loaded.model, written["dropped"])
    x = data.prepared(loaded.preprocessing).inputs(range(20))
    assert torch.equal(again.model(x), loaded.model(x))
    assert run_command([*words[:-1]]) == 0
    assert "accuracy on 197 other images" in " ".join(capsys.readouterr().out.split())


def test_what_cannot_be_is_refused(weights, tmp_path):
    loaded, data = load_model(SPEC, weights), load_data("digits", "test")
    with pytest.raises(InputError, match="at least two images on either side"):
        prune(loaded, data, num_selection_images=297)
    with pytest.raises(InputError, match="has 10 classes, digits has 2"):
        prune(loaded, data.of_classes(["0", "1"]), num_selection_images=20)
    with pytest.raises(InputError, match="does not hold a pruned model"):
        load_pruned(tmp_path)
    with pytest.raises(InputError, match=r"no module 'blocks\.9'"):
        drop(loaded.model, ["blocks.9"])
    (tmp_path / "pruned.json").write_text('{"format": "other", "model": "m", "dropped": []}')
    with pytest.raises(InputError, match="of the format 'other'"):
        load_pruned(tmp_path)


def test_the_former_names_still_work_in_their_former_units(weights, tmp_path, capsys):
    loaded, data = load_model(SPEC, weights), load_data("digits", "test")
    new = prune(loaded, data, max_accuracy_loss=0.02, num_selection_images=100)
    with pytest.warns(DeprecationWarning, match=r"tolerance is now max_accuracy_loss|choose_by is now num_selection"):
        old = prune(loaded, data, tolerance=0.02, choose_by=100)
    assert old == new
    words = ["prune", SPEC, "--weights", str(weights), "--data", "digits", "--json"]
    assert run_command([*words, "--choose-by", "100", "--tolerance", "2", "--out", str(tmp_path / "old")]) == 0
    told = capsys.readouterr()
    assert "use --max-accuracy-loss 0.02" in told.err
    assert json.loads(told.out)["dropped_blocks"] == list(new.dropped)
    assert json.loads(told.out)["max_accuracy_loss"] == 0.02


def test_an_accuracy_loss_in_percentage_points_is_refused():
    loaded, data = load_model(SPEC), load_data("digits", "test")
    with pytest.raises(InputError, match=r"0\.005 is half a percentage point"):
        prune(loaded, data, max_accuracy_loss=2)


def test_a_binomial_error():
    assert binomial(50, 100).error == pytest.approx(0.05)


def test_resnet20_of_others_is_ranked(data_root):
    path = Path(os.environ.get("RESDYN_MODELS", data_root.parent / "models")) / "cifar_resnet" / "resnet20.safetensors"
    if not path.exists():
        pytest.skip("no weights of ResNet-20 in RESDYN_MODELS")
    loaded = load_model("resdyn:cifar_resnet20", path)
    data = load_data("cifar10", "test", data_root).prepared(loaded.preprocessing).subset(range(60)).in_memory()
    stream = find_stream(loaded.model, data.inputs([0]))
    ranked = rank_blocks(stream, droppable_blocks(stream, stream.states(data.inputs([0]))), data)
    assert [e.droppable.module is None for e in ranked] == [False] * 7 + [True] * 2
    changes = [e.logits for e in ranked[:7]]
    assert changes == sorted(changes)
    assert 0.01 < changes[0] < changes[-1]


def test_a_folder_does_not_run_the_code_that_it_names(tmp_path):
    marker = tmp_path / "executed"
    (tmp_path / "theirs.py").write_text(
        f"import pathlib; pathlib.Path({str(marker)!r}).touch()\nfrom resdyn.nets import ResidualMLP\n"
        "def net(): return ResidualMLP(in_features=(1, 8, 8), width=8, depth=2)\n"
    )
    model = ResidualMLP(in_features=(1, 8, 8), width=8, depth=2)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    content = {"format": FORMAT, "model": f"{tmp_path / 'theirs.py'}:net", "dropped": []}
    (tmp_path / "pruned.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"names the code of .* pass allow_code=True"):
        load_pruned(tmp_path)
    again = load_pruned(tmp_path, factory=lambda: ResidualMLP(in_features=(1, 8, 8), width=8, depth=2))
    assert not marker.exists()
    torch.testing.assert_close(again.model.state_dict(), model.state_dict())
    load_pruned(tmp_path, allow_code=True)
    assert marker.exists()
    for wrong in ({"dropped": "blocks.0"}, {"dropped": [1]}, {"model": 3}):
        (tmp_path / "pruned.json").write_text(json.dumps(content | wrong))
        with pytest.raises(InputError, match="does not hold a pruned model"):
            load_pruned(tmp_path)


def test_weights_of_the_user_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "weights.safetensors").write_text("mine")
    words = ["prune", "resdyn:mlp,width=8,depth=2", "--data", "digits", "--out", str(tmp_path)]
    assert run_command(words) == 2
    assert "exists already and was not written by resdyn" in capsys.readouterr().err
    assert (tmp_path / "weights.safetensors").read_text() == "mine"


def test_the_former_names_warn_and_give_the_new_ones():
    from resdyn.interventions import pruning

    with pytest.warns(DeprecationWarning, match="PruningStep"):
        assert pruning.Rung is pruning.PruningStep
    with pytest.warns(DeprecationWarning, match="RemovalCandidate"):
        assert pruning.Droppable is pruning.RemovalCandidate
    stream = find_stream(ResidualMLP(6, width=5, depth=3).eval(), torch.randn(1, 6))
    with pytest.warns(DeprecationWarning, match="limit"), pytest.raises(InputError):
        remove_greedily(stream, (), None, most=2)


class TestAnyData:
    def test_a_module_and_pairs_of_inputs_and_labels(self):
        torch.manual_seed(0)
        model = ResidualMLP(in_features=6, width=8, depth=3, classes=2).eval()
        inputs, labels = torch.randn(100, 6), torch.arange(100) % 2
        before = {name: value.clone() for name, value in model.state_dict().items()}
        found = prune(model, (inputs, labels), max_accuracy_loss=1.0)
        assert found.chosen_by == 50
        assert found.after.images == 50
        assert len(found.rungs) == 3
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    def test_layers_of_a_transformer_with_inputs_by_name(self):
        transformers = pytest.importorskip("transformers")
        config = transformers.BertConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            vocab_size=20,
            num_labels=2,
        )
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config).eval()
        data = {"input_ids": torch.randint(0, 20, (12, 5))}, torch.arange(12) % 2
        found = prune(model, data, max_accuracy_loss=1.0, granularity="layer")
        assert found.dropped == (0, 1)
        assert found.modules == ["bert.encoder.layer.0", "bert.encoder.layer.1"]

    def test_data_without_labels_are_refused(self):
        model = ResidualMLP(in_features=6, width=8, depth=3, classes=2).eval()
        with pytest.raises(InputError, match="without labels"):
            prune(model, torch.randn(10, 6))
