"""Places where a model stops the gradient, kept in its exported graph.

Export records operations, not whether gradients were recorded while they ran: what a ``torch.no_grad()`` block computed
would be differentiated like everything else. Here such values pass through a ``detach``, which every kind of derivative
respects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from resdyn._torch import DisableTorchFunction, pytree, set_grad_enabled

aten = torch.ops.aten


class StopGradients(TorchFunctionMode):
    """Puts a ``detach`` after whatever is computed while gradients are not recorded, and in place of ``.data``.

    Within the forward of a custom `autograd.Function` torch itself switches gradients off, and not by a call: there
    the derivative of the forward is wanted. ``recorded`` follows only the calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recorded = True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.compiler.is_dynamo_compiling():  # flexible attention traces its own body, and cannot handle modes
            return func(*args, **(kwargs or {}))
        enabled = torch.is_grad_enabled()
        self.recorded = self.recorded or enabled
        if func is set_grad_enabled:
            return self._switch(enabled, *args)
        if func == Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0].detach()
        result = func(*args, **(kwargs or {}))
        if (self.recorded or enabled) and not torch.is_inference_mode_enabled():
            return result
        return pytree.tree_map_only(Tensor, lambda value: _stopped(value, args), result)

    def _switch(self, enabled: bool, wanted: bool) -> None:
        if enabled or not self.recorded:
            self.recorded = wanted
        with DisableTorchFunction():  # hidden from the tracer: the detaches record it
            set_grad_enabled(wanted)


def _stopped(value: Tensor, args: tuple[Any, ...]) -> Tensor:
    """The value without its derivative; a tensor changed in place keeps its own, as in autograd."""
    carries = value.is_floating_point() or value.is_complex()
    return value.detach() if carries and not any(value is arg for arg in args) else value


@contextmanager
def stop_gradients_kept(model: nn.Module) -> Iterator[None]:
    """Run forward passes of the model under ``StopGradients``, above the modes of the tracer."""
    entered: list[StopGradients] = []

    def enter(*_: Any) -> None:
        entered.append(StopGradients())
        entered[-1].__enter__()

    def leave(*_: Any) -> None:
        if entered:
            entered.pop().__exit__(None, None, None)

    handles = [model.register_forward_pre_hook(enter), model.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        leave()
        for handle in handles:
            handle.remove()


def write_out_stops(graph: fx.Graph) -> None:
    """Write ``detach_``, which creates no new value, as a ``detach`` that all later operations read."""
    for node in [node for node in graph.nodes if node.target is aten.detach_.default]:
        (before,), seen = node.all_input_nodes, False
        node.target = aten.detach.default
        for later in graph.nodes:
            if seen:
                later.replace_input_with(before, node)
            seen = seen or later is node


def drop_idle_stops(graph: fx.Graph, inputs: Collection[fx.Node]) -> None:
    """Remove the stops of values that no input reaches: they have no derivative anyway."""
    moving = set(inputs)
    for node in list(graph.nodes):
        if moving.intersection(node.all_input_nodes):
            moving.add(node)
        elif node.target is aten.detach.default and not any(user.op == "output" for user in node.users):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
