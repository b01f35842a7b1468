"""What cannot be measured is refused for its true reason, in one line, and never as a model that does not run."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn
from torch.nn.attention.flex_attention import flex_attention

import resdyn
from resdyn.errors import ComputationError, InputError


class Block(nn.Module):
    """h + tanh(branch(h))."""

    def __init__(self, branch=None):
        super().__init__()
        self.a = nn.Linear(6, 6) if branch is None else branch

    def forward(self, x):
        return x + torch.tanh(self.a(x))


class Product(nn.Module):
    """x W^T by a weight of any kind."""

    def __init__(self, weight, product):
        super().__init__()
        self.weight, self.product = weight, product

    def forward(self, x):
        return self.product(self.weight, x)


class Branching(Block):
    def forward(self, x):
        return super().forward(x) if x.sum().item() > 0 else x


class Wrapped(nn.Module):
    """A function of a network's output."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner, self.function = inner, function
        self.eval()

    def forward(self, x):
        return self.function(self.inner(x))


def net(block):
    return nn.Sequential(block(), block(), nn.Linear(6, 3)).eval()


def of_weight(weight, product):
    return net(lambda: Block(Product(weight, product)))


def sparse(layout):
    dense = torch.eye(6)
    return dense.to_sparse_csr() if layout == "csr" else dense.to_sparse_coo()


def quantized():
    model = net(Block)
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})


def by_sparse(weight, x):
    return torch.sparse.mm(weight, x.T).T


def by_rounded(weight, x):
    return x @ weight.dequantize()


def single_values():
    """Groups of one value: torch refuses them for one sample, and takes them for several."""
    middle = nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.GroupNorm(6, 6), nn.Flatten(), nn.Linear(6, 6))
    return net(lambda: Block(middle))


def complex_states():
    def rotated():
        return Product(torch.eye(6) + 0.1j, lambda weight, x: x + x.to(weight.dtype) @ weight)

    return nn.Sequential(rotated(), rotated()).eval()


REFUSED = {
    "meta device": (lambda: net(Block).to("meta"), "'0.a.weight' is on the meta device.*load the weights"),
    "partly on the meta device": (lambda: nn.Sequential(Block(), Block().to("meta")).eval(), "'1.a.weight' is on"),
    "CSR parameter": (
        lambda: of_weight(nn.Parameter(sparse("csr"), requires_grad=False), by_sparse),
        "layout sparse_csr.*to_dense",
    ),
    "COO attribute": (lambda: of_weight(sparse("coo"), by_sparse), "layout sparse_coo.*to_dense"),
    "traced": (lambda: torch.jit.trace(net(Block), torch.zeros(2, 6)), "TorchScript.*that it was made from"),
    "scripted part": (lambda: net(lambda: Block(torch.jit.script(nn.Linear(6, 6)))), "0.a.*TorchScript"),
    "dynamic quantisation": (quantized, "0.a.*quantised.*before its quantisation"),
    "quantised tensor": (
        lambda: of_weight(torch.quantize_per_tensor(torch.eye(6), 0.1, 0, torch.qint8), by_rounded),
        "'0.a.weight' is quantised",
    ),
    "lazy": (lambda: net(lambda: Block(nn.LazyLinear(6))), "layer is lazy.*run the model once"),
    "complex states": (complex_states, "sums are of complex values.*view_as_real"),
    "one sample alone": (single_values, "runs on several samples, but not on one alone"),
    "sparse in a list": (
        lambda: of_weight([sparse("coo")], lambda weights, x: by_sparse(weights[0], x)),
        "layout sparse_coo.*to_dense",
    ),
    "no tensor returned": (lambda: Wrapped(net(Block), iter), "returns no tensors, alone or in a tuple"),
    "no stream": (lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU()).eval(), "no residual stream"),
}


@pytest.mark.filterwarnings("ignore")  # torch announces the end of TorchScript, of its quantisation, of nested tensors
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", REFUSED)
def test_a_model_is_refused_for_its_true_reason(name, batch):
    make, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as refusal:
        resdyn.find_stream(make(), torch.randn(batch, 6))
    assert "\n" not in str(refusal.value)
    assert "does not run" not in str(refusal.value)


def test_a_derivative_that_rounding_hides_is_measured_in_float64():
    """A group norm of two values gives 1 and -1, whatever they are."""
    middle = nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.GroupNorm(3, 6), nn.Flatten(), nn.Linear(6, 6))
    torch.manual_seed(0)
    model, x = net(lambda: Block(middle)), torch.randn(2, 6)
    with pytest.raises(ComputationError, match=r"rounding in torch.float32 hides it.*model\.double\(\)"):
        resdyn.find_stream(model, x)
    assert len(resdyn.find_stream(model.double(), x.double())) == 2


def doubled(y):
    y.data = 2 * y.data
    return y


def drawn(y):
    return y * random.random()


def of_function(function):
    return net(lambda: Block(Wrapped(nn.Linear(6, 6), function)))


WHY = {
    "the example": (lambda: net(Block), torch.nan, r"NaN or infinity there: check its inputs"),
    "what torch does not see": (lambda: of_function(doubled), 1.0, r"same output twice.*\.data"),
    "chance": (lambda: of_function(drawn), 1.0, r"differs from pass to pass"),
}


