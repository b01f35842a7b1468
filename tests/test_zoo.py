"""The zoo: streams, derivatives and captures of many families of models, none of whose modules is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import resdyn
from resdyn.errors import ResdynError
from zoo import FAMILIES, missing

KNOWN = [family for family in FAMILIES if not family.refused]
REFUSED = [family for family in FAMILIES if family.refused]


def names(family):
    return family.name


@pytest.fixture(scope="module", params=KNOWN, ids=names)
def found(request):
    """A family, its stream and its input, in float64 where its model can."""
    family = request.param
    if reason := missing(family.package):
        pytest.skip(reason)
    model, x = family.built(torch.float64 if family.double else torch.float32)
    return family, resdyn.find_stream(model, x), x


@pytest.mark.filterwarnings("default")
def test_blocks_are_as_many_as_the_configuration_implies(found):
    family, stream, _ = found
    assert len(stream) == family.blocks
    assert {block.skip_kind for block in stream} <= {"identity", "projection"}


@pytest.mark.filterwarnings("default")
def test_jacobians_keep_the_contract(found):
    """Both products agree with each other (<Jv, u> = <v, J^T u>) and with central differences of the block."""
    _, stream, x = found
    states = stream.states(x).sample(0)
    for block in stream.blocks[:2]:
        h, eps = states[block.index], torch.finfo(block.precision).eps
        operator = stream.jacobian(block.index, states, "block")
        generator = torch.Generator().manual_seed(0)
        v, u = (torch.randn(n, 1, generator=generator, dtype=h.dtype) for n in operator.shape[::-1])
        forward, backward = operator.matmat(v), operator.rmatmat(u)
        scale = float(forward.norm() * u.norm() + backward.norm() * v.norm())
        assert abs(float((forward * u).sum() - (v * backward).sum())) <= eps ** (2 / 3) * scale
        step = eps ** (1 / 3) * v.reshape(h.shape)
        ends = block.block(h + step, states.inputs) - block.block(h - step, states.inputs)
        difference = ends.reshape(-1, 1) / (2 * eps ** (1 / 3))
        assert float((difference - forward).norm()) <= 0.01 * float(forward.norm())


@pytest.mark.filterwarnings("default")
def test_captures_hold_states_and_singular_values(found, tmp_path):
    _, stream, x = found
    probes = "trajectory,singular(k=3)"
    store = tmp_path / "zoo.zarr"
    measured = resdyn.capture(stream.model, (x, torch.tensor([0])), probes, store, samples=1, stream=stream, quiet=True)
    assert np.isfinite(measured["singular_values"].values).all()
    assert measured.sizes["block"] == len(stream)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("family", REFUSED, ids=names)
def test_what_has_no_stream_is_refused_in_one_line(family):
    if reason := missing(family.package):
        pytest.skip(reason)
    model, x = family.built(torch.float32)
    with pytest.raises(ResdynError, match=family.refused) as refusal:
        resdyn.find_stream(model, x)
    assert "\n" not in str(refusal.value)
