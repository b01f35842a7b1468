"""The derivative of the model itself between its states, by autograd of one eager pass: the reference for a graph.

States are recognised by their values. While the model runs, every tensor that a torch function returns is inspected;
one that holds the values of state k is state k, and its derivative with respect to the state before it is one product
with the transposed Jacobian. Where several tensors hold the same values (views, copies, blocks that do nothing yet),
one of them must have the derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

from resdyn._torch import is_functorch_wrapped_tensor, pytree

Expected = Callable[[int, int, Tensor, Tensor], Tensor]
LEAVING = ("numpy", "__array__")  # these take values out of torch, and need a tensor without a gradient
SAMPLED = 8  # entries compared before all are


@dataclass
class Step:
    """What one eager pass shows of the path to a state: the least deviation among the tensors that hold its values.

    ``start``: the state that the derivative was taken with respect to. ``functions``: the custom
    ``autograd.Function`` classes on the path. ``stopped``: no gradient is recorded there.
    """

    start: int
    error: float
    functions: tuple[str, ...] = ()
    stopped: bool = False


@dataclass
class Source:
    """A tensor that holds a state: its gradient edge and its values."""

    edge: GradientEdge
    value: Tensor


@dataclass
class Point:
    """One state to be recognised: its flat values, the tensors that hold them, and the step to it."""

    values: Tensor
    sources: list[Source] = field(default_factory=list)
    step: Step | None = None

    def holds(self, tensor: Tensor, limit: float) -> bool:
        """Whether a tensor of the same number of elements has these values."""
        flat, bound = tensor.detach().reshape(-1), limit * float(self.values.norm())
        stride = max(1, len(flat) // SAMPLED)
        if not bool(((flat[::stride] - self.values[::stride]).abs() <= bound).all()):
            return False
        return float((flat - self.values).norm()) <= bound


class Comparison(TorchFunctionMode):
    """Compares every step of a pass with `expected(k, j, h, u)`, the product of d state j / d state k at h, transposed,
    with u; the result is in the ``step`` of each of the ``points``, and ``trouble`` says why autograd gave none.

    A state whose step agrees is detached from what came before it, so that at most one block is kept in memory.
    """

    def __init__(self, values: Sequence[Tensor], expected: Expected, same: float, agrees: float) -> None:
        super().__init__()
        self.points = [Point(value.reshape(-1)) for value in values]
        self.expected, self.same, self.agrees = expected, same, agrees
        self.trouble = ""
        self._sizes = {len(point.values) for point in self.points}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in LEAVING:  # a hook that reads values does not prevent the comparison
            args = (args[0].detach(), *args[1:])
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "__setitem__":  # the tensor that was written into may hold a state now
            self.look(args[0], replaceable=False)
        if not isinstance(result, Tensor | tuple | list):
            return result
        own = {id(arg) for arg in (*args, *(kwargs or {}).values())}
        fresh = getattr(func, "__name__", "") != "__get__"  # an attribute such as `data` may be written to
        return pytree.tree_map_only(Tensor, lambda value: self.look(value, fresh and id(value) not in own), result)

    def look(self, tensor: Tensor, replaceable: bool = True) -> Tensor:
        """The tensor, or where it holds a state, a copy from which autograd starts again."""
        if tensor.numel() not in self._sizes or not _is_plain(tensor):
            return tensor
        held = [
            k
            for k, point in enumerate(self.points)
            if len(point.values) == tensor.numel()
            and point.values.dtype == tensor.dtype
            and point.holds(tensor, self.same)
        ]
        if not held:
            return tensor
        done = sum(self._compare(k, tensor) for k in held) > 0
        tracked = tensor
        if replaceable and (not tensor.requires_grad or (done and not tensor._is_view())):
            with torch.inference_mode(False), torch.enable_grad():
                tracked = tensor.detach().clone().requires_grad_().clone()
        if tracked.requires_grad:
            source = Source(get_gradient_edge(tracked), tracked.detach().clone())
            for k in held:
                self.points[k].sources.append(source)
        return tracked

    def _compare(self, k: int, tensor: Tensor) -> bool:
        """Whether the step to point k ends in this tensor with the expected derivative."""
        start = next((j for j in reversed(range(k)) if self.points[j].sources), None)
        before = self.points[k].step
        if start is None or (before is not None and before.error <= self.agrees):
            return False
        generator = torch.Generator().manual_seed(k)
        u = torch.randn(tensor.numel(), generator=generator, dtype=torch.float64).to(tensor)
        sources = self.points[start].sources
        expected = self.expected(start, k, sources[0].value, u).reshape(-1)
        try:
            gradients = _gradients(tensor, sources, u)
        except (RuntimeError, NotImplementedError) as error:
            self.trouble = first_line(error)
            return False
        step = Step(start, min(_gap(gradient, expected, u) for gradient in gradients))
        if step.error > self.agrees:
            step.stopped = not tensor.requires_grad
            step.functions = custom_functions(tensor, [source.edge.node for source in sources])
        if before is None or step.error < before.error:
            self.points[k].step = step
        return step.error <= self.agrees


def _gradients(tensor: Tensor, sources: list[Source], u: Tensor) -> list[Tensor]:
    """u times the Jacobian of a tensor with respect to each source, flat."""
    zeros = [torch.zeros_like(source.value).reshape(-1) for source in sources]
    if not tensor.requires_grad:
        return zeros
    edges = [source.edge for source in sources]
    with torch.inference_mode(False):
        gradients = torch.autograd.grad(
            [tensor], edges, [u.reshape(tensor.shape)], retain_graph=True, allow_unused=True
        )
    return [zero if value is None else value.reshape(-1) for value, zero in zip(gradients, zeros, strict=True)]


def _gap(gradient: Tensor, expected: Tensor, u: Tensor) -> float:
    """The deviation relative to the larger of the two, and to no less than the rounding of u."""
    scale = max(float(gradient.norm()), float(expected.norm()), torch.finfo(u.dtype).eps * float(u.norm()))
    gap = float((gradient.to(expected.dtype) - expected).norm())
    return gap / scale if gap == gap else float("inf")


def custom_functions(tensor: Tensor, ends: Sequence[Node]) -> tuple[str, ...]:
    """Names of the Python ``autograd.Function`` classes between a tensor and some nodes of its autograd graph."""
    pending, seen, names = [tensor.grad_fn], {None, *ends}, dict[str, None]()
    while pending:
        node = pending.pop()
        if node in seen or node is None:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            names[type(node).__name__.removesuffix("Backward")] = None
        pending.extend(following for following, _ in node.next_functions)
    return tuple(names)


def first_line(error: Exception) -> str:
    """The message of an error, in one line."""
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


def _is_plain(tensor: Tensor) -> bool:
    """Whether this is a plain tensor of numbers, not a wrapper such as those of vmap."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
    return plain and tensor.is_floating_point() and not is_functorch_wrapped_tensor(tensor)


@contextmanager
def without_backward_hooks(model: nn.Module) -> Iterator[None]:
    """Without hooks on gradients: they serve a training loop, and may change gradients or keep them."""
    kept = [(module, module._backward_hooks, module._backward_pre_hooks) for module in model.modules()]
    try:
        for module, hooks, pre_hooks in kept:
            module._backward_hooks, module._backward_pre_hooks = type(hooks)(), type(pre_hooks)()
        yield
    finally:
        for module, hooks, pre_hooks in kept:
            module._backward_hooks, module._backward_pre_hooks = hooks, pre_hooks
