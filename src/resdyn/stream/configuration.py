"""What determines the graph of a model besides the numbers in its tensors, so that a change of it is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from resdyn._torch import pytree

OWN = set(vars(nn.Module())) - {"training"}


def configuration(model: nn.Module) -> list[Any]:
    """Modules with their types, forward functions, switches (booleans and strings) and hooks; shapes of tensors.

    A change of it need not change the output: a switch may only stop a gradient. Numbers are left out, since a pass may
    count something; their effect on the output is noticed there.
    """
    return [
        *((name, type(module), type(module).forward, *_own(module)) for name, module in model.named_modules()),
        *((name, x.shape, x.dtype, x.device) for name, x in model.named_parameters()),
        *((name, x.shape, x.dtype, x.device) for name, x in model.named_buffers()),
    ]


def _own(module: nn.Module) -> Iterator[Any]:
    yield from ((name, repr(x)) for name, x in vars(module).items() if name not in OWN and _is_switch(x))
    yield vars(module).get("forward")
    yield from (*module._forward_pre_hooks, None, *module._forward_hooks)


def _is_switch(value: Any) -> bool:
    return value is None or all(isinstance(leaf, bool | str) for leaf in pytree.tree_leaves(value))
