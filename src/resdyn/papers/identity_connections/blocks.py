"""Section 5: interlayer cushions of fully-fledged blocks, and how the paper's may have come about.

A branch of convolutions and batch norms whose norms take the statistics of the sample itself (train mode, batches of
one) does not change when its input is scaled, so J x = 0 up to the norms' epsilon: the cushion of a plain block is
then tiny by Euler's theorem, whatever its noise stability. In eval mode, as everywhere in resdyn, this does not happen.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resdyn import metrics
from resdyn.data import ImageData
from resdyn.linalg import frobenius_norm
from resdyn.papers import pictures
from resdyn.papers.identity_connections.networks import KINDS, fledged, pretrained, watched
from resdyn.papers.identity_connections.watch import flow_layers
from resdyn.papers.lab import Lab, Scale
from resdyn.stream import JacobianOperator

FloatArray = NDArray[np.float64]
IMAGES: dict[Scale, int] = {"tiny": 2, "small": 10, "paper": 100}
INSIDE = 8  # intermediate values of a block, in states


def run(lab: Lab) -> None:
    """The cushion of every block in eval mode; of the middle one also with the sample's own batch statistics."""
    rows = {}
    for kind in KINDS:
        network, _ = watched(lab, fledged(lab.scale, kind))
        rows[kind] = _record(lab, f"fledged.{kind}", network.model, network.data)
    for layers, model, data in pretrained(lab)[:1]:
        rows[f"pretrained {layers}"] = _record(lab, f"pretrained.{layers}", model, data)
    for way, column in (("ratio", 0), ("own_ratio", 1)):
        ratio = rows["residual"][column] / rows["plain"][column]
        lab.record(f"fledged.{way}", ratio[:, ratio.shape[1] // 2], "training images", "residual over plain")
    lines = [pictures.series(kind, np.arange(1, v.shape[1] + 1), v.mean(0), v.std(0)) for kind, (v, _) in rows.items()]
    title = "interlayer cushions of fully-fledged blocks, mean and spread over images"
    lab.picture("blocks", pictures.lines(title, "section 5", lines, "block", "cushion"))
    lines = [pictures.series(kind, np.arange(1, v.shape[1] + 1), v.mean(0)) for kind, (_, v) in rows.items()]
    title = "the same with each sample's own batch statistics"
    lab.picture("own", pictures.lines(title, "section 5", lines, "block", "cushion", log=True))


def block_cushions(model: nn.Module, inputs: Tensor, own_statistics: bool) -> FloatArray:
    """Interlayer cushions (image, block) of a fully-fledged network, skips and gates included."""
    paths, _ = flow_layers(model)
    states: list[Tensor] = []
    hooks = [
        model.get_submodule(path).register_forward_pre_hook(lambda _, args: states.append(args[0])) for path in paths
    ]
    with torch.no_grad():
        model.eval()(inputs)
    for hook in hooks:
        hook.remove()
    blocks = [model.get_submodule(path) for path in paths]
    if own_statistics:
        blocks = [with_own_statistics(block) for block in blocks]
    return np.array(
        [[cushion(b, h[n], seed=n) for b, h in zip(blocks, states, strict=True)] for n in range(len(inputs))]
    )


def cushion(block: nn.Module, state: Tensor, seed: int) -> float:
    """mu(x) of one block at one state."""
    jacobian = JacobianOperator(lambda h: block(h[None])[0], state, INSIDE * state.numel())
    x = state.detach().reshape(-1)
    norm, product = frobenius_norm(jacobian, seed=seed).value, float(jacobian.matvec(x).double().norm())
    return float(metrics.interlayer_cushion(product, norm, float(x.double().norm()), x.numel()))


def with_own_statistics(block: nn.Module) -> nn.Module:
    """A copy whose batch norms take mean and variance from their input, as in train mode, and remember nothing."""
    twin = copy.deepcopy(block)
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return twin


def _record(lab: Lab, key: str, model: nn.Module, data: ImageData) -> tuple[FloatArray, FloatArray]:
    """Cushions in eval mode and with own statistics."""
    model.requires_grad_(False)
    inputs = data.inputs(range(min(IMAGES[lab.scale], len(data)))).to(next(model.parameters()))
    found = block_cushions(model, inputs, False), block_cushions(model, inputs, True)
    middle = found[0].shape[1] // 2
    where = f"block {middle + 1} of {found[0].shape[1]}"
    lab.record(key, found[0][:, middle], "images", where)
    lab.record(f"{key}.own", found[1][:, middle], "images", f"{where}, batch norm by the sample's own statistics")
    return found
