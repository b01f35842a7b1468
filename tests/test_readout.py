"""An output after a softmax or a sigmoid is read as one: loss, classifier and margins are those of logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import resdyn
from resdyn.nets import ResidualMLP

PROBES = "trajectory,features,robustness(directions=2)"


class Ending(nn.Module):
    """A classifier and what follows its logits."""

    def __init__(self, end):
        super().__init__()
        self.net, self.end = ResidualMLP(in_features=4, width=6, depth=3, classes=3), end

    def forward(self, x):
        return self.end(self.net(x))


def measured(end, path):
    torch.manual_seed(0)
    model = Ending(end).double().eval()
    x, labels = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    dataset = resdyn.capture(model, (x, labels), PROBES, path / "a.zarr", samples=6, show_progress=False)
    return dataset, model.net(x).detach(), labels


SOFTMAX = {
    "softmax": (lambda z: F.softmax(z, 1), "probabilities"),
    "softmax, then a reshape": (lambda z: F.softmax(z[:, :, None, None], 1).flatten(1), "probabilities"),
    "exp(log-softmax)": (lambda z: F.log_softmax(z, -1).exp(), "probabilities"),
    "among other outputs": (lambda z: {"probabilities": F.softmax(z, -1), "sums": z.sum(1)}, "probabilities"),
    "log-softmax": (lambda z: F.log_softmax(z, 1), "log-probabilities"),
    "log(softmax)": (lambda z: F.softmax(z, 1).log(), "log-probabilities"),
}


@pytest.mark.parametrize("name", SOFTMAX)
def test_a_network_that_ends_in_a_softmax_is_measured_as_without_it(name, tmp_path):
    end, reading = SOFTMAX[name]
    found, z, labels = measured(end, tmp_path / "with")
    plain, *_ = measured(lambda z: z, tmp_path / "without")
    np.testing.assert_allclose(found.loss, F.cross_entropy(z, labels, reduction="none"), rtol=1e-12)
    same = ("prediction", "feature_mean", "classifier_weight", "classifier_bias", "nearest_mean_agrees")
    for variable in same:
        np.testing.assert_allclose(found[variable], plain[variable], rtol=1e-12)
    for variable in ("linear_margin", "logit_margin"):
        np.testing.assert_allclose(found[variable], plain[variable], rtol=1e-8)
    assert found.attrs["output_reading"] == reading
    assert any("is read as" in note for note in found.attrs["notes"])
    assert plain.attrs["output_reading"] == "logits"
    assert not any("is read as" in note for note in plain.attrs["notes"])


def test_probabilities_that_no_softmax_makes_are_seen_by_their_sum(tmp_path):
    found, z, labels = measured(lambda z: z.exp() / z.exp().sum(1, keepdim=True), tmp_path)
    np.testing.assert_allclose(found.loss, F.cross_entropy(z, labels, reduction="none"), rtol=1e-12)
    assert found.attrs["output_reading"] == "probabilities"


@pytest.mark.parametrize("end", [torch.sigmoid, F.logsigmoid])
def test_after_a_sigmoid_the_loss_is_that_of_the_labels_own_probability(end, tmp_path):
    found, z, labels = measured(end, tmp_path)
    np.testing.assert_allclose(found.loss, -F.logsigmoid(z[range(6), labels]), rtol=1e-12)
    np.testing.assert_allclose(found.logit_margin, np.diff(z.sort(1).values)[:, 1], rtol=1e-8)
    assert "classifier_weight" in found
    assert found.attrs["output_reading"] == "sigmoid"


def test_a_probability_that_rounds_to_zero_still_has_its_loss(tmp_path):
    model = Ending(lambda z: F.softmax(2000 * z, 1)).eval()
    x, labels = torch.randn(4, 4), torch.arange(4) % 3
    found = resdyn.capture(model, (x, labels), "trajectory", tmp_path / "a.zarr", samples=4, show_progress=False)
    expected = F.cross_entropy(2000 * model.net(x).detach(), labels, reduction="none")
    assert (model(x) == 0).any()
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4)
