"""Section 3: theorem 3.1 on a network built for it, and the Unconstrained Jacobians Model beside its optimum.

The model (definition 3.2) minimises over w in R^D and J_1 .. J_L in R^{D x D}

    log(1 + exp(-y z)) + (lam/2) sum_i |J_i|_F^2 + (lam/2) |w|^2,    z = w^T (I + J_L) .. (I + J_1) x.

Its value has a bound that gives theorem 3.3 and a little more. With s_i = |J_i|_2 <= |J_i|_F,

    |z| <= |w| |x| prod_i (1 + s_i) <= |w| |x| (1 + s)^L,    L s^2 <= sum_i s_i^2,    s = mean_i s_i

(geometric below arithmetic mean; Jensen), so that every (w, J) costs at least

    f(s, omega) = log(1 + exp(-omega (1 + s)^L |x|)) + (lam/2) (L s^2 + omega^2),    omega = |w|,

which w = y omega x/|x|, J_i = s x x^T/|x|^2 attains. Equality throughout forces |J_i|_F = |J_i|_2 = s (rank one,
equal top values) and each step to stretch its own input by 1 + s (left and right vectors along x): so not only is
there an aligned optimum, as the theorem says, but every optimum is aligned. Where f is stationary,
lam omega = p (1 + s)^L |x| and lam s = p omega (1 + s)^(L-1) |x| with p = 1/(1 + exp(z)); their quotient is
omega^2 = s (1 + s), which leaves one unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor, nn

GRID = 2001  # f along omega^2 = s (1 + s) may have several minima: all of its range is searched


class AlignedNet(nn.Module):
    """h_{i+1} = h_i + (1/i) u u^T h_i, i = 1 .. L, in float64: RA2, RA3 and RA4 hold exactly, for two classes.

    Theorem 3.1 says h_k = (k - 1) u u^T h_1 + h_1: equal steps along u. `u` (D,) is normalised here.
    """

    def __init__(self, u: Tensor, depth: int) -> None:
        super().__init__()
        u = u.double() / u.double().norm()
        self.blocks = nn.Sequential(*(_LinearBlock(torch.outer(u, u) / i) for i in range(1, depth + 1)))
        self.classifier = nn.Linear(len(u), 2, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(x))


class _LinearBlock(nn.Module):
    """h -> h + J h."""

    def __init__(self, jacobian: Tensor) -> None:
        super().__init__()
        self.branch = nn.Linear(len(jacobian), len(jacobian), bias=False).double()
        self.branch.weight.data = jacobian

    def forward(self, h: Tensor) -> Tensor:
        return h + self.branch(h)


@dataclass(frozen=True)
class ReducedOptimum:
    """The least value of f(s, omega), and where."""

    s: float
    omega: float
    loss: float


def reduced_loss(s: float | NDArray, omega: float | NDArray, depth: int, lam: float, norm: float) -> float | NDArray:
    """f(s, omega) = log(1 + exp(-omega (1 + s)^L |x|)) + (lam/2) (L s^2 + omega^2)."""
    return np.logaddexp(0.0, -omega * (1 + s) ** depth * norm) + lam / 2 * (depth * s**2 + omega**2)


def reduced_optimum(depth: int, lam: float, norm: float = 1.0) -> ReducedOptimum:
    """Minimise f over s and omega = sqrt(s (1 + s)) by a scalar optimiser (theorem 3.3).

    At the minimum (lam/2) L s^2 <= f(0, 0) = log 2, which bounds s.
    """

    def along(s: float | NDArray) -> float | NDArray:
        return reduced_loss(s, np.sqrt(s * (1 + s)), depth, lam, norm)

    grid = np.linspace(0.0, np.sqrt(2 * np.log(2) / (lam * depth)), GRID)
    best = int(np.argmin(along(grid)))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    s = float(minimize_scalar(along, bounds=bounds, method="bounded", options={"xatol": 1e-14}).x)
    return ReducedOptimum(s, float(np.sqrt(s * (1 + s))), float(along(s)))


@dataclass(frozen=True)
class UnconstrainedJacobians:
    """A point of the model: w (D,), jacobians (L, D, D), its loss, and the norm of the gradient there."""

    w: NDArray
    jacobians: NDArray
    x: NDArray
    loss: float
    gradient_norm: float

    @property
    def top_values(self) -> NDArray:
        """Largest singular value of each J_i, (L,)."""
        return np.linalg.svd(self.jacobians, compute_uv=False)[:, 0]

    @property
    def rank_one_residual(self) -> float:
        """Largest s_2 / s_1 over the J_i: 0 when all have rank one."""
        values = np.linalg.svd(self.jacobians, compute_uv=False)
        return float((values[:, 1] / values[:, 0]).max())

    @property
    def alignment(self) -> float:
        """Least absolute cosine with x of all top singular vectors u_i, v_i and of w: 1 when aligned."""
        left, _, right = np.linalg.svd(self.jacobians)
        unit = self.x / np.linalg.norm(self.x)
        cosines = [*(left[:, :, 0] @ unit), *(right[:, 0] @ unit), self.w @ unit / np.linalg.norm(self.w)]
        return float(np.abs(cosines).min())

    @property
    def inequality(self) -> float:
        """Coefficient of variation of the top singular values over blocks: 0 when they are equal."""
        return float(self.top_values.std() / self.top_values.mean())


def model_loss(w: Tensor, jacobians: Tensor, x: Tensor, lam: float, label: int = 1) -> Tensor:
    """The objective of definition 3.2 with the logistic loss."""
    h = x
    for jacobian in jacobians:
        h = h + jacobian @ h
    loss = nn.functional.softplus(-label * (w @ h))
    return loss + lam / 2 * (jacobians.square().sum() + w.square().sum())


def optimise_model(
    width: int, depth: int, lam: float, *, norm: float = 1.0, label: int = 1, seed: int = 0
) -> UnconstrainedJacobians:
    """Minimise the model over all of w and J_1 .. J_L from a random start, by L-BFGS in float64.

    The problem is not convex: what is found is a stationary point, whose loss `reduced_optimum` bounds below.
    """
    generator = np.random.default_rng(seed)
    direction = generator.standard_normal(width)
    x = torch.from_numpy(norm * direction / np.linalg.norm(direction))

    def parts(flat: Tensor) -> tuple[Tensor, Tensor]:
        return flat[:width], flat[width:].reshape(depth, width, width)

    def value(flat: NDArray) -> tuple[float, NDArray]:
        point = torch.from_numpy(flat.copy()).requires_grad_()
        loss = model_loss(*parts(point), x, lam, label)
        (gradient,) = torch.autograd.grad(loss, point)
        return loss.item(), gradient.numpy()

    start = 0.3 * generator.standard_normal(width + depth * width**2) / width**0.5
    options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 50, "ftol": 1e-16, "gtol": 1e-10}
    found = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
    w, jacobians = parts(torch.from_numpy(found.x))
    loss, gradient = value(found.x)
    return UnconstrainedJacobians(w.numpy(), jacobians.numpy(), x.numpy(), loss, float(np.linalg.norm(gradient)))
