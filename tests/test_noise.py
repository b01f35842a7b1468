"""Gaussian noise on weights: its size, its reproducibility, and that the model stays as it was."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import resdyn
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


def moved_by(forward, weights, draws=2, level=0.1):
    """Mean relative change of `forward(*weights)` under noise on the weights, which are drawn for in turn."""
    reference, changes = forward(*weights), []
    for draw in range(draws):
        generator = torch.Generator().manual_seed(draw)
        units = [torch.randn(weight.shape, generator=generator).to(weight) for weight in weights]
        noisy = [w + level * unit * w.square().mean().sqrt() for w, unit in zip(weights, units)]
        change = (forward(*noisy) - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1)
        changes.append(float(change.mean()))
    return float(np.mean(changes))


def masked(layer):
    prune.l1_unstructured(layer, "weight", 0.4)
    return layer


class Normalised(nn.Linear):
    """Its rows are normalised in each pass."""

    def forward(self, x):
        return F.linear(x, F.normalize(self.weight, dim=1), self.bias)


COMPUTED = {
    "weight norm": parametrizations.weight_norm,
    "weight norm by a hook": nn.utils.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm by a hook": nn.utils.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "mask": masked,
}


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize("name", COMPUTED)
def test_a_computed_weight_gets_its_noise_where_the_network_multiplies_by_it(name):
    torch.manual_seed(0)
    layer = COMPUTED[name](nn.Linear(6, 6).double())
    with torch.no_grad():  # as after some training: the length of v is not g
        next(iter(layer.parameters())).mul_(1.7)
    model = nn.Sequential(nn.Linear(4, 6).double(), nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 3).double()).eval()
    x = torch.randn(7, 4, dtype=torch.float64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = noise_response(model, x, [0.1], draws=2, layers=["2"])
    whole = noise_response(model, x, [0.1], draws=2)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert whole.weights == ("0.weight", "2.weight", "4.weight")
    with torch.no_grad():
        model(x)  # a hook computes the weight
        kept = layer.weight != 0 if name == "mask" else torch.ones_like(layer.weight, dtype=torch.bool)
        weight, h = layer.weight.clone(), model[:2](x)
        by_hand = moved_by(lambda w: model[3:](F.linear(h, torch.where(kept, w, 0), layer.bias)), [weight])
    assert found.mean[0] == pytest.approx(by_hand, rel=1e-6)
    assert found.weights == ("2.weight",)


def test_a_weight_that_the_forward_pass_normalises_is_the_normalised_one():
    torch.manual_seed(0)
    layer, x = Normalised(5, 4), torch.randn(6, 5)
    found = noise_response(layer, x, [0.1], draws=2)
    weight = F.normalize(layer.weight.detach(), dim=1)
    by_hand = moved_by(lambda w: F.linear(x, w, layer.bias.detach()), [weight])
    assert found.mean[0] == pytest.approx(by_hand, rel=1e-5)


class Matrices(nn.Module):
    """Attention, a recurrent layer, bare parameters, a transposed convolution, a fixed matrix and an embedding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.recurrent = nn.GRU(8, 8, batch_first=True)
        self.up = nn.ConvTranspose1d(8, 8, 3, padding=1)
        self.matrix = nn.Parameter(torch.randn(8, 5))
        self.vector = nn.Parameter(torch.randn(8))
        self.unused = nn.Linear(2, 2)
        self.register_buffer("fixed", torch.eye(8))

    def forward(self, tokens):
        h = self.embedding(tokens)
        h = h + self.attention(h, h, h)[0]
        h = self.up(self.recurrent(h)[0].transpose(1, 2)).transpose(1, 2) @ self.fixed
        return torch.einsum("bth,hc->btc", h * (h @ self.vector)[..., None], self.matrix)


def test_every_matrix_is_covered_or_named_as_left_out():
    torch.manual_seed(0)
    model, tokens = Matrices().eval(), torch.randint(0, 9, (3, 4))
    found = noise_response(model, tokens, [0.1], draws=2)
    covered = (
        "matrix",
        "vector",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "recurrent.weight_ih_l0",
        "recurrent.weight_hh_l0",
        "up.weight",
    )
    assert found.weights == covered
    assert found.left_out == {
        "embedding.weight": "read by embedding",
        "unused.weight": "not read on the path from these inputs",
        "fixed": "it is not a parameter",
    }

    def forward(*weights):
        with torch.no_grad():
            copy = deepcopy(model)
            for name, weight in zip(covered, weights):
                path, _, attribute = name.rpartition(".")
                getattr(copy.get_submodule(path), attribute).copy_(weight)
            return copy(tokens)

    weights = [dict(model.named_parameters())[name].detach() for name in covered]
    assert found.mean[0] == pytest.approx(moved_by(forward, weights), rel=1e-5)


def test_a_tensor_with_several_uses_is_one_weight_with_one_noise():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(7, 6), nn.Linear(6, 7, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens):
            return {"hidden": self.embedding(tokens), "logits": self.head(torch.tanh(self.embedding(tokens)))}

    torch.manual_seed(0)
    model, tokens = Tied().eval(), torch.randint(0, 7, (4, 5))
    found = noise_response(model, tokens, [0.1], draws=2)
    by_hand = moved_by(lambda w: F.linear(torch.tanh(w[tokens]), w), [model.head.weight.detach()])
    assert found.mean[0] == pytest.approx(by_hand, rel=1e-5)
    assert found.weights == ("embedding.weight",)
    assert noise_response(model, tokens, [0.1], draws=2, layers=["head"]).mean[0] == found.mean[0]


@dataclass
class Answer:
    """What a model may return."""

    loss: Tensor
    hidden: Tensor
    logits: Tensor


def test_the_output_is_the_logits_wherever_they_are():
    class Wrapped(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.a, self.b, self.wrap = nn.Linear(4, 4), nn.Linear(4, 3), wrap

        def forward(self, x):
            hidden = torch.tanh(self.a(x))
            return self.wrap(hidden, self.b(hidden))

    x = torch.randn(5, 4)
    wraps = (
        lambda h, z: z,
        lambda h, z: (z, h),
        lambda h, z: {"hidden": h, "logits": z},
        lambda h, z: Answer(z.sum(), h, z),
        lambda h, z: [z.mean(), z, h],
    )
    changes, margins = [], []
    for wrap in wraps:
        torch.manual_seed(0)
        model = Wrapped(wrap).eval()
        changes.append(noise_response(model, x, [0.1], draws=2).mean[0])
        answers = Wrapped(lambda h, z: z)
        answers.load_state_dict(model.state_dict())
        classes = answers(torch.cat([x, 10 * x, -10 * x])).argmax(1)
        other = int((classes != classes[0]).int().argmax())
        points = torch.cat([x, 10 * x, -10 * x])
        margins.append(float(resdyn.boundary_points(model, points[:1], points[other : other + 1])[1]))
    assert changes == [changes[0]] * len(wraps)
    assert margins == [margins[0]] * len(wraps)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 1}, "got draws=1, expected a whole number of at least 2"),
        ({"draws": 2.0}, "got draws=2.0"),
        ({"draws": True}, "got draws=True"),
        ({"seed": -1}, "got seed=-1"),
        ({"levels": []}, "levels"),
        ({"levels": "0.1"}, "levels"),
        ({"levels": [-0.1]}, "levels"),
        ({"levels": [float("nan")]}, "levels"),
        ({"relative": 1}, "relative"),
        ({"layers": "0"}, "layers"),
        ({"layers": ["x"]}, r"got the layers \['x'\]"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        noise_response(nn.Linear(2, 2), torch.randn(1, 2), **({"levels": [0.1]} | settings))
