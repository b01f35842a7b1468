"""The papers' networks, by name.

Every network declares its input: ``input_size`` (the shape of one input), and ``mean`` and ``std`` per channel (None:
the statistics of the dataset).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from resdyn.nets.block import ResidualBlock
from resdyn.nets.cifar import CifarResNet
from resdyn.nets.cnn import ResidualCNN
from resdyn.nets.logistic import STARTS as LOGISTIC_STARTS
from resdyn.nets.logistic import LogisticResNet, layer_map
from resdyn.nets.mlp import ResidualMLP
from resdyn.nets.resnet import ResNet
from resdyn.nets.simplified import SimplifiedNet
from resdyn.nets.unit_skip import identity_kernel

__all__ = [
    "LOGISTIC_STARTS",
    "NETS",
    "CifarResNet",
    "LogisticResNet",
    "ResNet",
    "ResidualBlock",
    "ResidualCNN",
    "ResidualMLP",
    "SimplifiedNet",
    "cifar_resnet",
    "identity_kernel",
    "layer_map",
]


def cifar_resnet(layers: int = 20, classes: int = 10, **options: Any) -> CifarResNet:
    """The CIFAR ResNet with ``layers = 6n + 2`` weight layers.

    The networks known as ResNet-18, 34 and 50 are of another kind, ``ResNet``, also available as
    ``NETS["cifar_resnet18"]`` and so on.

    Args:
        layers: number of weight layers, 6n + 2 with n >= 1: 20 (default), 32, 44, 56, ...
        classes: outputs (default 10).
        **options: keyword arguments of ``CifarResNet``.

    Returns:
        The network, with random weights.

    Raises:
        ValueError: ``layers`` is not of that form.

    Example:
        >>> len(cifar_resnet(20).layer1)
        3
    """
    if layers < 8 or (layers - 2) % 6:
        raise ValueError(f"got layers={layers}, expected 6n+2 with n >= 1: 20, 32, 44, 56, ...")
    return CifarResNet((layers - 2) // 6, classes, **options)


_mlp_512 = partial(ResidualMLP, in_features=(3, 32, 32), width=512)

NETS: dict[str, Callable[..., nn.Module]] = {
    "mlp": ResidualMLP,
    "cnn": ResidualCNN,
    "cifar_resnet": cifar_resnet,
    "cifar_resnet20": partial(cifar_resnet, 20),
    "cifar_resnet32": partial(cifar_resnet, 32),
    "cifar_resnet44": partial(cifar_resnet, 44),
    "cifar_resnet56": partial(cifar_resnet, 56),
    "cifar_resnet18": partial(ResNet, (2, 2, 2, 2)),
    "cifar_resnet34": partial(ResNet, (3, 4, 6, 3)),
    "cifar_resnet50": partial(ResNet, (3, 4, 6, 3), bottleneck=True),
    "cifar_plain20": partial(cifar_resnet, 20, skip=False),
    "simplified": SimplifiedNet,
    **{f"simplified_resnet{n}": partial(SimplifiedNet, n) for n in (20, 32, 44)},
    **{f"simplified_plain{n}": partial(SimplifiedNet, n, skip=False) for n in (20, 32, 44)},
    "td_shared": partial(LogisticResNet, shared=True),
    "td_free": LogisticResNet,
    "td_mlp": partial(LogisticResNet, shared=True, skip=False),
    "ra_type1": partial(_mlp_512, depth=16),
    "ra_type2": partial(ResidualCNN, depth=16),
    "ra_type3": partial(ResidualCNN, depth=16, downsample=True),
    "ra_type4a": partial(_mlp_512, depth=8),
    "ra_type4b": partial(_mlp_512, depth=8, skip=False),
    "ra_type5a": partial(ResidualCNN, depth=8),
    "ra_type5b": partial(ResidualCNN, depth=8, skip=False),
}
