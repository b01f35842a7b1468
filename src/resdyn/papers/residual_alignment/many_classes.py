"""Theorem 3.3 for any number of classes, and RA3 sharpened: every stationary point is aligned, of rank at most C - 1.

With inputs x_n of labels y_n, n = 1 .. N, and W in R^{C x D} for w, definition 3.2 reads: minimise over W, J_1 .. J_L

    (1/N) sum_n CE(W h_n^L, y_n) + (lam/2) (sum_i |J_i|_F^2 + |W|_F^2),    h_n^i = (I + J_i) .. (I + J_1) x_n.

Let r_n be the softmax of the logits less the unit vector of y_n. Where the gradient vanishes,

    lam J_i = -(1/N) sum_n g_n^i (h_n^{i-1})^T,    g_n^i = (I + J_{i+1})^T .. (I + J_L)^T W^T r_n,
    lam W   = -(1/N) sum_n r_n (h_n^L)^T.

Rank. The entries of r_n sum to zero, so that all g_n^i are in the image of the C - 1 dimensional space 1^perp under
one matrix: J_i and W have rank at most C - 1 (and at most N). The paper says C; its proof of theorem 3.1 takes rank
one for two classes, which is C - 1.

Alignment. J_L (I + J_L)^T = W^T W, for both sides are -(1/(lam N)) sum_n W^T r_n (h_n^L)^T. So J_L + J_L J_L^T is
symmetric, hence J_L is. Likewise (I + J_i)^T J_i = J_{i-1} (I + J_{i-1})^T, which carries this from J_i to J_{i-1}: all
J_i are symmetric and J_i + J_i^2 = W^T W. They have their eigenvectors in common with W^T W (RA2), and where all
I + J_i are positive definite they are equal, J = ((I + 4 W^T W)^(1/2) - I) / 2. This part uses nothing of the loss but
that it is differentiable. With a single w it is omega^2 = s (1 + s) of `theory`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn


@dataclass(frozen=True)
class ManyClasses:
    """A point of the model: W (C, D), jacobians (L, D, D), its loss, and the norm of the gradient there."""

    classifier: NDArray
    jacobians: NDArray
    loss: float
    gradient_norm: float

    @property
    def beyond(self) -> float:
        """Largest s_C / s_1 over the J_i: 0 when all have rank at most C - 1."""
        return float(self._relative(len(self.classifier)).max())

    @property
    def last(self) -> float:
        """Least s_(C-1) / s_1 over the J_i: well above 0 when none has a rank below C - 1."""
        return float(self._relative(len(self.classifier) - 1).min())

    @property
    def imbalance(self) -> float:
        """Largest |J_i + J_i^2 - W^T W|_F / |W^T W|_F: 0 at every stationary point."""
        target = self.classifier.T @ self.classifier
        off = [np.linalg.norm(j + j @ j - target) for j in self.jacobians]
        return float(max(off) / np.linalg.norm(target))

    @property
    def inequality(self) -> float:
        """Relative distance of the J_i from the symmetric part of their mean: 0 when all are equal and symmetric."""
        mean = self.jacobians.mean(0)
        return float(np.linalg.norm(self.jacobians - (mean + mean.T) / 2) / np.linalg.norm(self.jacobians))

    def _relative(self, k: int) -> NDArray:
        values = np.linalg.svd(self.jacobians, compute_uv=False)
        return np.asarray(values[:, k - 1] / values[:, 0])


def classes_loss(classifier: Tensor, jacobians: Tensor, x: Tensor, labels: Tensor, lam: float) -> Tensor:
    """The objective; x (N, D), labels (N,)."""
    h = x
    for jacobian in jacobians:
        h = h + h @ jacobian.T
    loss = nn.functional.cross_entropy(h @ classifier.T, labels)
    return loss + lam / 2 * (jacobians.square().sum() + classifier.square().sum())


def optimise_classes(
    width: int, depth: int, classes: int, lam: float, *, per_class: int = 1, seed: int = 0
) -> ManyClasses:
    """Minimise over W and J_1 .. J_L from a random start, by L-BFGS in float64; inputs are Gaussian, |x| near 1."""
    generator = np.random.default_rng(seed)
    x = torch.from_numpy(generator.standard_normal((classes * per_class, width)) / width**0.5)
    labels = torch.arange(classes).repeat(per_class)
    size = classes * width

    def parts(flat: Tensor) -> tuple[Tensor, Tensor]:
        return flat[:size].reshape(classes, width), flat[size:].reshape(depth, width, width)

    def value(flat: NDArray) -> tuple[float, NDArray]:
        point = torch.from_numpy(flat.copy()).requires_grad_()
        loss = classes_loss(*parts(point), x, labels, lam)
        (gradient,) = torch.autograd.grad(loss, point)
        return loss.item(), gradient.numpy()

    start = 0.3 * generator.standard_normal(size + depth * width**2) / width**0.5
    options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 50, "ftol": 1e-16, "gtol": 1e-11}
    found = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
    classifier, jacobians = parts(torch.from_numpy(found.x))
    loss, gradient = value(found.x)
    return ManyClasses(classifier.numpy(), jacobians.numpy(), loss, float(np.linalg.norm(gradient)))
