"""A compressed transport beside the whole one, and bounds of what it leaves out that hold as often as they say."""

import numpy as np
import pytest
import torch

import resdyn
from resdyn.errors import InputError
from resdyn.stream.sensitivities import between
from resdyn.stream.sweep import ForwardSweep
from resdyn.transporting.compressed import smallest_share


def logistic():
    torch.manual_seed(0)
    net = resdyn.nets.LogisticResNet(in_features=6, width=24, depth=4, classes=3).double().eval()
    data = torch.randn(5, 6).double()
    return net, data, resdyn.find_stream(net, data), {}


def gpt():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 16, "use_cache": False}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, bos_token_id=1, eos_token_id=2, **sizes)).double().eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    data = torch.randint(3, 40, (3, 7))
    return model, data, resdyn.find_stream(model, data, granularity="layer"), {"skip_first": 1}


def cnn():
    torch.manual_seed(0)
    net = resdyn.nets.cifar_resnet(8, width=4, classes=3).double().eval()
    data = torch.randn(2, 3, 8, 8).double()
    return net, data, resdyn.find_stream(net, data), {"depths": [0, 1], "to": 1}


@pytest.fixture(scope="module", params=[logistic, gpt, cnn])
def fitted(request):
    model, data, stream, asked = request.param()
    asked |= {"stream": stream}
    return model, data, asked, resdyn.transport(model, data, show_progress=False, **asked)


def left_out(found, whole):
    return np.array([float((whole[depth] - found[depth]).norm()) for depth in found.depths])


def test_of_full_rank_nothing_is_left_out(fitted):
    model, data, asked, whole = fitted
    width = len(whole[0])
    found = resdyn.compressed_transport(model, data, width, **asked)
    assert left_out(found, whole).max() < 1e-10
    assert float(found.remainder_bound.max()) < 1e-9
    assert found.right[0].shape == (width, width)


def test_a_low_rank_is_near_the_best_one_and_what_it_leaves_out_is_known(fitted):
    model, data, asked, whole = fitted
    found = resdyn.compressed_transport(model, data, 3, checks_drawn=64, **asked)
    true = left_out(found, whole)
    assert (true <= found.remainder_bound.numpy() + 1e-12).all()
    assert (np.abs(found.remainder.numpy() - true) <= 5 * found.remainder_error.numpy() + 1e-12).all()
    for depth, rest in zip(found.depths, true, strict=True):
        J = whole[depth].numpy()
        best = np.linalg.svd(J - np.trace(J) / len(J) * np.eye(len(J)), compute_uv=False)[3:]
        assert rest <= 2 * np.linalg.norm(best) + 1e-10
    errors = [float(whole.standard_error(depth).norm()) for depth in whole]
    np.testing.assert_allclose(found.sampling_error, errors, rtol=0.6, atol=1e-9)
    expanded = found.expanded()
    assert torch.equal(expanded[0], found[0])
    assert np.isnan(list(expanded.relative_error.values())).all()


def test_bounds_fail_no_more_often_than_they_say():
    """Of sums of squares with any weights: one alone, a few, equal ones."""
    rng, m, failure = np.random.default_rng(0), 6, 0.05
    share = smallest_share(m, failure)
    assert (share * np.exp(1 - share)) ** (m / 2) == pytest.approx(failure)
    for weights in (np.ones(1), np.array([0.9, 0.1]), np.full(20, 0.05)):
        means = (rng.standard_normal((20_000, m, len(weights))) ** 2 @ weights).mean(1)
        assert np.mean(means < share) <= failure


def test_bounds_hold_over_seeds():
    net, data, stream, _ = logistic()
    whole, missed = resdyn.transport(net, data, show_progress=False, stream=stream), 0
    for seed in range(10):
        found = resdyn.compressed_transport(
            net, data, 2, checks_drawn=4, failure_probability=0.2, seed=seed, samples=range(5), stream=stream
        )
        missed += (left_out(found, whole) > found.remainder_bound.numpy()).any()
    assert missed <= 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 25}, "got rank=25, expected"),
        ({"rank": 2, "checks_drawn": 1}, "checks_drawn"),
        ({"rank": 2, "failure_probability": 0}, "failure_probability"),
        ({"rank": 2, "to": "logits"}, "expected one width"),
    ],
)
def test_what_does_not_fit_is_refused(settings, words):
    net, data, stream, _ = logistic()
    with pytest.raises(InputError, match=words):
        resdyn.compressed_transport(net, data, stream=stream, **settings)


class ReadsAnEarlierState(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (torch.nn.Linear(4, 4).double() for _ in range(3))

    def forward(self, x):
        h = x + self.a(x).tanh()
        early = h.sin()
        h = h + self.b(h).tanh()
        return h + self.c(h).tanh() * early


def check_sweep(stream, inputs, end):
    states = stream.states(inputs)
    depths = list(dict.fromkeys([end - 1, 0, end]))
    changes = [torch.randn(2 + depth, *states[depth][0].shape).double() for depth in depths]
    found = ForwardSweep(stream, depths, end)(states, changes, block=3)
    for depth, change, images in zip(depths, changes, found, strict=True):
        rows = change.flatten(1)
        expected = between(stream, depth, end, states).matmat(rows.T).T if depth < end else rows
        torch.testing.assert_close(images, expected.reshape(images.shape))


def test_one_sweep_forward_is_the_derivative_from_every_depth(fitted):
    _, data, asked, _ = fitted
    check_sweep(asked["stream"], data[:1], asked.get("to", len(asked["stream"])))


def test_a_sweep_where_a_state_is_read_after_a_later_one():
    net, x = ReadsAnEarlierState().eval(), torch.randn(1, 4).double()
    stream = resdyn.find_stream(net, x)
    check_sweep(stream, x, len(stream))
