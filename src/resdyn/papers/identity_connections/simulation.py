"""Appendix D.4.1: the trivial case, matrices for kernels and coins for ReLUs, drawn many times at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from resdyn.papers.results import Number

CHUNK_ENTRIES = 2**22


@dataclass(frozen=True)
class TrivialCase:
    """Theta^(l) = prod_{m=l+1}^{L} (K^(m)^T S^(m)) V, K = I + epsilon A (residual) or A (plain).

    A (n, n) has entries of N(0, sigma_a^2), S is diagonal of coins that are 1 with probability p, V diagonal of
    N(0, sigma_v^2). The defaults are the common setting of figure 11.
    """

    n: int = 20
    epsilon: float = 0.1
    layers: int = 10
    layer: int = 5
    p: float = 0.9
    sigma_a: float = 0.01
    sigma_v: float = 0.1

    @property
    def steps(self) -> int:
        return self.layers - self.layer


def simulate(case: TrivialCase, residual: bool, draws: int, seed: int = 0) -> Number:
    """E[sigma^(l)]: the share of rows with |Theta_ii| > |sum over j != i of Theta_ij|, mean over draws."""
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, CHUNK_ENTRIES // case.n**2)
    shares = [
        dominant_rows(theta(case, residual, min(chunk, draws - done), generator)).double().mean(1)
        for done in range(0, draws, chunk)
    ]
    return Number.of(torch.cat(shares).numpy(), "draws")


def theta(case: TrivialCase, residual: bool, draws: int, generator: torch.Generator) -> Tensor:
    """`draws` matrices Theta^(l), (draws, n, n), in float32 (float64 where epsilon sigma_a is below 1e-4)."""
    dtype = torch.float32 if not residual or case.epsilon * case.sigma_a >= 1e-4 else torch.float64
    product = torch.diag_embed(case.sigma_v * torch.randn(draws, case.n, generator=generator, dtype=dtype))
    for _ in range(case.steps):
        open_units = torch.rand(draws, case.n, 1, generator=generator) < case.p
        product = product * open_units
        A = torch.randn(draws, case.n, case.n, generator=generator, dtype=dtype)
        if residual:
            product = torch.baddbmm(product, A, product, alpha=case.epsilon * case.sigma_a)
        else:  # sigma does not depend on the scale of A
            product = torch.bmm(A, product) / case.n**0.5
    return product


def dominant_rows(product: Tensor) -> Tensor:
    """|Theta_ii| > |sum over j != i of Theta_ij| of each row: (draws, n), False where both are zero."""
    diagonal = product.diagonal(dim1=1, dim2=2)
    others = product.sum(2) - diagonal
    return diagonal.abs() > others.abs()