@pytest.mark.parametrize("name", WHY)
def test_why_a_graph_gives_other_values_is_said(name):
    make, scale, reason = WHY[name]
    with pytest.raises(ComputationError, match=reason):
        resdyn.find_stream(make(), scale * torch.randn(2, 6))


def test_a_solver_is_measured_for_several_samples():
    """What torch batches otherwise than it traced it is evaluated sample by sample."""
    solve = Product(torch.eye(6) * 3 + 0.1, lambda weight, x: torch.linalg.solve(weight, x.unsqueeze(-1)).squeeze(-1))
    model, x = net(lambda: Block(solve)), torch.randn(3, 6)
    torch.testing.assert_close(resdyn.find_stream(model, x).states(x).output, model(x).detach())


def test_control_flow_that_depends_on_values_is_named_with_its_line():
    with pytest.raises(ComputationError, match=r"runs, but.*in 0 \(Branching\).*x\.sum\(\)\.item\(\).*on values"):
        resdyn.find_stream(net(Branching), torch.randn(4, 6))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_samples_of_different_shapes_are_refused(layout):
    ragged = torch.nested.nested_tensor([torch.randn(2, 6), torch.randn(3, 6)], layout=layout)
    with pytest.raises(InputError, match=r"nested.*to_padded_tensor"):
        resdyn.find_stream(net(Block), ragged)


def test_an_argument_that_cannot_be_cut_into_samples_is_refused_by_its_kind():
    class Cached(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net(Block)

        def forward(self, x, cache=None):
            return self.net(x)

    with pytest.raises(InputError, match=r"argument of type set.*keys and values"):
        resdyn.find_stream(Cached().eval(), torch.randn(2, 6), cache={1})


def test_parameters_of_any_dtype_are_measured():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.order = nn.Parameter(torch.randperm(6), requires_grad=False)
            self.small = nn.Parameter(torch.randn(6, 6).to(torch.float8_e4m3fn), requires_grad=False)
            self.spectrum = nn.Parameter(torch.randn(6, 6, dtype=torch.complex64))

        def forward(self, x):
            moved = x[:, self.order] @ self.small.to(x.dtype)
            return x + torch.tanh((moved.to(torch.complex64) @ self.spectrum).real)

    torch.manual_seed(0)
    model, x = Mixed().eval(), torch.randn(3, 6)
    stream = resdyn.find_stream(model, x)
    expected = torch.autograd.functional.jacobian(lambda h: (model(h) - h)[0], x[:1])[:, 0]
    torch.testing.assert_close(stream.jacobian(0, stream.states(x).sample(0)).to_dense(), expected)


def test_padding_is_measured_on_the_path_that_has_derivatives():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2).double().eval()
    x, mask = torch.randn(2, 4, 8, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.bool)
    mask[:, 3] = True
    stream = resdyn.find_stream(model, x, src_key_padding_mask=mask)
    output = stream.states(x, src_key_padding_mask=mask).output
    torch.testing.assert_close(output, model(x, src_key_padding_mask=mask).detach())  # with gradients: the slow path
    with torch.no_grad():
        fast = model(x, src_key_padding_mask=mask)
    torch.testing.assert_close(output[:, :3], fast[:, :3])
    assert torch.backends.mha.get_fastpath_enabled()


def test_flexible_attention_is_measured_by_plain_operations():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(16, 48)
            self.bias = nn.Parameter(torch.randn(4, 4))

        def forward(self, x):
            q, k, v = (part[:, None] for part in self.qkv(x).chunk(3, -1))
            mixed = flex_attention(q, k, v, score_mod=lambda score, b, h, i, j: score + self.bias[i, j])
            return x + mixed[:, 0]

    torch.manual_seed(0)
    model, x = nn.Sequential(Attention(), Attention()).double().eval(), torch.randn(2, 4, 16, dtype=torch.float64)
    with torch.no_grad():
        stream = resdyn.find_stream(model, x)

    def by_hand(h):
        q, k, v = model[0].qkv(h).chunk(3, -1)
        return torch.softmax(q @ k.transpose(1, 2) / 4 + model[0].bias, -1) @ v

    expected = torch.autograd.functional.jacobian(by_hand, x[:1]).reshape(64, 64)
    torch.testing.assert_close(stream.jacobian(0, stream.states(x).sample(0)).to_dense(), expected)


class Unpooled(nn.Module):
    """h + unpool(f(pool(h))), as in SegNet; windows of 3 at distances of 2 share maxima."""

    def __init__(self, stride):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head, self.stride = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(2, 2), stride
        self.f = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))

    def forward(self, x):
        h = self.stem(x)
        for f in self.f:
            y, places = nn.functional.max_pool2d(h, 3, self.stride, return_indices=True)
            h = h + nn.functional.max_unpool2d(f(y), places, 3, self.stride, output_size=h.shape[-2:])
        return self.head(h.mean((2, 3)))


def test_unpooling_of_windows_that_overlap_is_refused_for_its_gradient_in_torch_2_13():
    # github.com/pytorch/pytorch/issues/80204
    x = torch.randn(1, 1, 9, 9)
    assert len(resdyn.find_stream(Unpooled(stride=3).eval(), x)) == 2
    with pytest.raises(ComputationError, match="maximum that several windows share once per window"):
        resdyn.find_stream(Unpooled(stride=2).eval(), x)
