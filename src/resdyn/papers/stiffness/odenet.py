"""Figure 2: a residual net and an ODE net fitted to the same randomly generated inputs and outputs.

The paper does not say how its data were drawn. Two readings: outputs in the order of the inputs (`increasing`), and
outputs drawn apart from them (`unordered`), which no ODE on the line can fit (see `fields`). Beyond the figure: does
the residual net become the ODE net as its step h = 1/L falls? With the weights of the trained ODE net it must, in first
order, as Euler's method does; a net trained at L blocks is beside that compared with the flow of its own weights.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.stiffness.fields import Field, fit, ode_net, ode_net_for_training, residual_net

POINTS = 12
BLOCKS = 6  # of the residual net in figure 2
STEPS = (2, 4, 8, 16, 32, 64, 128)  # blocks, of the trained flow
TRAINED = {"tiny": (2, 4), "small": (2, 4, 8, 16, 32), "paper": (2, 4, 8, 16, 32)}
SEEDS = {"tiny": (0, 1), "small": tuple(range(10)), "paper": tuple(range(20))}
ITERATIONS = {"tiny": 15, "small": 200, "paper": 1000}
KINDS = ("increasing", "unordered")
GRID = 201  # points between the first and the last input, where fitted functions are compared


def random_data(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """POINTS inputs in [-2, 2] in increasing order and outputs in [-1, 1], drawn uniformly: x, y (POINTS, 1)."""
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.rand(POINTS, generator=generator, dtype=torch.float64).sort().values - 2
    y = 2 * torch.rand(POINTS, generator=generator, dtype=torch.float64) - 1
    return x[:, None], (y.sort().values if kind == "increasing" else y)[:, None]


def best_increasing_error(y: Tensor) -> float:
    """The least mean squared error of any increasing function of inputs in order (Barlow et al. 1972, isotonic)."""
    values = y.numpy().ravel()
    return float(np.mean((isotonic_regression(values).x - values) ** 2))


def run(lab: Lab) -> None:
    """Both nets on both kinds of data over seeds: errors, how far the fitted functions are apart, convergence in h."""
    for kind in KINDS:
        rows = [_compare(lab, kind, seed) for seed in SEEDS[lab.scale]]
        for key in rows[0]:
            lab.record(f"{kind}.{key}", [row[key] for row in rows], "seeds", NOTES.get(key, ""))
    _convergence(lab)


NOTES = {
    "distance": "root mean square between the first and last input, over that of the ODE net about its mean",
    "bound": "mean squared error of the best increasing function",
    "residual_loss": f"mean squared error, {BLOCKS} blocks",
    "ode_loss": "mean squared error",
    "residual_decreases": "share of the inputs' range where the residual net decreases",
    "residual_below_bound": "share of the seeds",
}


def _compare(lab: Lab, kind: str, seed: int) -> dict[str, float]:
    x, y = random_data(kind, seed)
    residual, ode = _trained(x, y, BLOCKS, seed, lab), _trained(x, y, None, seed, lab)
    with torch.no_grad():
        grid = _grid(x)
        curves = [residual_net(residual, grid, BLOCKS), ode_net(ode, grid)]
        residual_loss = float((residual_net(residual, x, BLOCKS) - y).square().mean())
        ode_loss = float((ode_net(ode, x) - y).square().mean())
    bound = best_increasing_error(y)
    if seed == SEEDS[lab.scale][0]:
        _draw(lab, kind, x, y, grid, curves)
    return {
        "residual_loss": residual_loss,
        "ode_loss": ode_loss,
        "bound": bound,
        "residual_below_bound": float(residual_loss < bound),
        "distance": _distance(curves[0], curves[1]),
        "residual_decreases": float((curves[0].diff(dim=0) < 0).double().mean()),
    }


def _trained(x: Tensor, y: Tensor, blocks: int | None, seed: int, lab: Lab) -> Field:
    """A field fitted as a residual net, or, without `blocks`, as an ODE net; both start from the same weights."""
    field = Field(seed)
    if lab.null:
        return field
    if blocks is None:
        fit(partial(ode_net_for_training, field), field, x, y, ITERATIONS[lab.scale])
    else:
        fit(partial(residual_net, field, blocks=blocks), field, x, y, ITERATIONS[lab.scale])
    return field


def _convergence(lab: Lab) -> None:
    """Distance of a residual net to the flow of its own weights, against the number of its blocks."""
    same, own = [], []
    for seed in SEEDS[lab.scale]:
        x, y = random_data("increasing", seed)
        ode = _trained(x, y, None, seed, lab)
        same.append([_to_flow(ode, x, blocks) for blocks in STEPS])
        own.append([_to_flow(_trained(x, y, blocks, seed, lab), x, blocks) for blocks in TRAINED[lab.scale]])
    distances, trained = np.array(same), np.array(own)
    orders = [-metrics.fit_line(np.log2(STEPS[2:]), np.log2(row[2:])).slope for row in distances]
    lab.record("convergence.order", orders, "seeds", f"weights of the ODE net, {STEPS[2]} to {STEPS[-1]} blocks")
    for blocks, column in zip(STEPS, distances.T):
        lab.record(f"convergence.blocks{blocks}.same_weights", column, "seeds", NOTES["distance"])
    for blocks, column in zip(TRAINED[lab.scale], trained.T):
        lab.record(f"convergence.blocks{blocks}.own_weights", column, "seeds", f"trained so; {NOTES['distance']}")
    rows = [
        _series("weights of the trained ODE net", STEPS, distances),
        _series("trained with so many blocks", TRAINED[lab.scale], trained),
        pictures.series("first order", np.log2(STEPS), distances.mean(0)[-1] * STEPS[-1] / np.array(STEPS), style=":"),
    ]
    title = "Distance of a residual net to the flow of its weights"
    where, xlabel = "beyond figure 2", "log2 of the number of blocks"
    lab.picture("convergence", pictures.lines(title, where, rows, xlabel, "distance", log=True))


def _series(name: str, blocks: tuple[int, ...], values: NDArray[np.float64]) -> dict:
    return pictures.series(name, np.log2(blocks), np.exp(np.log(values).mean(0)))


def _to_flow(field: Field, x: Tensor, blocks: int) -> float:
    with torch.no_grad():
        return _distance(residual_net(field, _grid(x), blocks), ode_net(field, _grid(x)))


def _grid(x: Tensor) -> Tensor:
    return torch.linspace(float(x.min()), float(x.max()), GRID, dtype=x.dtype)[:, None]


def _distance(values: Tensor, reference: Tensor) -> float:
    spread = (reference - reference.mean()).square().mean().sqrt()
    return float((values - reference).square().mean().sqrt() / spread)


def _draw(lab: Lab, kind: str, x: Tensor, y: Tensor, grid: Tensor, curves: list[Tensor]) -> None:
    rows = [pictures.series("data", x[:, 0], y[:, 0], style="o")]
    for name, curve, style in zip(("residual net", "ODE net"), curves, ("-", "--")):
        rows.append(pictures.series(name, grid[:, 0], curve[:, 0], style=style))
    title = f"A residual net of {BLOCKS} blocks and an ODE net, {kind} outputs"
    lab.picture(kind, pictures.lines(title, "figure 2", rows, "input", "output"))
