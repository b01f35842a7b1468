"""Identity connections: every experiment at scale tiny, equivalent training, table entries with known answers."""

import numpy as np
import pytest
import torch

from resdyn.data import load_data
from resdyn.errors import InputError
from resdyn.interventions.transfer import to_plain_state
from resdyn.nets import SimplifiedNet
from resdyn.papers import Claim, Number, get_paper, load_results, run_experiment
from resdyn.papers.identity_connections.degradation import error_at, reached
from resdyn.papers.identity_connections.equivalence import decay_to_identity, parameter_gap, shifted
from resdyn.papers.identity_connections.weights import table_row, transferred_weights
from resdyn.training import Recipe, train
from resdyn.training.augmentation import augmented

PAPER = get_paper("identity_connections")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("identity")


@pytest.mark.parametrize("name", PAPER.experiments)
def test_every_experiment_runs_at_scale_tiny(name, folder):
    found = run_experiment(PAPER, name, "tiny", folder, quiet=True)
    assert found.complete
    assert all(number.value is not None for number in found.numbers.values())


def test_a_claim_names_a_number_that_its_experiment_makes(folder):
    for result in load_results([folder / "results"], PAPER.name):
        made = {key.split(".")[-1] for key in result.numbers if not key.split(".")[-1].isdigit()}
        made |= {key.split(".")[0] for key in result.numbers}
        for claim in PAPER.experiments[result.experiment].claims:
            last = claim.number.split(".")[-1]
            if claim.number.startswith("pretrained"):
                continue  # not at scale tiny
            assert (claim.number.split(".")[0] if last.isdigit() else last) in made, claim.number


def test_a_cell_of_a_table_is_judged_at_the_papers_size_alone():
    content = {"claim": "c", "where": "table 1", "paper": 1.0, "number": "x", "rule": {"within": 0.1}}
    claim = Claim.of(content | {"judged_at": "paper"})
    assert claim.judge(Number(1.0), "small")[0] == "not run"
    assert "shown for comparison" in claim.judge(Number(1.0), "small")[1]
    assert claim.judge(Number(1.0), "paper")[0] == "agrees"
    assert Claim.of(content).judge(Number(1.0), "small")[0] == "agrees"
    with pytest.raises(InputError, match="expected small or paper"):
        Claim.of(content | {"judged_at": "tiny"})


def twins():
    """A residual network in float64 and its plain twin T(r)."""
    options = {"layers": 8, "width": 4, "image_size": 8, "in_channels": 1}
    torch.manual_seed(0)
    residual = SimplifiedNet(**options).double()
    plain = SimplifiedNet(**options, skip=False).double()
    plain.load_state_dict(to_plain_state(residual.state_dict(), shifted(plain)))
    return plain, residual


def trained(net, decay=1e-2):
    recipe = Recipe(epochs=5, lr=0.05, weight_decay=decay, batch_size=50, momentum=0.9, schedule="step")
    return train(net, load_data("digits", "train").subset(range(500)), recipe).records


def test_equivalent_networks_train_equivalently_over_fifty_steps():
    plain, residual = twins()
    decay_to_identity(plain, 1e-2)
    a, b = trained(plain), trained(residual)
    assert b[-1]["loss"] < b[0]["loss"]
    np.testing.assert_allclose([r["loss"] for r in a], [r["loss"] for r in b], rtol=1e-10)
    assert parameter_gap(plain, residual) < 1e-11


def test_with_the_usual_decay_they_part():
    plain, residual = twins()
    trained(plain), trained(residual)
    assert parameter_gap(plain, residual) > 1e-3


def test_the_decay_of_the_twin_is_that_of_the_inverse_map():
    """With a loss that does not depend on the weights, p decays towards rho as r does towards 0."""
    plain, residual = twins()
    decay_to_identity(plain, 0.1)
    for net in (plain, residual):
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            sum((0 * p).sum() for p in net.parameters()).backward()
            optimizer.step()
    assert parameter_gap(plain, residual) < 1e-15


def test_table_3_of_the_untrained_networks_is_what_their_laws_give():
    torch.manual_seed(0)
    weights, units = transferred_weights(SimplifiedNet(32), shifted=True)
    row = table_row(weights, units)
    assert len(units) == 10 * 16 + 16 + 9 * 32 + 32 + 9 * 64
    assert row["id_mass"] == pytest.approx(len(units), rel=1e-3)
    assert row["std"] == pytest.approx((len(units) / len(weights)) ** 0.5, rel=0.05)
    assert table_row(np.array([0.5, -0.25, 0.1]), np.array([0.1]))["large_mass"] == 0.75


def test_a_level_is_reached_between_epochs():
    risk, error = np.array([2.0, 1.0, 0.5]), np.array([0.9, 0.5, 0.4])
    assert reached(risk, 1.5) == 0.5
    assert error_at(risk, error, 0.75) == pytest.approx(0.45)
    assert np.isnan(reached(risk, 0.1))


def test_augmentation_shifts_and_mirrors_and_keeps_what_it_shows():
    torch.manual_seed(0)
    images = torch.arange(1.0, 65.0).reshape(1, 1, 8, 8).expand(200, 1, 8, 8)
    seen = augmented(images)
    assert seen.shape == images.shape
    assert len({tuple(image.flatten().tolist()) for image in seen}) > 80
    kept = [image for image in seen if (image > 0).all()]
    assert {tuple(k.flatten().tolist()) for k in kept} <= {
        tuple(images[0].flatten().tolist()),
        tuple(images[0].flip(2).flatten().tolist()),
    }
    assert Recipe(epochs=10, lr=1.0, schedule="step").learning_rate(5) == 1.0
    steps = [Recipe(epochs=200, lr=1.0, schedule="step").learning_rate(e) for e in (119, 120, 159, 160)]
    assert steps == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_the_null_of_twins_is_one_that_parts(folder):
    null = run_experiment(PAPER, "equivalence", "tiny", folder, quiet=True, null=True)
    gaps = [number.value for key, number in null.numbers.items() if key.startswith("parameters")]
    assert null.path.name == "equivalence.tiny.null.json"
    assert min(gaps) > 1e-6
