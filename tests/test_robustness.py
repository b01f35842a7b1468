"""The smallest noise that changes an answer, on linear networks, where it is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import resdyn
from resdyn.errors import InputError
from resdyn.nets import ResidualMLP
from resdyn.probes import Robustness, Sample, parse_probes
from resdyn.probes.robustness import crossings, nearest_rivals
from resdyn.stream import find_stream

CLASSES, WIDTH = 4, 6


class LinearBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = nn.Linear(WIDTH, WIDTH)

    def forward(self, h):
        return h + self.branch(h)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(LinearBlock(), LinearBlock(), nn.Linear(WIDTH, CLASSES)).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def x():
    return torch.randn(WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def affine(net):
    """W, b of a linear net."""
    bias = net(torch.zeros(1, WIDTH, dtype=torch.float64))[0]
    return (net(torch.eye(WIDTH, dtype=torch.float64)) - bias).T, bias


def gaps(net, x):
    """z_c - z_j of the answer c and every rival j at x, and the rows of W that they come from."""
    weight, bias = affine(net)
    values = weight @ x + bias
    answer = int(values.argmax())
    rivals = [j for j in range(CLASSES) if j != answer]
    return values[answer] - values[rivals], weight[answer] - weight[rivals]


def exact_crossing(net, x, direction):
    margins, rows = gaps(net, x)
    slopes = rows @ (direction / direction.norm())
    amplitudes = torch.where(slopes < 0, -margins / slopes, torch.inf)
    return float(amplitudes.min())


def measured(net, x, **settings):
    stream = find_stream(net, x[None])
    sample = Sample(stream, stream.states(x[None]), 0, 5, "block", 3, lambda *_: None)
    return Robustness(**settings).measure(sample, CLASSES)


@pytest.mark.parametrize("tol", [1e-2, 1e-6, 1e-12])
def test_a_linear_network_changes_its_answer_where_the_nearest_plane_is_met(net, x, tol):
    directions = torch.randn(20, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    low, high = crossings(net, x, directions, 1e4, tol)
    exact = np.array([exact_crossing(net, x, direction) for direction in directions])
    reached = np.isfinite(exact) & (exact < 1e4)
    assert reached.sum() > 5
    np.testing.assert_array_equal(high.isnan(), ~reached)
    assert (low.numpy()[reached] <= exact[reached] * (1 + 1e-12)).all()
    assert (high.numpy()[reached] >= exact[reached] * (1 - 1e-12)).all()
    np.testing.assert_allclose(high.numpy()[reached], exact[reached], rtol=1.01 * tol)


def test_the_gradient_finds_the_distance_to_the_nearest_plane(net, x):
    found = measured(net, x, tol=1e-6)
    margins, rows = gaps(net, x)
    distance = float((margins / rows.norm(dim=1)).min())
    assert float(found["linear_margin"]) == pytest.approx(distance, rel=1e-12)
    assert float(found["gradient_amplitude"]) == pytest.approx(distance, rel=2e-6)
    assert float(found["logit_margin"]) == pytest.approx(float(margins.min()))
    assert found["gradient_converged"]
    assert 0 < float(found["gradient_bracket"]) <= 1e-6 * float(found["gradient_amplitude"])


def test_no_direction_is_shorter_than_the_distance_and_the_least_is_reported(net, x):
    found = measured(net, x, directions=40, reach=100.0)
    assert found["noise_amplitudes"].shape == (40,)
    assert float(found["noise_amplitude"]) == np.nanmin(found["noise_amplitudes"])
    assert float(found["noise_amplitude"]) >= float(found["gradient_amplitude"]) * 0.99
    assert found["noise_converged"]


def test_noise_depends_on_the_sample_and_nothing_else(net, x):
    np.testing.assert_array_equal(measured(net, x)["noise_amplitudes"], measured(net, x)["noise_amplitudes"])
    first, more = measured(net, x, directions=4), measured(net, x, directions=8)
    np.testing.assert_allclose(more["noise_amplitudes"][:4], first["noise_amplitudes"], rtol=1e-12)


def test_an_answer_that_never_changes_has_no_amplitude(x):
    steady = nn.Sequential(LinearBlock(), nn.Linear(WIDTH, CLASSES)).double().eval()
    steady[1].weight.data.zero_()
    steady[1].bias.data.copy_(torch.arange(CLASSES))
    found = measured(steady, x)
    assert np.isnan([found["noise_amplitude"], found["gradient_amplitude"]]).all()
    assert not found["noise_converged"]
    assert not found["gradient_converged"]
    assert float(found["logit_margin"]) == 1.0


def test_rivals_come_in_order_of_their_linear_distance(net, x):
    directions, distances, _ = nearest_rivals(net, x, 2)
    margins, rows = gaps(net, x)
    expected = (margins / rows.norm(dim=1)).sort().values[:2]
    torch.testing.assert_close(distances, expected)
    assert directions.shape == (2, WIDTH)


def test_a_capture_holds_what_the_probe_measures(tmp_path):
    torch.manual_seed(0)
    model = ResidualMLP(in_features=5, width=6, depth=2, classes=3).eval()
    inputs, labels = torch.randn(6, 5), torch.arange(6) % 3
    ds = resdyn.capture(
        model, (inputs, labels), "robustness(directions=3)", tmp_path / "s", samples=4, show_progress=False
    )
    assert ds["noise_amplitudes"].dims == ("sample", "direction")
    assert ds.sizes["direction"] == 3
    answers = model(inputs[ds["sample"].values.tolist()]).argmax(1)
    assert np.isfinite(ds["logit_margin"]).all()
    assert len(answers) == 4


def test_one_tensor_of_logits_is_needed_and_else_nothing_is_invented(net, x):
    stream = find_stream(net, x[None])
    states = stream.states(x[None])
    states.output = states.output[0]
    found = Robustness().measure(Sample(stream, states, 0, 0, "block", 0, lambda *_: None), CLASSES)
    assert np.isnan(found["noise_amplitude"])
    assert np.isnan(found["noise_amplitudes"]).all()


@pytest.mark.parametrize("settings", ["directions=0", "rivals=x", "tol=0.0", "tol=2", "reach=0"])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match="robustness: got"):
        parse_probes(f"robustness({settings})")
