"""The paper on transient dynamics: every experiment at scale tiny, and the measures that they are made of."""

import numpy as np
import pytest
import torch

from resdyn.nets import LogisticResNet, layer_map
from resdyn.papers import get_paper, pictures, run_experiment
from resdyn.papers.transient_dynamics import clusters, fixed_points, lesions, noise, transients
from resdyn.papers.transient_dynamics.regulariser import NoisePenalty

PAPER = get_paper("transient_dynamics")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("transient")


@pytest.mark.parametrize("name", PAPER.experiments)
def test_every_experiment_runs_at_scale_tiny_and_makes_what_its_claims_name(name, folder):
    found = run_experiment(PAPER, name, "tiny", folder, quiet=True)
    assert found.complete
    assert {claim.number for claim in PAPER.experiments[name].claims} <= set(found.numbers)
    for picture in found.pictures.values():
        assert pictures.draw(picture).startswith("data:image/svg+xml;base64,")


def test_the_amplitude_of_misclassification_is_read_off_between_grid_points():
    a = noise.AMPLITUDES
    lost = np.where(a > a[7], 0.02, 0.0)
    assert noise.onset(lost[None])[0] == pytest.approx((a[7] * a[8]) ** 0.5)
    assert noise.onset(np.zeros((1, len(a))))[0] == a[-1]
    assert noise.onset(np.ones((1, len(a))))[0] == a[0]


def test_noise_to_signal_of_a_network_that_only_adds_constants():
    """Layers with W = 0 add 1/2 whatever they read, so the noise in x(T) is the noise in x(0)."""
    net = LogisticResNet(in_features=4, width=50, depth=3, start="zero").double().requires_grad_(False)
    x = torch.zeros(6, 50, dtype=torch.float64)
    found = noise.noise_curves(net, x, net.classifier(net.blocks(x)).argmax(1))
    size = noise.AMPLITUDES / 3**0.5 * 50**0.5  # of uniform noise in [-a, a]
    assert found.ratio.mean(0) == pytest.approx(size / (1.5 * 50**0.5), rel=0.05)
    assert found.cosine[:, 0] == pytest.approx(1, abs=1e-6)


def test_the_course_of_residuals_is_that_of_the_network():
    torch.manual_seed(0)
    net = LogisticResNet(in_features=4, width=6, depth=5, shared=True).double()
    x = torch.rand(8, 6, dtype=torch.float64)
    found = transients.course(net, x, 7)
    with torch.no_grad():
        ys = torch.stack([y for _, y in net.walk(x, 7)])
    assert found["mean"] == pytest.approx(ys.mean(1).numpy())
    assert found["std"] == pytest.approx(ys.std(1).numpy())
    assert found["change"][3] == pytest.approx((ys[3] - ys[2]).abs().mean().item())


def test_residuals_are_settled_from_the_layer_after_the_last_wide_one():
    assert transients.settled(np.array([0.5, 0.2, 0.001, 0.02, 0.001, 0.001])) == 5
    assert transients.settled(np.array([0.001, 0.001])) == 1
    assert np.isnan(transients.settled(np.array([0.001, 0.1])))


def test_similarity_within_a_class_leaves_out_a_state_with_itself():
    states = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [2.0, 0.0]])
    found = clusters.class_similarity(states, np.array([0, 0, 1, 1]))
    assert found == pytest.approx(np.array([[0.0, 0.5], [0.5, 1.0]]))


def test_neighbours_of_separate_clusters_are_of_one_class():
    labels = np.repeat([0, 1], 20)
    points = np.random.default_rng(0).standard_normal((40, 2)) + 100 * labels[:, None]
    assert (clusters.same_class(points, labels) == 1).all()


def test_the_penalty_is_strength_times_the_rate_of_equation_5_and_trains_the_weights():
    torch.manual_seed(0)
    net, u = LogisticResNet(in_features=4, width=6, depth=3, shared=True), torch.randn(5, 4)
    torch.manual_seed(1)
    once = NoisePenalty(1.0)(net, u)
    torch.manual_seed(1)
    assert float(NoisePenalty(3.0)(net, u).detach()) == pytest.approx(3 * float(once.detach()))
    once.backward()
    assert float(net.blocks[0].branch[0].weight.grad.abs().sum()) > 0
    zero = LogisticResNet(in_features=4, width=6, depth=3, start="zero")
    assert float(NoisePenalty(1.0)(zero, u).detach()) == 0  # without weights residuals do not answer to noise


def test_a_lesion_is_seen_where_the_layer_decides_and_nowhere_else():
    """Layers of zero weights add 1/2 whatever they read; layer 2 is given what the classes are told by."""
    net = LogisticResNet(in_features=2, width=2, depth=3, classes=2, start="zero").double().requires_grad_(False)
    layer = layer_map(net.blocks[1])
    layer.weight.copy_(torch.tensor([[20.0, 0.0], [0.0, 20.0]]))
    layer.bias.copy_(torch.full((2,), -11.0))
    net.classifier.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    net.classifier.bias.copy_(torch.tensor([0.05, 0.0]))
    x = torch.tensor([[0.0, 0.02]] * 4, dtype=torch.float64)  # class 1 by layer 2 alone: the bias says 0
    labels = net.classifier(net.blocks(x)).argmax(1)
    zero = lesions.lost_predictions(net, x, labels, seed=0)[0]
    assert labels.tolist() == [1] * 4
    assert zero.tolist() == [0.0, 1.0, 0.0]


def test_one_neuron_has_two_fixed_points_and_one_attractor():
    """y' = w y^2 (1 - y): 0 and 1, of which 1 is stable where w > 0; for w < 0 the linearisation says nothing of 0."""
    found = [fixed_points._of_weights(1, seed) for seed in range(6)]
    assert all(points == 2 for points, _, _ in found)
    assert {stable for _, stable, _ in found} == {0, 1}
    assert all(np.isnan(ended) if stable == 0 else ended == 1 for _, stable, ended in found)
