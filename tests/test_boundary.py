"""Points on the classification boundary, on classifiers whose boundary is known."""

import pytest
import torch
from torch import nn

import resdyn
from resdyn.errors import InputError


@pytest.fixture
def halves():
    """Class 1 where the coordinates sum to more than 1."""
    model = nn.Linear(3, 2).eval()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
        model.bias.copy_(torch.tensor([0.0, -1.0]))
    return model


def test_points_lie_on_the_plane_and_on_their_segments(halves):
    generator = torch.Generator().manual_seed(0)
    start, end = -torch.rand(20, 3, generator=generator), 1 + torch.rand(20, 3, generator=generator)
    points, margins = resdyn.boundary_points(halves, start, end)
    assert (points.sum(1) - 1).abs().max() < 1e-6
    assert margins.abs().max() < 1e-6
    share = (points - start) / (end - start)
    assert (share - share.mean(1, keepdim=True)).abs().max() < 1e-6


def test_points_are_just_beyond_the_boundary(halves):
    """So that the class there is another than at the start, in float64 to its rounding."""
    model = halves.double()
    start, end = torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    points, margins = resdyn.boundary_points(model, start, end)
    assert int(model(points).argmax()) == int(model(end).argmax())
    assert 0 <= margins.item() < 1e-15


def test_they_are_measured_like_any_other_inputs(tmp_path):
    torch.manual_seed(0)
    model = resdyn.nets.ResidualMLP((6,), width=8, depth=2, classes=3).eval()
    x = 5 * torch.randn(60, 6)
    found = model(x).argmax(1)
    first = int((found == found[0]).nonzero()[0])
    other = int((found != found[0]).nonzero()[0])
    points, margins = resdyn.boundary_points(model, x[[first]], x[[other]])
    assert margins.item() < 1e-5
    ds = resdyn.capture(
        model, (points, found[[first]]), "singular(k=2)", tmp_path / "s.zarr", samples=1, show_progress=False
    )
    assert bool(ds["singular_converged"].all())


def test_what_has_no_boundary_is_refused(halves):
    zero, one = torch.zeros(2, 3), torch.ones(2, 3)
    with pytest.raises(InputError, match=r"one class at both ends of segments \[0, 1\]"):
        resdyn.boundary_points(halves, zero, zero)
    with pytest.raises(InputError, match="expected"):
        resdyn.boundary_points(halves, zero, one[:1])
    with pytest.raises(InputError, match="training mode"):
        resdyn.boundary_points(halves.train(), zero, one)
    with pytest.raises(InputError, match="expected logits"):
        resdyn.boundary_points(nn.Linear(3, 1).eval(), zero, one)
