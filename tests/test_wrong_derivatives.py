"""Operations whose forward-mode derivative in torch is wrong are replaced by others, or refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import resdyn
from resdyn.errors import ComputationError
from resdyn.stream.ops import operation
from resdyn.stream.rewrite import plain_logcumsumexp
from resdyn.stream.verify import _wrong_derivative


class LogScan(nn.Module):
    """The parallel scan of recurrent networks in log space."""

    def __init__(self, scale):
        super().__init__()
        self.inner, self.scale = nn.Linear(4, 4), scale

    def forward(self, h):
        return h + torch.tanh(torch.logcumsumexp(self.scale * self.inner(h), 1))


@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_cumulative_sums_in_log_space_have_their_derivative_in_both_products(scale):
    """torch 2.13.0: forward mode loses terms; findings/torch_logcumsumexp_loses_its_forward_derivative.sh."""
    torch.manual_seed(0)
    model = nn.Sequential(LogScan(scale), LogScan(scale)).double().eval()
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    stream = resdyn.find_stream(model, x)
    assert len(stream) == 2
    states = stream.states(x)
    exact = torch.autograd.functional.jacobian(model[1], states[1]).reshape(24, 24)
    jacobian = stream.jacobian(1, states, "block")
    torch.testing.assert_close(jacobian.to_dense(), exact)
    torch.testing.assert_close(jacobian.T.to_dense(), exact.T)


def test_nothing_summed_in_log_space_has_the_derivative_zero():
    x = torch.tensor([-torch.inf, -torch.inf, 0.5, -torch.inf, 2.0, 1.0], dtype=torch.float64)
    expected = torch.logcumsumexp(x, 0)
    torch.testing.assert_close(plain_logcumsumexp(x, 0), expected)
    found = torch.func.jacrev(lambda x: plain_logcumsumexp(x, 0))(x)
    exact = (x - expected[:, None]).nan_to_num(-torch.inf).exp().tril()
    exact[0, 0] = 1  # the first sum is its only term
    torch.testing.assert_close(found, exact)
    torch.testing.assert_close(torch.func.jacfwd(lambda x: plain_logcumsumexp(x, 0))(x), found)


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.index = nn.Linear(4, 4), torch.tensor([0, 0, 1, 1])

    def forward(self, h):
        factors = torch.sigmoid(self.inner(h))
        return h + factors.scatter_reduce(1, self.index.expand_as(h), factors, "prod")


def test_products_by_scatter_reduce_are_refused_with_their_reason():
    """torch 2.13.0 gives them the derivative zero in forward mode (pytorch #196702)."""
    with pytest.raises(ComputationError, match=r"products by scatter_reduce the derivative zero in forward mode"):
        resdyn.find_stream(nn.Sequential(Product(), Product()).eval(), torch.randn(1, 4))


def test_sums_by_scatter_reduce_are_not_blamed_for_another_operation():
    class Summed(Product):
        def forward(self, h):
            terms = torch.sigmoid(self.inner(h))
            return h + terms.scatter_reduce(1, self.index.expand_as(h), terms, "sum")

    stream = resdyn.find_stream(nn.Sequential(Summed(), Summed()).eval(), torch.randn(1, 4))
    assert any(operation(node) == "scatter_reduce" for node in stream[0].nodes)
    assert "scatter_reduce" not in _wrong_derivative(stream[0])
