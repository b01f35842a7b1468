"""Dense logistic residual networks and their twins without skips (the paper on neural transient dynamics)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from resdyn.errors import InputError
from resdyn.nets.block import ResidualBlock

STARTS = ("independent", "equal", "zero")
GAIN = 4.0  # the inverse of the logistic function's slope at 0


class LogisticResNet(nn.Module):
    """Logistic residual network: ``x(t+1) = x(t) + f(W(t) x(t) + b(t))`` with the logistic function f.

    x(0) = f(W_in u + b_in); the residuals are y(t+1) = f(W(t) x(t) + b(t)); logits are K x(T) + c, T = ``depth``.

    A perceptron of that many logistic layers would not learn from any of the three starts, since every layer quarters
    its signal; its W start orthogonal times 4, the inverse of f's slope, and its b at -W 1 / 2, so that the mean
    activity 1/2 is preserved.

    Shapes: input ``(N, *in_features)``, flattened; states (N, width); output (N, classes).

    Args:
        in_features: shape of one input, or its number of values (default (1, 28, 28)).
        width: neurons (default 1064).
        depth: layers T (default 15).
        classes: outputs (default 10).
        shared: give all layers one W and b, one module that occurs T times in ``blocks`` (default False).
        skip: False gives the twin x(t+1) = y(t+1), a multi-layer perceptron (default True).
        start: initial weights of the layers. "independent" (default): as torch draws them; "equal": all T are copies of
            one draw; "zero": W = b = 0, where every layer adds 1/2 (the read-out distinguishes neurons, so they do
            learn).

    Raises:
        InputError: an unknown start, one of the last two without a skip, or a width or depth below 1.

    Source:
        Lagzi (2021), section 4, with 1064 neurons and 15 layers as in section 6. The paper does not say how 784 pixels
        become 1064 neurons, nor how weights start; both choices are ours. How free weights start decides whether
        neighbouring layers ever have similar residuals, and so whether its rule of adaptive depth can remove any (see
        the paper's folder).

    Example:
        >>> LogisticResNet(in_features=(1, 8, 8), width=16, depth=5, shared=True).unrolled(50).depth
        50
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __init__(
        self,
        in_features: int | Sequence[int] = (1, 28, 28),
        width: int = 1064,
        depth: int = 15,
        classes: int = 10,
        *,
        shared: bool = False,
        skip: bool = True,
        start: str = "independent",
    ) -> None:
        super().__init__()
        if start not in STARTS or (start != "independent" and not skip):
            raise InputError(
                f"got start='{start}' and skip={skip}, expected one of {', '.join(STARTS)}, and a skip for the last two"
            )
        if depth < 1 or width < 1:
            raise InputError(f"got width={width} and depth={depth}, expected at least 1 of each")
        self.input_size = (in_features,) if isinstance(in_features, int) else tuple(in_features)
        self.shared = shared
        self.input_map = nn.Sequential(nn.Linear(math.prod(self.input_size), width), nn.Sigmoid())
        layers = [_layer(width, skip=skip) for _ in range(1 if shared else depth)]
        self.blocks = nn.Sequential(*(layers * depth if shared else layers))
        self.classifier = nn.Linear(width, classes)
        if start == "equal":
            for layer in layers[1:]:
                layer.load_state_dict(layers[0].state_dict())
        if start == "zero":
            for parameter in self.blocks.parameters():
                nn.init.zeros_(parameter)

    @property
    def depth(self) -> int:
        """T, the number of layers between x(0) and x(T)."""
        return len(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.input_map(x.flatten(1))))

    def walk(self, x: Tensor, depth: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The states x(t) and residuals y(t) for t = 1 .. depth; one layer is kept at a time.

        Args:
            x: x(0), (N, width).
            depth: number of layers (default: the network's own).

        Yields:
            Pairs (x(t), y(t)), each (N, width).

        Raises:
            InputError: a depth as refused by ``unrolled``.
        """
        for block in self.unrolled(self.depth if depth is None else depth).blocks:
            y = torch.sigmoid(layer_map(block)(x))
            x = y if block.shortcut is None else x + y
            yield x, y

    def unrolled(self, depth: int) -> LogisticResNet:
        """The network of another depth with the same (not copied) weights.

        Args:
            depth: any number of layers for shared weights; for free ones at most their own: the first layers.

        Returns:
            A network that shares its parameters with this one.

        Raises:
            InputError: a depth below 1, or beyond that of free weights.
        """
        if depth < 1 or (depth > self.depth and not self.shared):
            raise InputError(
                f"got depth {depth}, expected {'at least 1' if self.shared else f'1 to {self.depth}'}: only shared "
                "weights can be unrolled beyond the layers that were trained"
            )
        other = copy.copy(self)  # the same parameters in another list of layers
        blocks = [self.blocks[0]] * depth if self.shared else list(self.blocks)[:depth]
        other._modules = {**self._modules, "blocks": nn.Sequential(*blocks)}
        return other


def layer_map(block: nn.Module) -> nn.Linear:
    """The linear map ``z = W x + b`` of one layer of a ``LogisticResNet``.

    Args:
        block: one of the network's ``blocks``.

    Returns:
        The module itself, not a copy, with weight (width, width), bias (width,).

    Example:
        >>> layer_map(LogisticResNet(in_features=3, width=4, depth=2).blocks[0]).weight.shape
        torch.Size([4, 4])
    """
    branch: nn.Sequential = block.branch  # type: ignore[assignment]
    linear: nn.Linear = branch[0]  # type: ignore[assignment]
    return linear


def _layer(width: int, *, skip: bool) -> ResidualBlock:
    linear = nn.Linear(width, width)
    if not skip:
        nn.init.orthogonal_(linear.weight, gain=GAIN)
        with torch.no_grad():
            linear.bias.copy_(-linear.weight.sum(1) / 2)
    return ResidualBlock(nn.Sequential(linear, nn.Sigmoid()), nn.Identity(), nn.Identity(), skip=skip)
