"""Rounded products: how far they are off is measured, recorded, and refused where it is too much."""

import pytest
import torch

import resdyn
from resdyn.errors import ComputationError, InputError
from resdyn.transporting import rounding


@pytest.fixture(scope="module")
def fitted():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, "use_cache": False}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, bos_token_id=1, eos_token_id=2, **sizes)).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    data = torch.randint(3, 40, (4, 7))
    asked = {"skip_first": 1, "stream": resdyn.find_stream(model, data, granularity="layer"), "show_progress": False}
    return model, data, asked


def test_their_error_is_recorded_and_is_that_of_the_mean(fitted):
    model, data, asked = fitted
    exact = resdyn.transport(model, data[:2], **asked)
    rounded = resdyn.transport(model, data[:2], products="bfloat16", **asked)
    errors = [float((rounded[depth] - exact[depth]).norm() / exact[depth].norm()) for depth in exact]
    assert 1e-5 < max(errors) < 0.02
    assert rounded.dataset.attrs["products_error"] == pytest.approx(max(errors), rel=1e-3)
    assert rounded.dataset.attrs["products"] == "bfloat16"
    assert "products" not in exact.dataset.attrs
    assert rounded[0].dtype == torch.float32
    other = resdyn.transport(model, data[2:], **asked)
    with pytest.raises(InputError, match="differ in products"):
        resdyn.merge_transports([rounded, other])


def test_too_large_an_error_and_other_precisions_are_refused(fitted, monkeypatch):
    model, data, asked = fitted
    monkeypatch.setattr(rounding, "LIMIT", 1e-6)
    with pytest.raises(ComputationError, match="products in bfloat16 change the transport of the first samples by"):
        resdyn.transport(model, data, products="bfloat16", **asked)
    with pytest.raises(InputError, match="got products='int8'"):
        resdyn.transport(model, data, products="int8", **asked)
    net = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).double().eval()
    with pytest.raises(InputError, match="expected one in single precision"):
        resdyn.transport(net, torch.randn(3, 3).double(), products="bfloat16", show_progress=False)
