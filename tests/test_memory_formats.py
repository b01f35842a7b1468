"""Group norm in channels_last (torch 2.13.0, CPU; findings/torch_group_norm_loses_its_variance_in_channels_last.sh)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import resdyn
from resdyn.data import load_data
from resdyn.errors import ComputationError, InputError
from resdyn.training import Recipe, train


class Step(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.inner = nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, h):
        return h + self.inner(torch.relu(self.norm(h)))


def network(mean, dtype=torch.float32):
    """Two blocks whose states have a mean."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Step(), Step()).to(dtype).eval()
    nn.init.constant_(model[0].bias, mean)
    return model, torch.randn(2, 3, 6, 6, dtype=dtype)


@pytest.mark.parametrize("mean", [30.0, 300.0, 3000.0])
def test_a_group_norm_that_loses_its_variance_is_refused_with_its_reason(mean):
    model, x = network(mean)
    with pytest.raises(ComputationError, match="2 of the 2 group norms of Sequential give other numbers than in the"):
        resdyn.find_stream(model.to(memory_format=torch.channels_last), x)


@pytest.mark.parametrize("mean", [30.0, 300.0])
def test_the_way_out_is_the_contiguous_format(mean):
    model, x = network(mean)
    model.to(memory_format=torch.channels_last).to(memory_format=torch.contiguous_format)
    assert len(resdyn.find_stream(model, x)) == 2


def test_derivatives_that_rounding_spoils_are_refused_and_float64_is_the_way_out():
    model, x = network(3000.0)
    with pytest.raises(ComputationError, match=r"may round as much: try model\.double\(\)"):
        resdyn.find_stream(model, x)
    assert len(resdyn.find_stream(model.double(), x.double())) == 2


def test_the_format_does_not_matter_where_nothing_is_lost():
    for model, x in (network(1.0), network(300.0, torch.float64)):
        assert len(resdyn.find_stream(model.to(memory_format=torch.channels_last), x)) == 2


def test_a_network_with_group_norms_is_not_trained_in_channels_last():
    recipe = Recipe(epochs=1, memory_format="channels_last")
    with pytest.raises(InputError, match="for a network with group norms, which lose the variance"):
        train(nn.Sequential(nn.GroupNorm(1, 1), nn.Flatten(), nn.Linear(64, 10)), load_data("digits", "train"), recipe)
