"""Layers for which the identity is a unit skip: found by dataflow, each verified."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from resdyn.errors import ComputationError, InputError
from resdyn.nets.unit_skip import identity_kernel, unit_skip
from resdyn.stream import ResidualBlock, ResidualStream
from resdyn.stream.ops import WEIGHTED, node_modules, operation
from resdyn.stream.sums import without_neutral

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class UnitLayer:
    """A layer with a unit skip.

    Attributes:
        path: module path of the layer.
        groups: of a convolution; 1 for a linear layer.
    """

    path: str
    groups: int

    @property
    def weight(self) -> str:
        """Name of its weight in the state dict."""
        return f"{self.path}.weight"


def unit_layers(stream: ResidualStream) -> list[UnitLayer]:
    """The one layer of every block of a stream ``h_{i+1} = gate(skip(h_i) + layer(h_i))`` with the layer's unit skip.

    Args:
        stream: of a residual network.

    Returns:
        One layer per block, in order.

    Raises:
        ComputationError: blocks that are not of this form (named, with the reasons), or a layer used in several blocks.
    """
    layers, refused = [], []
    for block in stream:
        try:
            layers.append(_unit_layer(stream.model, block))
        except InputError as error:
            refused.append(f"block {block.index} ({block.path}): {error}")
    if refused:
        raise ComputationError(
            f"{type(stream.model).__name__} has blocks that are not a single layer with a unit skip, which the map T "
            f"needs: {'; '.join(refused)}"
        )
    if len({layer.path for layer in layers}) < len(layers):
        raise ComputationError(
            f"{type(stream.model).__name__} uses a layer in several blocks: it has one weight for all"
        )
    return layers


def skip_of(layer: nn.Module) -> nn.Module:
    """The unit skip of a layer; ``InputError`` for a layer that has none, with the reason."""
    if isinstance(layer, nn.Linear):
        return unit_skip(layer.in_features, layer.out_features)
    if not isinstance(layer, CONVOLUTIONS):
        raise InputError(f"{type(layer).__name__} is neither a convolution nor a linear layer")
    identity_kernel(layer.weight, layer.groups)
    centre = tuple(d * (k // 2) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    if layer.padding not in (centre, "same"):
        raise InputError(f"padding {layer.padding} moves the kernel's centre off the first pixel, which needs {centre}")
    return unit_skip(layer.in_channels, layer.out_channels, tuple(layer.stride))


def _unit_layer(model: nn.Module, block: ResidualBlock) -> UnitLayer:
    weighted = [node for node in block.branch_nodes if operation(node) in WEIGHTED]
    if len(weighted) != 1:
        raise InputError(f"its branch has {len(weighted)} weighted operations")
    if not _is_entire_branch(block, weighted[0]):
        raise InputError("its branch does more than the one layer")
    path = node_modules(weighted[0])[-1]
    layer = model.get_submodule(path)
    skip = skip_of(layer)
    _check_skip(block, skip, layer)
    return UnitLayer(path, getattr(layer, "groups", 1))


def _is_entire_branch(block: ResidualBlock, node: fx.Node) -> bool:
    """Whether the layer reads the state itself and gives the branch itself."""
    source = node.args[0]
    reads_state = isinstance(source, fx.Node) and without_neutral(source) is without_neutral(block.join.fork)
    return reads_state and without_neutral(block.join.branch) is node


def _check_skip(block: ResidualBlock, skip: nn.Module, layer: nn.Module) -> None:
    weight = next(layer.parameters())
    generator = torch.Generator().manual_seed(0)
    h: Tensor = torch.randn(2, *block.shape_in, generator=generator, dtype=weight.dtype).to(weight.device)
    actual, expected = block.skip(h), skip(h)
    if actual.shape != expected.shape or not torch.equal(actual, expected):
        raise InputError(
            "its skip is not the layer's unit skip (ID entries of the kernel, pixels at the kernel's centre)"
        )
