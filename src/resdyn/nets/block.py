"""The residual block that the networks here are built from: a branch, a shortcut and a gate."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from resdyn.errors import InputError


class ResidualBlock(nn.Module):
    """The block ``h -> gate(shortcut(h) + branch(h))``, or ``h -> gate(branch(h))`` for its twin without a skip.

    With ``drop`` > 0 (stochastic depth) a training step omits the branch with that probability, for the whole batch,
    and evaluation scales it by ``1 - drop``.

    Args:
        branch: maps ``(N, *shape_in)`` to ``(N, *shape_out)``.
        shortcut: maps ``(N, *shape_in)`` to ``(N, *shape_out)``.
        gate: acts elementwise on ``(N, *shape_out)``.
        skip: False drops the shortcut (default True).
        drop: probability in [0, 1) of omitting the branch in training (default 0); needs a skip.

    Raises:
        InputError: ``drop`` outside [0, 1), or without a skip.

    Source:
        He et al. (2016), "Deep residual learning", equations 1 and 2; ``gate`` is the identity in the pre-activation
        form of He et al. (2016), "Identity mappings", equations 1 to 4. Huang et al. (2016), "Deep networks with
        stochastic depth", equations 2 and 5, with one survival probability for all blocks.
    """

    def __init__(
        self, branch: nn.Module, shortcut: nn.Module, gate: nn.Module, *, skip: bool = True, drop: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= drop < 1 or (drop and not skip):
            raise InputError(f"got drop={drop} and skip={skip}, expected 0 <= drop < 1, and a skip where drop > 0")
        self.drop = drop
        self.branch = branch
        self.shortcut = shortcut if skip else None
        self.gate = gate

    def forward(self, h: Tensor) -> Tensor:
        if self.shortcut is None:
            return self.gate(self.branch(h))
        if self.training and self.drop and torch.rand(()).item() < self.drop:
            return self.gate(self.shortcut(h))
        z = self.branch(h)
        return self.gate(self.shortcut(h) + (z if self.training or not self.drop else (1 - self.drop) * z))


def residual_branch(
    maps: tuple[nn.Module, nn.Module], norms: tuple[nn.Module, nn.Module], *, preactivation: bool
) -> nn.Sequential:
    """Two maps with their norms: map-norm-ReLU-map-norm, or norm-ReLU-map-norm-ReLU-map if pre-activated."""
    (map1, map2), (norm1, norm2) = maps, norms
    if preactivation:
        layers = [
            ("norm1", norm1),
            ("relu1", nn.ReLU()),
            ("map1", map1),
            ("norm2", norm2),
            ("relu2", nn.ReLU()),
            ("map2", map2),
        ]
    else:
        layers = [("map1", map1), ("norm1", norm1), ("relu", nn.ReLU()), ("map2", map2), ("norm2", norm2)]
    return nn.Sequential(OrderedDict(layers))
