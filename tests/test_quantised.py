"""Quantised weights of every library are refused with the way out, and decoded weights are measured.

Why they are not measured as they are: in torchao 0.18.0 a layer with int8 activations gives its input no gradient and
raises nothing, so that the Jacobian of a residual block would be the identity; source:
`findings/torchao_int8_activations_cut_the_gradient.sh`.
"""

from __future__ import annotations

import re
import types

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import resdyn
from resdyn.errors import ComputationError, InputError


class Block(nn.Module):
    """h + W tanh(h)."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, h):
        return h + self.linear(torch.tanh(h))


class Wrapper(Tensor):
    """A tensor made of another one, which operations take in its place."""

    @staticmethod
    def __new__(cls, inner):
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=torch.float32)

    def __init__(self, inner):
        self.inner = inner

    def __tensor_flatten__(self):
        return ["inner"], None

    @classmethod
    def __tensor_unflatten__(cls, tensors, *_):
        return cls(tensors["inner"])

    @classmethod
    def __torch_dispatch__(cls, function, kinds, args=(), kwargs=None):
        plain = pytree.tree_map_only(cls, lambda wrapped: wrapped.value(), (args, kwargs or {}))
        result = function(*plain[0], **plain[1])
        return args[0] if function is torch.ops.aten.detach.default else result

    def value(self):
        return self.inner


class Int8(Wrapper):
    """Whole numbers with one scale, as torchao keeps them."""

    def value(self):
        return 0.01 * self.inner.float()

    def dequantize(self):
        return self.value()


class Codes(nn.Parameter):
    """A parameter of whole numbers, as bitsandbytes keeps them."""


class CodedLinear(nn.Module):
    def __init__(self, plain):
        super().__init__()
        self.weight, self.bias = Codes((100 * plain.weight).to(torch.int8), requires_grad=False), plain.bias

    def forward(self, h):
        return nn.functional.linear(h, 0.01 * self.weight.float(), self.bias)


def network():
    torch.manual_seed(0)
    return nn.Sequential(Block(), Block(), nn.Linear(8, 3)).eval()


def with_weights(change):
    model = network()
    for block in model[:2]:
        block.linear.weight = nn.Parameter(change(block.linear.weight.detach()), requires_grad=False)
    return model


def coded():
    model = network()
    for block in model[:2]:
        block.linear = CodedLinear(block.linear)
    return model


def int8():
    return with_weights(lambda weight: Int8((100 * weight).to(torch.int8)))


X = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("make", "name"), [(int8, "Int8"), (coded, "Codes")], ids=["wrapper", "codes"])
def test_quantised_weights_are_refused_with_the_way_out(make, name):
    model = make()
    model(X)
    with pytest.raises(
        InputError, match=rf"'0.linear.weight' is quantised \({name} of \w+\).*before its.*decode"
    ) as refusal:
        resdyn.find_stream(model, X)
    assert "\n" not in str(refusal.value)


def test_decoded_weights_are_measured():
    quantised = int8()
    decoded = network()
    for block, other in zip(decoded[:2], quantised[:2], strict=True):
        block.linear.weight = nn.Parameter(other.linear.weight.dequantize())
    torch.testing.assert_close(decoded(X), quantised(X))
    stream = resdyn.find_stream(decoded, X)
    weight, h = decoded[0].linear.weight.detach(), X[:1]
    expected = torch.eye(8) + weight * (1 - torch.tanh(h) ** 2)
    torch.testing.assert_close(stream.jacobian(0, stream.states(h), kind="block").to_dense(), expected)


def test_a_tensor_that_wraps_another_is_not_called_quantised():
    from resdyn.stream.refusals import unusual

    assert unusual(Wrapper(torch.eye(2))) == ""
    assert unusual(nn.Parameter(torch.arange(3), requires_grad=False)) == ""


ROUNDED = {
    "round": lambda h: torch.round(8 * h) / 8,
    "sign": torch.sign,
    "detach": torch.detach,
    "int8": lambda h: torch.round(8 * h).to(torch.int8).float() / 8,
    "codes": lambda h: nn.functional.one_hot(h.argmax(-1), 8).float(),
}
PASSED = {
    "nothing": lambda h: h,
    "straight through": lambda h: h + (torch.round(8 * h) / 8 - h).detach(),
}


def rounding(how):
    model = network()
    for block in model[:2]:
        block.forward = types.MethodType(lambda self, h: h + self.linear(how(h)), block)
    return model


@pytest.mark.parametrize("how", ROUNDED)
def test_a_branch_without_derivative_is_noted(how):
    model = rounding(ROUNDED[how])
    stream = resdyn.find_stream(model, X)
    (note,) = (note for note in stream.notes if "derivative zero" in note)
    assert re.search(r"in blocks 0 \(0\), 1 \(1\) has the derivative zero, so that only the skip's is left", note)
    states = stream.states(X[:1])
    assert torch.equal(stream.jacobian(1, states, kind="block").to_dense(), torch.eye(8))
    whole = how in ("int8", "codes")
    assert [block.skip_kind for block in stream] == ["none" if whole else "identity"] * 2
    assert any("leads back to its state through floating-point values" in note for note in stream.notes) is whole


@pytest.mark.parametrize("how", PASSED)
def test_a_branch_with_a_derivative_is_not_noted(how):
    assert resdyn.find_stream(rounding(PASSED[how]), X).notes == ()


def test_a_derivative_that_rounding_hides_is_not_called_zero():
    model = rounding(lambda h: h)
    for block in model[:2]:
        block.linear.weight.data *= 1e-10
        block.linear.bias.data *= 1e-10
    pair = nn.Sequential(nn.ZeroPad1d((0, 4)), *model).eval()
    assert resdyn.find_stream(pair, X[:, :4]).notes == ()


def test_an_operation_whose_gradient_torch_func_cannot_take_is_named_so():
    """Fake quantisation of activations in torchao is such a one: a Function in the style without setup_context."""

    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.round(x)

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    library = torch.library.Library("resdyn_quantised", "FRAGMENT")
    library.define("rounded(Tensor x) -> Tensor")
    library.impl("rounded", Rounded.apply, "CompositeImplicitAutograd")
    model = network()
    model[0].forward = types.MethodType(
        lambda self, h: h + self.linear(torch.ops.resdyn_quantised.rounded.default(8 * h) / 8), model[0]
    )
    with pytest.raises(ComputationError, match=r"block 0.*torch.autograd.Function without setup_context.*was refused"):
        resdyn.find_stream(model, X)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_models_of_torchao_are_refused_and_measured_once_decoded(kind):
    quantization = pytest.importorskip("torchao.quantization", reason="needs torchao, which no extra installs")
    model = network()
    quantization.quantize_(model, getattr(quantization, kind)())
    with pytest.raises(InputError, match=r"is quantised \(Int8Tensor of torchao\)"):
        resdyn.find_stream(model, X)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.weight = nn.Parameter(layer.weight.dequantize())
    assert len(resdyn.find_stream(model, X)) == 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [4, 8])
def test_models_of_bitsandbytes_are_refused_and_measured_once_decoded(bits, tmp_path):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes, which no extra installs")
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    how = transformers.BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path, quantization_config=how, device_map="cpu").eval()
    ids = torch.arange(8)[None]
    with pytest.raises(InputError, match=r"is quantised \(\w+ of bitsandbytes\).*model.dequantize\(\)"):
        resdyn.find_stream(model, ids)
    assert len(resdyn.find_stream(model.dequantize(), ids)) == 2
