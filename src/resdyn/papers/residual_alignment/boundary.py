"""Footnote 3: on the classification boundary the growth of RA4 becomes exponential.

The paper shows no figure for it. Our reading: with J_i = s_i u u^T the part of a state along u grows by
g_k = prod_{i < k} (1 + s_i), which is k at training points where s_i = 1/i, and exponential in k where all s_i are
equal, as at the optimum of the Unconstrained Jacobians Model, whose Jacobians are those at a boundary point. So we
compare how well a line fits log g_k, and how well one fits g_k, in the last half of the blocks. Beside it is the
other reading, the fall of s_i itself: a line through log s_i against a line through 1/s_i.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn import boundary_points, metrics, svd
from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Trained
from resdyn.papers.residual_alignment.classes import subset_case
from resdyn.papers.residual_alignment.networks import TYPES, main_cases

PAIRS = {"tiny": 3, "small": 20, "paper": 45}
NULL_PAIRS = 3  # of an untrained network, whose top values take longest
SEED = 0


def run(lab: Lab) -> None:
    """Top singular values at boundary points between two training images, and at these images, for type 1.

    Between two of many classes the top two logits are equal there; with two classes in all, both can be zero.
    """
    type1 = [(label, chosen) for label, chosen in main_cases(lab.scale) if chosen.network == TYPES["type1"]]
    for label, chosen in [*type1, ("binary", subset_case(lab, 2))]:
        network = lab.trained(chosen)
        wanted = NULL_PAIRS if lab.null else PAIRS[lab.scale]
        pairs = torch.tensor(list(itertools.islice(_pairs(network), wanted)))
        weight = next(network.model.parameters())
        start, end = (network.data.inputs(positions).to(weight) for positions in pairs.T)
        points, margins = boundary_points(network.model, start, end)
        lab.record(f"{label}.margin", margins.tolist(), "boundary points", "gap of the top logits")
        images = torch.cat([start, end])
        lab.record(f"{label}.margin_at_images", _margins(network, images), "training images")
        at = {"boundary": _top_values(network, points), "images": _top_values(network, images)}
        for place, values in at.items():
            _record(lab, f"{label}.{place}", values)
        lab.picture(label, _picture(label, at))


def growth_fits(values: NDArray) -> dict[str, NDArray]:
    """R^2 of four lines against depth over the last half of the blocks, each (sample,), from s_1 (sample, block)."""
    growth = np.cumprod(1 + values, axis=1)
    late = slice(values.shape[1] // 2, None)
    number = np.arange(1, values.shape[1] + 1)[late]

    def fit(rows: NDArray) -> NDArray:
        return np.array([metrics.fit_line(number, row[late]).r_squared for row in rows])

    curves = {"log_growth": np.log(growth), "growth": growth, "log_s": np.log(values), "inverse_s": 1 / values}
    return {name: fit(rows) for name, rows in curves.items()}


def _record(lab: Lab, key: str, values: NDArray) -> None:
    fits, late = growth_fits(values), values[:, values.shape[1] // 2 :]
    growth, fall = fits["log_growth"] - fits["growth"], fits["log_s"] - fits["inverse_s"]
    lab.record(f"{key}.exponential", growth, "points", "R^2 of log g less R^2 of g against depth")
    lab.record(f"{key}.exponential_fall", fall, "points", "R^2 of log s_1 less R^2 of 1/s_1 against depth")
    lab.record(f"{key}.evenness", late.std(1) / late.mean(1), "points", "std over mean of s_1, last half: 0 when equal")
    lab.record(f"{key}.top_value", late.mean(1), "points", "mean s_1 of the last half")


def _pairs(network: Trained):
    """Pairs of training images of different classes, both classified rightly."""
    order = torch.randperm(len(network.data), generator=torch.Generator().manual_seed(SEED)).tolist()
    right = (n for n in order if int(_logits(network, network.data.inputs([n])).argmax()) == network.data.labels[n])
    for a in right:
        b = next((n for n in right if network.data.labels[n] != network.data.labels[a]), None)
        if b is None:
            return
        yield a, b


def _logits(network: Trained, x: Tensor) -> Tensor:
    weight = next(network.model.parameters())
    with torch.no_grad():
        logits: Tensor = network.model(x.to(weight))
    return logits.cpu()


def _margins(network: Trained, x: Tensor) -> list[float]:
    first, second = _logits(network, x).topk(2, dim=1).values.T
    margins: list[float] = (first - second).tolist()
    return margins


def _top_values(network: Trained, inputs: Tensor) -> NDArray:
    """s_1 of every block at every input, (input, block); NaN where it did not converge."""
    rows = []
    for x in inputs.split(1):
        states = network.stream.states(x)
        found = [svd(network.stream.jacobian(i, states), 1) for i in range(len(network.stream))]
        rows.append([float(f.S[0]) if bool(f.converged[0]) else np.nan for f in found])
    return np.array(rows)


def _picture(label: str, at: dict[str, NDArray]) -> dict:
    rows = []
    for place, values in at.items():
        growth = np.cumprod(1 + values, axis=1)
        growth = growth / growth[:, values.shape[1] // 2 - 1, None]
        number = np.arange(1, values.shape[1] + 1)
        rows.append(pictures.series(place, number, np.nanmean(growth, 0), np.nanstd(growth, 0), "o"))
    title = f"{label}: growth along the top direction, 1 in the middle of the network"
    return pictures.lines(title, "footnote 3", rows, "block", "product of 1 + s_1", log=True)
