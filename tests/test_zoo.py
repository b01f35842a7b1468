"""The zoo: streams, derivatives and captures of many families of models, none of whose modules is named."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

import resdyn
from resdyn.errors import ResdynError
from resdyn.stream.jacobian import block_jacobian
from zoo import FAMILIES, PAGE_ONLY, fed, missing
from zoo_hooks import compared
from zoo_joins import joins_of_autograd

KNOWN = [family for family in FAMILIES if not family.refused and family.name not in PAGE_ONLY]
CAPTURED = list({family.kind: family for family in reversed(KNOWN)}.values())  # one of each kind; the page, all
HOOKED = [family for family in KNOWN if family.name in ("ViT", "Bert", "GPT2", "Mamba")]
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
    return family, fed(partial(resdyn.find_stream, model), x), x


@pytest.mark.filterwarnings("default")
def test_blocks_are_as_many_as_the_configuration_implies(found):
    family, stream, _ = found
    assert len(stream) == family.blocks
    assert {block.skip_kind for block in stream} <= {"identity", "projection", "concat"}


@pytest.mark.filterwarnings("default")
def test_jacobians_keep_the_contract(found):
    """Both products agree with each other (<Jv, u> = <v, J^T u>) and with central differences of the block.

    Beside the model's own state, which may lie on the kink of a ReLU (where all inputs of a unit are 0).
    """
    _, stream, x = found
    states = fed(stream.states, x).sample(0)
    for block in stream.blocks[:2]:
        generator, eps = torch.Generator().manual_seed(0), torch.finfo(block.precision).eps
        m, n = (math.prod(shape) for shape in (block.shape_out, block.shape_in))
        u, v, w = (torch.randn(size, 1, generator=generator, dtype=states[0].dtype) for size in (m, n, n))
        rms = states[block.index].square().mean().sqrt()
        h = states[block.index][0] + 0.1 * rms * w.reshape(block.shape_in)
        v *= rms
        operator = block_jacobian(block, "block", h.reshape(block.graph_shape_in), states.inputs, trace=False)
        forward, backward = operator.matmat(v), operator.rmatmat(u)
        scale = float(forward.norm() * u.norm() + backward.norm() * v.norm())
        assert abs(float((forward * u).sum() - (v * backward).sum())) <= eps ** (2 / 3) * scale
        step = eps ** (1 / 3)
        ends = [block.block(h + sign * step * v.reshape(h.shape), states.inputs) for sign in (1, -1)]
        difference = (ends[0] - ends[1]).reshape(-1, 1) / (2 * step)
        assert float((difference - forward).norm()) <= 0.01 * float(forward.norm())


@pytest.mark.filterwarnings("default")
def test_autograd_shows_as_many_joins(found):
    """Sums of what weights compute to what they compute it from, counted without our graph."""
    family, stream, _ = found
    if family.name in ("FNet", "DenseNet"):
        pytest.skip("That count leaves out sums of a Fourier transform, which has no weights, and concatenations.")
    model, x = family.built(torch.float64 if family.double else torch.float32)
    assert len(stream) in joins_of_autograd(model, x)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("found", HOOKED, ids=names, indirect=True)
def test_states_and_jacobians_are_those_of_hooks_and_autograd(found):
    _, stream, x = found
    comparison = compared(stream.model, stream, x)
    assert comparison.seen == comparison.states
    assert comparison.products >= 3
    assert comparison.error < 1e-13


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("found", CAPTURED, ids=names, indirect=True)
def test_captures_hold_states_and_singular_values(found, tmp_path):
    _, stream, x = found
    probes = "trajectory,singular(k=3)"
    store = tmp_path / "zoo.zarr"
    measured = resdyn.capture(
        stream.model, (x, torch.tensor([0])), probes, store, samples=1, stream=stream, show_progress=False
    )
    assert np.isfinite(measured["singular_values"].values).all()
    assert measured.sizes["block"] == len(stream)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("family", REFUSED, ids=names)
def test_what_has_no_stream_is_refused_in_one_line(family):
    if reason := missing(family.package):
        pytest.skip(reason)
    model, x = family.built(torch.float32)
    with pytest.raises(ResdynError, match=family.refused) as refusal:
        fed(partial(resdyn.find_stream, model), x)
    assert "\n" not in str(refusal.value)
