"""States and Jacobians of a stream against forward hooks and autograd on the model itself, without our graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import resdyn
from resdyn.stream.jacobian import block_jacobian
from zoo import Inputs, fed

CLOSE = 1e-10  # of float64 values that are the same sums


@dataclass(frozen=True)
class Site:
    """A tensor that a hook sees: what a module takes ("in") or returns ("out") in one of its calls."""

    module: nn.Module
    call: int
    side: str
    index: int

    @property
    def replaceable(self) -> bool:
        return self.side == "out"


@dataclass(frozen=True)
class Compared:
    """States of the stream, those that hooks see, products of Jacobians compared, and the largest relative error."""

    states: int
    seen: int
    products: int
    error: float


def compared(model: nn.Module, stream: resdyn.ResidualStream, x: Inputs, limit: int = 4) -> Compared:
    """Product by product: from a state that a module returns to a later one that a hook sees, within one stage."""
    states = fed(stream.states, x).sample(0)
    values = watched(model, x)
    sites = [[site for site, value in values if same(value, state)] for state in states]
    errors = []
    for first, last in pairs(stream, sites)[:limit]:
        u = torch.randn(states[last].numel(), 1, generator=torch.Generator().manual_seed(first), dtype=torch.float64)
        ours = u
        for block in reversed(stream.blocks[first:last]):
            h = states[block.index].reshape(block.graph_shape_in)
            ours = block_jacobian(block, "block", h, states.inputs, trace=False).rmatmat(ours)
        # One module that returns the state may be inside the branch alone: the state is what some site replaces.
        replaced = [site for site in sites[first] if site.replaceable]
        errors.append(min(distance(ours, pulled_back(model, x, site, sites[last][0], u)) for site in replaced))
    return Compared(len(states), sum(map(bool, sites)), len(errors), max(errors, default=0.0))


def pairs(stream: resdyn.ResidualStream, sites: list[list[Site]]) -> list[tuple[int, int]]:
    """Each state that can be replaced, with the next one of its stage that is seen; then with the last such one."""
    chosen = []
    for first, those in enumerate(sites[:-1]):
        if not any(site.replaceable for site in those):
            continue
        last = first
        while last < len(stream) and (last == first or not stream.blocks[last - 1].has_transition):
            last += 1
            if stream.blocks[last - 1].has_transition:
                break
            if sites[last]:
                chosen.append((first, last))
    return list(dict.fromkeys(sorted(chosen, key=lambda pair: (pair[1] - pair[0], pair[0]))))


def same(value: Tensor, state: Tensor) -> bool:
    """Whether a tensor holds a state, in whatever shape."""
    if value.dtype != state.dtype or value.numel() != state.numel():
        return False
    difference = (value.reshape(-1) - state.reshape(-1)).abs().max()
    return bool(difference <= CLOSE * state.abs().max())


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Relative to the model's own; infinite where that is 0, for then nothing was compared."""
    return float((ours - theirs).norm() / theirs.norm()) if theirs.norm() > 0 else float("inf")


def watched(model: nn.Module, x: Inputs) -> list[tuple[Site, Tensor]]:
    """Every floating-point tensor that modules take and return in one forward pass, in order."""
    seen: list[tuple[Site, Tensor]] = []

    def keep(site: Site, value: Tensor) -> None:
        seen.append((site, value.detach().clone()))

    with torch.no_grad():
        run(model, x, keep)
    return seen


def pulled_back(model: nn.Module, x: Inputs, source: Site, target: Site, u: Tensor) -> Tensor:
    """u times the derivative of one seen tensor with respect to another, by autograd of the model as it is."""
    ends: dict[str, Tensor] = {}

    def replace(site: Site, value: Tensor) -> Tensor | None:
        if site == target:
            ends["target"] = value
        if site == source and "source" not in ends:
            ends["source"] = value.detach().clone().requires_grad_()
            return ends["source"]
        return None

    run(model, x, replace)
    if not ends["target"].requires_grad:
        return torch.zeros(ends["source"].numel(), 1, dtype=u.dtype)
    (gradient,) = torch.autograd.grad(
        ends["target"], ends["source"], u.reshape(ends["target"].shape), allow_unused=True
    )
    return torch.zeros_like(ends["source"]).reshape(-1, 1) if gradient is None else gradient.reshape(-1, 1)


def run(model: nn.Module, x: Inputs, see: Callable[[Site, Tensor], Tensor | None]) -> None:
    """One forward pass with a hook before and after every module."""
    calls: Counter[tuple[nn.Module, str]] = Counter()

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls[module, "in"] += 1
        for index, value in enumerate(floating((args, kwargs))):
            see(Site(module, calls[module, "in"], "in", index), value)

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        calls[module, "out"] += 1
        for index, value in enumerate(floating(output)):
            new = see(Site(module, calls[module, "out"], "out", index), value)
            if new is not None:
                return with_replaced(output, value, new)
        return None

    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after).remove)
        fed(model, x)


def floating(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        if values.is_floating_point():
            yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from floating(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from floating(value)


def with_replaced(values: Any, old: Tensor, new: Tensor) -> Any:
    """The same nested values with one tensor exchanged."""
    if values is old:
        return new
    if isinstance(values, dict):
        for name, value in values.items():
            values[name] = with_replaced(value, old, new)
        return values
    if type(values) in (list, tuple):
        return type(values)(with_replaced(value, old, new) for value in values)
    return values
