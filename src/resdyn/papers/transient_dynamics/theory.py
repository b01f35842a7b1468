"""Sections 4 and 5 as code: residual dynamics and noise, as printed and as derived.

Logistic f; y (..., N) residuals, W (N, N), z = W x + b. Time is the layer's number. With x(t+1) = x(t) + y(t+1) and
y(t+1) = f(W x(t) + b) shared weights give z(t+1) = z(t) + W y(t+1) without any approximation, hence

    y(t+1) = f(f^{-1}(y(t)) + W y(t)).                                                     (the layer's map)

Equation 3, dy/dt = y (1 - y) (W y), is its first order in W y. Both have the same fixed points, not the same stability.

Misprints and steps, and what is used here:

- section 4: z_i = sum over i = 1..N of w_ij x_j: the sum runs over j, and b_i (equation 1) belongs to it.
- equation 5: its four lines are one function of (y, xi) (tested); the last two add dy/dt and take it off
  again, so "differs from dy/dt" says nothing. It is exact in xi and first order in W y, so that its error against a
  network does not go to zero with the noise. What does is the expansion of the layer's map (`layer_noise`).
- equations 6 to 8: the bias is left out; the third term of the first line of 7 has y + xi for y; and the argument of f
  changes by W xi, not by xi, so xi f' must be f' W xi, and xi / 2 in equation 8 (W xi) / 2. With W in place the
  right-hand side of 7 has no sign, and "noise is always suppressed" does not follow (nor did it: xi has no sign).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from resdyn.errors import InputError

FIXED_POINT_LIMIT = 10  # neurons of which all 3^N sets of clamped and free ones are tried


def residual_flow(y: Tensor, W: Tensor) -> Tensor:
    """dy/dt = y (1 - y) (W y): equation 3."""
    return y * (1 - y) * (y @ W.T)


def residual_flow_free(y: Tensor, x: Tensor, W: Tensor, W_rate: Tensor) -> Tensor:
    """dy/dt = y (1 - y) (W y + dW/dt x): equations 1 and 2 with weights that change from layer to layer."""
    return y * (1 - y) * (y @ W.T + x @ W_rate.T)


def residual_map(y: Tensor, W: Tensor) -> Tensor:
    """y(t+1) = f(f^{-1}(y(t)) + W y(t)), one layer of shared weights, exactly."""
    return torch.sigmoid(torch.logit(y) + y @ W.T)


def noise_flow(y: Tensor, xi: Tensor, W: Tensor) -> Tensor:
    """d xi/dt = y (1-y) (W xi) + xi (1 - 2y - xi) (W (y + xi)): equation 5, first line."""
    return y * (1 - y) * (xi @ W.T) + xi * (1 - 2 * y - xi) * ((y + xi) @ W.T)


def noise_flow_last_line(y: Tensor, xi: Tensor, W: Tensor) -> Tensor:
    """dy/dt + y (1-y) (W (xi - y)) + xi (1 - y - (y + xi)) (W (y + xi)): equation 5, fourth line as printed."""
    return residual_flow(y, W) + y * (1 - y) * ((xi - y) @ W.T) + xi * (1 - y - (y + xi)) * ((y + xi) @ W.T)


def layer_noise(y_next: Tensor, W_change: Tensor, order: int = 2) -> Tensor:
    """xi(t+1) = f'(z) W eta + f''(z) (W eta)^2 / 2, for noise eta in what the layer reads, to first or second order.

    `y_next` = f(z) without noise, `W_change` = W eta. A ResNet's layer reads x, so eta = sum of all xi so far (and the
    input's noise); a perceptron's reads y, so eta = xi(t), and xi(t+1) - xi(t) is equations 7 and 8 with W in place.
    """
    slope = y_next * (1 - y_next)
    first = slope * W_change
    return first if order == 1 else first * (1 + W_change * (1 - 2 * y_next) / 2)


def printed_mlp_noise_flow(y_next: Tensor, xi: Tensor, order: int = 2) -> Tensor:
    """Equations 7 (order 1) and 8 (order 2) as printed, without W; y_next = dy/dt + y."""
    slope = y_next * (1 - y_next)
    return xi * (slope - 1) if order == 1 else -xi + xi * slope * (1 + xi / 2 * (1 - 2 * y_next))


def linearisation(y: Tensor, W: Tensor) -> Tensor:
    """d/dy of equation 3 at y (N,): diag((1 - 2y) (W y)) + diag(y (1 - y)) W."""
    return torch.diag((1 - 2 * y) * (W @ y)) + (y * (1 - y))[:, None] * W


def stability(y: Tensor, W: Tensor) -> Tensor:
    """Eigenvalues of the linearisation at y, complex128, by falling real part: all negative where y is stable.

    At a fixed point they are (1 - 2 y_i) (W y)_i for every y_i in {0, 1}, and those mu of diag(y (1-y)) W restricted
    to the others. The layer's map is stable there where exp of the former is below 1 (the same condition) and
    |1 + mu| < 1 for the latter (a stronger one). At y = 0 all are 0, whatever W: the linearisation says nothing there.
    """
    values = torch.linalg.eigvals(linearisation(y.double(), W.double()))
    return values[torch.argsort(values.real, descending=True)]


@dataclass(frozen=True)
class FixedPoint:
    """y (N,) with, for each i, y_i in {0, 1} or (W y)_i = 0.

    `stable` for the flow of equation 3, `stable_layers` for the layer's map, by the linearisation.
    """

    y: Tensor
    stable: bool
    stable_layers: bool


def fixed_points(W: Tensor) -> list[FixedPoint]:
    """All fixed points of equation 3 with each y_i 0, 1 or strictly between, for invertible sub-matrices: at most 3^N.

    Errors: InputError beyond 10 neurons.
    """
    size = len(W)
    if size > FIXED_POINT_LIMIT:
        raise InputError(f"got {size} neurons, expected at most {FIXED_POINT_LIMIT}: all 3^N candidates are tried")
    tried = (_candidate(W.double(), clamped) for clamped in itertools.product((0.0, None, 1.0), repeat=size))
    return [point for point in tried if point is not None]


def _candidate(W: Tensor, clamped: tuple[float | None, ...]) -> FixedPoint | None:
    """The fixed point with these y_i clamped and the others free, if it is in the cube."""
    free = torch.tensor([value is None for value in clamped])
    y = torch.tensor([value or 0.0 for value in clamped], dtype=W.dtype)
    if free.any():
        inner = W[free][:, free]
        if torch.linalg.matrix_rank(inner) < len(inner):
            return None
        y[free] = torch.linalg.solve(inner, -(W[free] @ y))
        if not bool(((y[free] > 0) & (y[free] < 1)).all()):
            return None
    edge = ((1 - 2 * y) * (W @ y))[~free]
    mu = torch.linalg.eigvals((y * (1 - y))[free][:, None] * W[free][:, free])
    settled = bool((edge < 0).all())
    return FixedPoint(y, settled and bool((mu.real < 0).all()), settled and bool(((1 + mu).abs() < 1).all()))
