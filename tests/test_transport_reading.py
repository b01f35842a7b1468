"""What a lens predicts: against the module's own head, at the last depth, and on held-out samples alone."""

from functools import cache

import numpy as np
import pytest
import torch

import resdyn
from resdyn.errors import InputError


@cache
def gpt():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16, "use_cache": False}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, bos_token_id=1, eos_token_id=2, **sizes)).double().eval()
    data = torch.randint(3, 40, (5, 7))
    stream = resdyn.find_stream(model, data, granularity="layer")
    lens = resdyn.transport(model, data[:3], depths=[0, 1, 2], skip_first=1, stream=stream, show_progress=False)
    return model, data, stream, lens


def test_a_readout_is_the_modules_norm_and_unembedding_of_the_transported_state():
    model, data, stream, lens = gpt()
    found = lens.readout(model, data[3:], top_k=4, stream=stream)
    assert found["lens_top"].sizes == {"sample": 2, "depth": 3, "position": 7, "rank": 4}
    hidden = model(data[3:], output_hidden_states=True).hidden_states
    for depth in (0, 1):
        for name, h in (("lens", hidden[depth] @ lens[depth].T), ("logit_lens", hidden[depth])):
            expected = model.lm_head(model.transformer.ln_f(h)).topk(4)
            np.testing.assert_allclose(found[f"{name}_score"].sel(depth=depth), expected.values.detach())
            np.testing.assert_array_equal(found[f"{name}_top"].sel(depth=depth), expected.indices)
    np.testing.assert_array_equal(found["model_top"], model(data[3:]).logits.topk(4).indices)


def test_figures_of_merit_at_the_last_depth_are_those_of_the_model_itself():
    model, data, stream, lens = gpt()
    figures = lens.evaluate(model, data, samples=[3, 4], stream=stream)
    last = figures.sel(depth=2, lens="logit lens")
    assert (float(last["agreement"]), float(last["rank"])) == (1, 0)
    assert float(last["divergence"]) == pytest.approx(0, abs=1e-12)
    log = model(data[3:]).logits.log_softmax(-1)[:, 1:-1]
    per_sample = -(log.exp() * log).sum(-1).mean(1).detach().numpy()
    assert float(last["entropy"]) == pytest.approx(per_sample.mean())
    assert float(last["entropy_standard_error"]) == pytest.approx(per_sample.std(ddof=1) / 2**0.5)
    assert bool((figures["divergence"] >= 0).all())


def test_samples_of_the_fit_are_refused():
    model, data, stream, lens = gpt()
    with pytest.raises(InputError, match="sample 1 is one that the lens was fitted on"):
        lens.evaluate(model, data, samples=[3, 1], stream=stream)


def test_class_scores_are_exact_at_the_last_state():
    torch.manual_seed(0)
    net = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=3).double().eval()
    data = torch.randn(8, 3).double()
    stream = resdyn.find_stream(net, data)
    for to in ("logits", "final"):
        lens = resdyn.transport(net, data[:4], to=to, depths=[1, 2], stream=stream, show_progress=False)
        found = lens.readout(net, data[4:], top_k=3, stream=stream)
        np.testing.assert_allclose(found["lens_score"].sel(depth=2), found["model_score"])
        figures = lens.evaluate(net, data, samples=range(4, 8), stream=stream)
        assert float(figures["divergence"].sel(lens="lens", depth=2)) == pytest.approx(0, abs=1e-12)


def test_the_lens_of_another_model_is_refused():
    model, data, stream, _ = gpt()
    net = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=3).eval()
    other = resdyn.transport(net, torch.randn(2, 3), granularity="layer", show_progress=False)
    with pytest.raises(InputError, match="another model's lens"):
        other.readout(model, data, stream=stream)


def test_a_lens_of_the_same_derivative_everywhere_predicts_interventions_exactly():
    """A linear network: every sample has the mean's derivative, at any size."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(*(Linear() for _ in range(3))).double().eval()
    data = torch.randn(6, 4).double()
    stream = resdyn.find_stream(net, data)
    lens = resdyn.transport(net, data[:3], stream=stream, show_progress=False)
    found = lens.check(net, data, samples=[3, 4, 5], stream=stream)
    assert float(found["error"].max()) < 1e-9


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(4, 4)

    def forward(self, h):
        return h + self.map(h)


def test_small_interventions_are_predicted_by_the_samples_own_derivative_and_less_well_by_the_mean():
    model, data, stream, lens = gpt()
    found = lens.check(model, data, samples=[3, 4], sizes=[1e-3, 1.0], stream=stream)
    own = found["error"].sel(prediction="own derivative")
    mean = found["error"].sel(prediction="mean transport")
    assert float(own.sel(size=1e-3).max()) < 0.01
    assert bool((own.sel(size=1.0, depth=[0, 1]) > own.sel(size=1e-3, depth=[0, 1])).all())
    assert bool((mean.sel(size=1e-3, depth=[0, 1]) > own.sel(size=1e-3, depth=[0, 1])).all())
    with pytest.raises(InputError, match="was fitted on"):
        lens.check(model, data, samples=[0, 4], stream=stream)
    with pytest.raises(InputError, match="above 0"):
        lens.check(model, data, samples=[3, 4], sizes=[0], stream=stream)
