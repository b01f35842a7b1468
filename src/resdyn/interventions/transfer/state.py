"""The map T and its inverse on state dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from resdyn.errors import InputError, did_you_mean
from resdyn.nets.unit_skip import identity_kernel

Weights = Iterable[str] | Mapping[str, int]


def to_plain_state(state: Mapping[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """``p = T(r) = r + rho`` on a state dict.

    Args:
        state: of a residual network.
        weights: names of the weights to map, or names with their numbers of groups.

    Returns:
        A new dict; mapped tensors are new, the others are those given.

    Raises:
        InputError: a name that is not in the state dict, or a tensor that is not a layer's weight.

    Source:
        Yu and Tomasi, equation 1.

    Example:
        >>> import torch
        >>> to_plain_state({"weight": torch.zeros(2, 2)}, ["weight"])["weight"]
        tensor([[1., 0.],
                [0., 1.]])
    """
    return _shifted(state, weights, 1)


def to_residual_state(state: Mapping[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """``r = T^-1(p) = p - rho`` on a state dict, the inverse of ``to_plain_state``.

    It is exact to rounding: half a unit in the last place of 1.

    Args:
        state: of a plain network.
        weights: names of the weights to map, or names with their numbers of groups.

    Returns:
        A new dict; mapped tensors are new, the others are those given.

    Raises:
        InputError: a name that is not in the state dict, or a tensor that is not a layer's weight.
    """
    return _shifted(state, weights, -1)


def _shifted(state: Mapping[str, Tensor], weights: Weights, sign: int) -> dict[str, Tensor]:
    groups = dict(weights) if isinstance(weights, Mapping) else dict.fromkeys(weights, 1)
    for name in groups:
        if name not in state:
            raise InputError(
                f"got the weight '{name}', which is not in the state dict.{did_you_mean(name, list(state))}"
            )
        if state[name].dim() < 2:
            raise InputError(f"'{name}' has shape {tuple(state[name].shape)}, expected (D, C) or (D, C, *kernel)")
    shifted = {name: state[name] + sign * identity_kernel(state[name], count) for name, count in groups.items()}
    return {**state, **shifted}
