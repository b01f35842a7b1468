"""T and its inverse on parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from resdyn.errors import InputError, did_you_mean
from resdyn.nets.unit_skip import identity_kernel

Weights = Iterable[str] | Mapping[str, int]


def to_plain_state(state: Mapping[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """p = T(r) = r + rho for each of `weights` (names of weights, or names with their groups); the rest is kept.

    Tensors that change are new, the others are those given. Source: Yu and Tomasi, equation 1.
    """
    return _shifted(state, weights, 1)


def to_residual_state(state: Mapping[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """r = T^-1(p) = p - rho, the inverse of `to_plain_state` (to rounding: half a unit in the last place of 1)."""
    return _shifted(state, weights, -1)


def _shifted(state: Mapping[str, Tensor], weights: Weights, sign: int) -> dict[str, Tensor]:
    groups = dict(weights) if isinstance(weights, Mapping) else dict.fromkeys(weights, 1)
    for name in groups:
        if name not in state:
            raise InputError(f"got the weight '{name}', which the state has not.{did_you_mean(name, list(state))}")
        if state[name].dim() < 2:
            raise InputError(f"'{name}' has shape {tuple(state[name].shape)}, expected (D, C) or (D, C, *kernel)")
    shifted = {name: state[name] + sign * identity_kernel(state[name], count) for name, count in groups.items()}
    return {**state, **shifted}
