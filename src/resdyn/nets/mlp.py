"""Fully-connected residual networks (Types 1 and 4 of the Residual Alignment paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from resdyn.nets.block import ResidualBlock, residual_branch


class ResidualMLP(nn.Module):
    """Fully-connected residual network: input map, blocks ``h_{i+1} = ReLU(h_i + F_i(h_i))``, linear classifier.

    Post-activation: h_0 = ReLU(BN(W x)), h_{i+1} = ReLU(h_i + F_i(h_i)), F = Linear-BN-ReLU-Linear-BN. Pre-activation:
    h_0 = W x, h_{i+1} = h_i + F_i(h_i), F = BN-ReLU-Linear-BN-ReLU-Linear, and BN-ReLU before the classifier. Linear
    layers have a bias only where no batch norm follows to remove it.

    Shapes: input ``(N, *in_features)``, flattened; states (N, width); output (N, classes).

    Args:
        in_features: shape of one input, or its number of values (default (1, 8, 8), the digits).
        width: units per layer (default 64).
        depth: number of blocks (default 8).
        classes: outputs (default 10).
        batch_norm: whether layers are followed (preceded, if pre-activated) by batch norm (default True).
        preactivation: see above (default False).
        skip: False gives the twin h_{i+1} = ReLU(F_i(h_i)) (or F_i(h_i)) (default True).
        drop: probability of stochastic depth (default 0; see ``ResidualBlock``).

    Source:
        Li and Papyan (2023), section 2.1: Type 1 is width 512, depth 16; Type 4 has depth 8. The paper does not say how
        the input enters; the input map here follows its section 1.1.

    Example:
        >>> ResidualMLP(in_features=(1, 8, 8), width=16, depth=2).input_size
        (1, 8, 8)
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __init__(
        self,
        in_features: int | Sequence[int] = (1, 8, 8),
        width: int = 64,
        depth: int = 8,
        classes: int = 10,
        *,
        batch_norm: bool = True,
        preactivation: bool = False,
        skip: bool = True,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.input_size = (in_features,) if isinstance(in_features, int) else tuple(in_features)

        def norm() -> nn.Module:
            return nn.BatchNorm1d(width) if batch_norm else nn.Identity()

        def linear(inputs: int, *, bias: bool) -> nn.Module:
            return nn.Linear(inputs, width, bias=bias)

        def block() -> ResidualBlock:
            maps = (linear(width, bias=not batch_norm), linear(width, bias=not batch_norm or preactivation))
            branch = residual_branch(maps, (norm(), norm()), preactivation=preactivation)
            gate = nn.Identity() if preactivation else nn.ReLU()
            return ResidualBlock(branch, nn.Identity(), gate, skip=skip, drop=drop)

        edge = nn.Sequential(norm(), nn.ReLU())
        entry = linear(math.prod(self.input_size), bias=not batch_norm or preactivation)
        self.input_map = entry if preactivation else nn.Sequential(entry, edge)
        self.blocks = nn.Sequential(*(block() for _ in range(depth)))
        self.final = edge if preactivation else nn.Identity()
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.final(self.blocks(self.input_map(x.flatten(1)))))
