"""The derivative of the model itself between its states, by autograd of one eager pass: the reference for a graph.

States are recognised by their values. While the model runs, every tensor that a torch function returns is inspected;
one that holds the values of state k is state k, and its derivative with respect to the state before it is one product
with the transposed Jacobian. Where several tensors hold the same values (views, copies, blocks that do nothing yet),
one of them must have the derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

from resdyn._torch import is_functorch_wrapped_tensor, pytree

Expected = Callable[[int, int, Sequence[Tensor], Tensor], list[Tensor]]
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


class Transposed(NamedTuple):
    """A product with a transposed Jacobian: u and J^T u, flat."""

    u: Tensor
    product: Tensor


@dataclass
class Point:
    """One value to be recognised, flat; the tensors that hold it, and the step to it.

    ``starts``: the points that its derivative is taken with respect to, all of them values of one state; None: the last
    state before it that was seen. ``known``: the product to expect of the step from the point before. ``packed``: it is
    one of several values of a state. ``read``: another value of the same state is computed from it, so that the way to
    that one leads through it.
    """

    values: Tensor
    starts: tuple[int, ...] | None = None
    known: Transposed | None = None
    packed: bool = False
    read: bool = False
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
    """Compares every step of a pass with `expected(j, k, h, u)`, the product of u with d point k / d h, transposed, for
    each of the values h of the state that point j belongs to; the result is in the ``step`` of each of the ``points``,
    and ``trouble`` says why autograd gave none.

    A state whose step from the one before agrees is detached from what came before it, so that hardly more than one
    block is kept in memory. A state farther on is not: what comes between may be on its way through this tensor's past.
    """

    def __init__(self, points: Sequence[Point], expected: Expected, same: float, agrees: float) -> None:
        super().__init__()
        self.points = list(points)
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
        if getattr(func, "__name__", "") == "batch_norm" and isinstance(result, Tensor) and result.requires_grad:
            # torch 2.13 on a CPU takes the strides of a transposed gradient for others where there is one sample.
            result.register_hook(Tensor.contiguous)
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
        if any(self.points[k].packed for k in held):
            fresh = not any(self.points[k].sources for k in held)
            begins = any(self.points[k].starts == () for k in held)
            done = fresh and (done or begins) and not any(self.points[k].read for k in held)
        tracked = tensor
        if replaceable and (not tensor.requires_grad or (done and not tensor._is_view())):
            with torch.inference_mode(False), torch.enable_grad():
                tracked = tensor.detach().clone().requires_grad_().clone()
        if tracked.requires_grad:
            source = Source(get_gradient_edge(tracked), tracked.detach().clone())
            for k in held:
                self.points[k].sources.append(source)
        return tracked

    def _starts(self, k: int) -> tuple[int, ...]:
        """The points to differentiate point k with respect to; none where one of them was not seen."""
        starts = self.points[k].starts
        if starts is not None:
            return starts if all(self.points[j].sources for j in starts) else ()
        return next(((j,) for j in reversed(range(k)) if self.points[j].sources), ())

    def _compare(self, k: int, tensor: Tensor) -> bool:
        """Whether the step from the point before to point k ends in this tensor with the expected derivative."""
        starts = self._starts(k)
        before = self.points[k].step
        if not starts or (before is not None and before.error <= self.agrees):
            return False
        known = self.points[k].known if starts == (k - 1,) else None
        generator = torch.Generator().manual_seed(k)
        u = known.u if known else torch.randn(tensor.numel(), generator=generator, dtype=torch.float64).to(tensor)
        sources = [self.points[start].sources for start in starts]
        try:
            gradients = []
            for j, every in enumerate(sources):  # with respect to one value of the state, the others held fixed
                others = [source for i, beside in enumerate(sources) if i != j for source in beside]
                with _blocked(others):
                    gradients.append(_gradients(tensor, every, u))
        except (RuntimeError, NotImplementedError) as error:
            self.trouble = first_line(error)
            return False
        gap = _gap(gradients, [known.product], u) if known else math.inf
        if gap > self.agrees:  # rounding may have put a unit on the other side of its kink: at the model's own values
            gap = _gap(gradients, self.expected(starts[-1], k, [every[0].value for every in sources], u), u)
        step = Step(starts[0] if self.points[k].starts is None else k - 1, gap)
        if step.error > self.agrees:
            step.stopped = not tensor.requires_grad
            step.functions = custom_functions(tensor, [source.edge.node for every in sources for source in every])
        if before is None or step.error < before.error:
            self.points[k].step = step
        return step.error <= self.agrees and step.start == k - 1


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


@contextmanager
def _blocked(sources: Sequence[Source]) -> Iterator[None]:
    """No gradient passes through these tensors to what they were computed from."""

    def stop(gradients: tuple[Tensor | None, ...], index: int) -> tuple[Tensor | None, ...]:
        return tuple(g if i != index or g is None else torch.zeros_like(g) for i, g in enumerate(gradients))

    handles = [
        edge.node.register_prehook(partial(stop, index=edge.output_nr)) for edge in (source.edge for source in sources)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gap(gradients: Sequence[Sequence[Tensor]], expected: Sequence[Tensor], u: Tensor) -> float:
    """The deviation relative to the larger of the two, and to no less than the rounding of u.

    Of the tensors that hold one value that is taken whose gradient deviates least.
    """
    flat = [value.reshape(-1) for value in expected]
    best = [
        min(every, key=lambda gradient: float((gradient.to(value.dtype) - value).norm()))
        for every, value in zip(gradients, flat, strict=True)
    ]
    size = max(torch.cat(list(parts)).norm() for parts in (best, flat))
    scale = max(float(size), torch.finfo(u.dtype).eps * float(u.norm()))
    gap = float((torch.cat(best).to(flat[0].dtype) - torch.cat(flat)).norm())
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
