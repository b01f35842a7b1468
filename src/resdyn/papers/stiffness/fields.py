"""A vector field f(x, t) on the line, the residual net that takes Euler steps along it, and its flow.

    residual net: x_{k+1} = x_k + h f(x_k, k h), k = 0 .. L-1, h = 1/L;    ODE net: x(1) of x' = f(x, t), x(0) given.

Solutions of an ODE on the line cannot cross, so that every ODE net x(0) -> x(1) is increasing, whatever f. On data
that are not, its mean squared error is at least that of the best increasing function, which isotonic regression
gives. A residual net is not bound by this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from resdyn.errors import require

WIDTH = 25
TRAIN_STEPS = 20  # of the fourth-order method that training goes through: of bounded memory, unlike adaptive steps
TOLERANCE = 1e-9  # of the adaptive solver that everything is reported with, relative and absolute
PENALTY = 1e-4  # without it fields grow without bound towards data that a flow cannot meet


class Field(nn.Module):
    """f(x, t) = w2 tanh(W1 (x, t) + b1) + b2 with `width` hidden units, in float64; x (N, 1) -> (N, 1)."""

    def __init__(self, seed: int, width: int = WIDTH) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1)).double()

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.layers(torch.cat([x, t.expand_as(x)], dim=1))


def residual_net(field: Field, x: Tensor, blocks: int) -> Tensor:
    """`blocks` Euler steps of length 1/blocks, all with the weights of the field."""
    step = 1 / blocks
    for k in range(blocks):
        x = x + step * field(torch.tensor(k * step, dtype=x.dtype), x)
    return x


def ode_net(field: Field, x: Tensor) -> Tensor:
    """The flow to time 1 by the adaptive method of Dormand and Prince."""
    return _integrate(field, x, method="dopri5", rtol=TOLERANCE, atol=TOLERANCE)


def ode_net_for_training(field: Field, x: Tensor) -> Tensor:
    """The flow to time 1 by TRAIN_STEPS steps of the classical Runge-Kutta method."""
    return _integrate(field, x, method="rk4", options={"step_size": 1 / TRAIN_STEPS})


def _integrate(field: Field, x: Tensor, **settings: Any) -> Tensor:
    solve = require("torchdiffeq", "ode").odeint
    return solve(field, x, torch.tensor([0.0, 1.0], dtype=x.dtype), **settings)[-1]


def fit(run: Callable[[Tensor], Tensor], field: Field, x: Tensor, y: Tensor, iterations: int) -> float:
    """Minimise mean (run(x) - y)^2 + PENALTY |w|^2 over the field's weights by L-BFGS; the final error alone."""
    optimizer = torch.optim.LBFGS(
        field.parameters(),
        max_iter=iterations,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (run(x) - y).square().mean() + PENALTY * sum(w.square().sum() for w in field.parameters())
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        return float((run(x) - y).square().mean())
