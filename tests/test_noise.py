"""Gaussian noise on weights: its size, its reproducibility, and that the model stays as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from resdyn import noise_response
from resdyn.errors import InputError
from resdyn.nets import SimplifiedNet


def test_a_linear_layer_moves_as_theory_says():
    """E |N x|^2 = s^2 |W|_F^2 |x|^2 / columns for noise of variance s^2 |W|_F^2 / (rows columns)."""
    torch.manual_seed(0)
    layer, x = nn.Linear(30, 200, bias=False).double(), torch.randn(5, 30, dtype=torch.float64)
    found = noise_response(layer, x, [0.0, 0.1, 0.2], draws=30)
    weight, norm = float(layer.weight.detach().norm()), x.norm(dim=1)
    expected = float((0.1 * weight * norm / 30**0.5 / layer(x).detach().norm(dim=1)).mean())
    assert found.mean[0] == 0
    assert found.mean[1] == pytest.approx(expected, rel=0.02)
    np.testing.assert_allclose(found.change[2], 2 * found.change[1], rtol=1e-9)
    assert (found.error[1:] > 0).all()


def test_absolute_noise_does_not_ask_how_large_weights_are():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 50, bias=False).double(), torch.randn(4, 8, dtype=torch.float64)
    big = nn.Linear(8, 50, bias=False).double()
    with torch.no_grad():
        big.weight.copy_(10 * layer.weight)
    small, large = (noise_response(m, x, [0.1], draws=3, relative=False).mean for m in (layer, big))
    np.testing.assert_allclose(small, 10 * large)
    same = [noise_response(m, x, [0.1], draws=3).mean for m in (layer, big)]
    np.testing.assert_allclose(*same)


def test_the_model_stays_as_it_was_and_one_layer_can_be_chosen():
    net = SimplifiedNet(5, width=2, image_size=8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(3, 3, 8, 8)
    whole = noise_response(net, x, [0.1], draws=2)
    one = noise_response(net, x, [0.1], draws=2, layers=["blocks.1.branch"])
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert one.mean[0] != whole.mean[0]
    assert one.weights == ("blocks.1.branch.weight",)
    assert "classifier.weight" in whole.weights
    again = noise_response(net, x, [0.1], draws=2)
    np.testing.assert_array_equal(again.change, whole.change)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"draws": 1}, "at least 2 draws"), ({"levels": []}, "levels"), ({"layers": ["x"]}, r"got the layers \['x'\]")],
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        noise_response(nn.Linear(2, 2), torch.randn(1, 2), **({"levels": [0.1]} | settings))
