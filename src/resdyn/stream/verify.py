"""A stream and each of its blocks are verified before use; what fails is refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resdyn._numerics import full_precision, plain_arithmetic
from resdyn.errors import ComputationError
from resdyn.linalg._norms import norm
from resdyn.progress import stage, track
from resdyn.stream.autograd import Transposed
from resdyn.stream.block import Kind, ResidualBlock
from resdyn.stream.comparison import compared_with_autograd
from resdyn.stream.cut import reach
from resdyn.stream.failures import first_line
from resdyn.stream.inputs import returned
from resdyn.stream.jacobian import load_forward_mode
from resdyn.stream.linearize import BoundFunction
from resdyn.stream.norms import check_group_norms
from resdyn.stream.ops import is_random, node_modules, operation

if TYPE_CHECKING:
    from resdyn.stream.states import States
    from resdyn.stream.stream import ResidualStream

SHOWN = 8  # blocks that a note names
VERIFIED_KINDS: tuple[Kind, ...] = ("gated", "block")


# Operations whose gradient in torch 2.13 is not their derivative, and when.
WRONG = {
    name: f"torch takes the gradient of {name} at a maximum that several windows share once per window; let windows "
    "not overlap (kernel_size = stride)"
    for name in ("max_unpool2d", "max_unpool3d")
} | {
    "scatter_reduce": "torch gives products by scatter_reduce the derivative zero in forward mode (pytorch #196702); "
    "multiply in another way, such as the exponential of a sum of logarithms"
}
ROUNDING = 10  # products with a Jacobian of no more than this many eps are nothing but rounding


def tolerance(dtype: torch.dtype) -> float:
    """Relative deviation that rounding can explain: eps^(2/3) (2e-5 in float32, 4e-11 in float64)."""
    return math.pow(torch.finfo(dtype).eps, 2 / 3)


def verified(
    stream: ResidualStream, args: tuple[Any, ...], kwargs: dict[str, Any], expected: list[Tensor]
) -> ResidualStream:
    """The same stream, once its graph and each of its blocks reproduce the model.

    `expected` are the tensors that the model itself returns for the first sample. The output is compared for the whole
    example batch, which shows whether samples influence each other; blocks are compared at the first sample.
    """
    with taken_as_current():
        try:
            return _verified(stream, args, kwargs, expected)
        except (AttributeError, TypeError, IndexError) as error:
            raise ComputationError(
                f"{type(stream.model).__name__} was exported, but torch could not evaluate its graph "
                f"({type(error).__name__}: {first_line(error)}); replace the operation by plain ones on tensors"
            ) from error


def _verified(
    stream: ResidualStream, args: tuple[Any, ...], kwargs: dict[str, Any], expected: list[Tensor]
) -> ResidualStream:
    _check_repeatable(stream)
    one, named = stream.signature.one_sample(args, kwargs)
    states = stream.states(*args, **kwargs)
    _check_output(stream, states.output[:1], one, named, expected)
    if stream.signature.size > 1:
        advice = (
            "samples influence each other, or an input does not carry the batch in its first dimension; find the "
            "stream with one sample if that is intended"
        )
        _check_output(stream, states.output, args, kwargs, returned(stream.model, args, kwargs), advice)
    if any("group_norm" in operation(node) for node in stream._trace.nodes):
        check_group_norms(stream.model, one, named, tolerance(stream._trace.precision))
    states = states.sample(0)
    products = [
        verify_block(block, states[block.index][0], states.outputs[block.index][0], states.inputs)
        for block in track(stream.blocks, "verifying the blocks")
    ]
    stream.notes += _stopped_transitions(stream) + _stopped_branches(stream, states, products)
    with stage("comparing with autograd of the model"):
        same = 10 * tolerance(stream._trace.precision)
        stream.notes += compared_with_autograd(stream, states, one, named, same, products)
    return stream


def _check_repeatable(stream: ResidualStream) -> None:
    """A model that draws random numbers has different states in every pass; two passes may still agree by chance."""
    drawn = [node for node in stream._trace.nodes if is_random(node)]
    drawn += [node for node in reach(stream._trace.leaves, lambda node: node.all_input_nodes) if is_random(node)]
    if drawn:
        modules = [path for path in node_modules(drawn[0]) if path]
        where = f" in {modules[-1]}" if modules else ""
        raise ComputationError(
            f"{type(stream.model).__name__} draws random numbers ({operation(drawn[0])}{where}) whenever it runs, so "
            "its states are never the same; switch that off (model.eval(), its configuration) or pass what it draws as "
            "an input"
        )


def _stopped_transitions(stream: ResidualStream) -> tuple[str, ...]:
    """A note on a ``detach`` between blocks, where each block is still a function of its state.

    Within the module of the sum it belongs to the block, whose derivative is then zero: refused.
    """
    notes = []
    for block in stream.blocks:
        out = block.join.out
        stops = [user for user in out.users if operation(user) == "detach"]
        if len(stops) < len(out.users) or not stops:
            continue
        home = node_modules(block.join.total)
        if home and home[-1] and home == node_modules(stops[0]):
            raise ComputationError(
                f"block {block.index} ({block.path}) ends in a detach, or runs under torch.no_grad(), so that its "
                "derivative is zero; remove it, or move it to where the block is called"
            )
        if block is not stream.blocks[-1]:
            notes.append(f"a detach follows block {block.index}: no gradient passes from the blocks after it")
    return tuple(notes)


def _stopped_branches(stream: ResidualStream, states: States, products: Sequence[Transposed]) -> tuple[str, ...]:
    """A note on blocks that change their state by what has no derivative with respect to it."""
    stopped = []
    for block, (u, product) in zip(stream.blocks, products, strict=True):
        if block.gate_kind != "none" or block.skip_kind not in ("identity", "none"):
            continue
        state, output = states[block.index][0], states.outputs[block.index][0]
        if not torch.equal(product, u) or torch.equal(output.reshape(-1), state.reshape(-1)):
            continue
        # u + B^T u may round to u where B is small: the branch alone tells
        if block.skip_kind == "none" or not stream.jacobian(block.index, states, kind="branch").rmatvec(u).any():
            stopped.append(f"{block.index} ({block.path})")
    if not stopped:
        return ()
    more = f" and {len(stopped) - SHOWN} more" if len(stopped) > SHOWN else ""
    whose = f"{'blocks' if len(stopped) > 1 else 'block'} {', '.join(stopped[:SHOWN])}{more}"
    return (
        f"what is added to the state in {whose} has the derivative zero, so that only the skip's is left: it reads the "
        "state through rounding, a sign, a detach or whole numbers, or does not depend on it near the first sample",
    )


_checking: ContextVar[bool] = ContextVar("resdyn_checking", default=True)


@contextmanager
def taken_as_current() -> Iterator[None]:
    """Within the context streams are not compared with their models again: the caller has done so."""
    before = _checking.set(False)
    try:
        yield
    finally:
        _checking.reset(before)


def is_checked() -> bool:
    """Whether streams are compared with their models; not inside `taken_as_current`."""
    return _checking.get()


@plain_arithmetic()
def check_current(
    stream: ResidualStream, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor | None = None
) -> None:
    """Raise ``ComputationError`` where the model no longer computes what its graph does.

    A graph keeps what was not a tensor when it was exported; the model may have changed that since. The model is run on
    the first sample and compared with ``output``, the graph's current result.
    """
    if not is_checked():
        return
    advice = "something in the model that is not a tensor has changed since the stream was found: find it again"
    one, named = stream.signature.one_sample(args, kwargs)
    output = stream._states(*one, **named).output if output is None else output
    _check_output(stream, output, one, named, returned(stream.model, one, named), advice)


def _check_output(
    stream: ResidualStream,
    output: Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    expected: list[Tensor],
    advice: str = "",
) -> None:
    name, limit = type(stream.model).__name__, 10 * tolerance(stream._trace.precision)
    errors = [relative_error(output, value) for value in expected if value.numel() == output.numel()]
    if not errors:
        raise ComputationError(
            f"{name} returns no tensor of shape {tuple(output.shape)} for {len(output)} sample(s), as its exported "
            f"graph does; {advice}"
        )
    if not any(error <= limit for error in errors):
        advice = advice or _why_other(stream.model, args, kwargs, expected)
        raise ComputationError(
            f"the exported graph of {name} does not reproduce the model on {len(output)} sample(s): its output differs "
            f"by {min(errors):.1e} (expected at most {limit:.1e}); {advice}"
        )


def _why_other(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], expected: list[Tensor]) -> str:
    """Why a graph may give other values than its model, judged by whether a second pass gives the same."""
    again = returned(model, args, kwargs)
    if not all(a.isfinite().all() for a in again):
        return "the model gives NaN or infinity there: check its inputs"
    if all(torch.equal(a, b) for a, b in zip(again, expected, strict=True)):
        return (
            "the model gives the same output twice, so something in its forward pass, or in a hook that changes values,"
            " is lost in export, such as numbers that are read from tensors (.item()) or written through .data; write "
            "it with operations on tensors"
        )
    return "its output differs from pass to pass: switch off what is random in it"


def verify_block(block: ResidualBlock, state: Tensor, recorded: Tensor, inputs: tuple[object, ...]) -> Transposed:
    """Check the value, its parts and the adjoint identity of a block at one recorded state; returns J^T u and u."""
    value = block.block(state, inputs)
    _require(torch.isfinite(value).all(), block, "its output holds NaN or infinity", "check the weights and the input")
    error, limit = relative_error(value, recorded), tolerance(block.precision)
    _require(
        error <= limit,
        block,
        f"its value differs from the model's own by {error:.1e} (expected at most {limit:.1e})",
        "switch off what is random in it (model.eval()), or name the blocks by hand with stream_from_blocks",
    )
    branch, product = _verify_adjoint(block, state, inputs)
    recomposed = block.gate(block.skip(state, inputs) + branch, inputs)
    error = relative_error(recomposed, recorded)
    _require(
        error <= limit,
        block,
        f"gate(skip(h) + branch(h)) differs from the model's own value by {error:.1e}",
        "name the blocks by hand with stream_from_blocks",
    )
    _verify_linear_skip(block, state, inputs)
    return product


def _verify_linear_skip(block: ResidualBlock, state: Tensor, inputs: tuple[object, ...]) -> None:
    """A projection is affine: equal steps of the state are equal steps of the skip."""
    if block.skip_kind != "projection":
        return
    v = _random(state, torch.Generator().manual_seed(block.index))
    v = v * (norm(state) / norm(v) if norm(state) > 0 else 1.0)
    ends, middle = block.skip(state, inputs) + block.skip(state + 2 * v, inputs), block.skip(state + v, inputs)
    error = relative_error(ends, 2 * middle)
    _require(
        error <= 10 * tolerance(block.precision),
        block,
        f"what looks like its projected skip is not linear (by {error:.1e})",
        "name the blocks by hand with stream_from_blocks",
    )


def _verify_adjoint(block: ResidualBlock, state: Tensor, inputs: tuple[object, ...]) -> tuple[Tensor, Transposed]:
    """Check <Jv, u> = <v, J^T u> at random vectors.

    Returns what the derivatives give too: the branch at the state, and u with J^T u for the whole block.
    Of a block h + F(h) the identity is that of F alone, and sharper there: the skip's share does not hide a gap.
    """
    shaped = state.reshape(block.graph_shape_in)
    generator = torch.Generator().manual_seed(block.index)
    plain = block.skip_kind == "identity" and block.gate_kind == "none" and not block.join.parts
    for kind in ("branch",) if plain else VERIFIED_KINDS:
        try:
            value, *products = _products(block.function(kind, shaped, inputs), shaped, generator)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError, KeyError) as error:
            reason = str(error).strip().split("\n")[0].rstrip(".")
            if isinstance(error, KeyError):
                reason = f"an operation in it has no derivative of this kind ({reason})"
            elif "setup_context" in reason:  # torch names no operation, and not what is missing in these words
                reason = "it calls a torch.autograd.Function without setup_context, which torch.func does not support"
            raise ComputationError(
                f"block {block.index} ({block.path}) cannot be differentiated: {reason}. It was refused; name other "
                "blocks with stream_from_blocks, or replace the operation that has no derivative"
            ) from error
        _require_adjoint(block, kind, *products)
    u, backward = (vector.reshape(-1) for vector in products[2:])
    if plain:
        return value.reshape(block.shape_out), Transposed(u, u + backward)
    return block.branch(state, inputs), Transposed(u, backward)


@full_precision()
def _products(
    function: BoundFunction, h: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """f(h), v, J v, u and J^T u at random vectors v and u."""
    load_forward_mode()
    with plain_arithmetic():
        v = _random(h, generator)
        value, pullback = torch.func.vjp(function, h)[:2]
        u = _random(value, generator)
        forward = torch.func.jvp(function, (h,), (v,))[1]
        return value.detach(), v, forward, u, pullback(u)[0]


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    """A random vector; on every device the same."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def _require_adjoint(block: ResidualBlock, kind: Kind, v: Tensor, forward: Tensor, u: Tensor, backward: Tensor) -> None:
    scale = norm(forward) * norm(u) + norm(backward) * norm(v)
    gap = abs(float((forward * u).sum() - (v * backward).sum()))
    rounding = ROUNDING * torch.finfo(u.dtype).eps * norm(u) * norm(v)
    _require(
        gap <= tolerance(block.precision) * scale + torch.finfo(u.dtype).tiny,
        block,
        f"<Jv, u> and <v, J^T u> differ by {gap:.1e} (kind {kind!r}): forward and backward derivatives disagree",
        f"it is so small that rounding in {u.dtype} hides it, as after a norm of two values, which gives 1 and "
        "-1 whatever they are; leave the block out, or measure in float64 (model.double())"
        if gap <= rounding
        else _wrong_derivative(block),
    )


def _wrong_derivative(block: ResidualBlock) -> str:
    """Which operation of a block is known to have a wrong derivative, and what to do."""
    names = (operation(node) for node in block.nodes if operation(node) != "scatter_reduce" or "prod" in node.args)
    known = (WRONG[name] for name in names if name in WRONG)
    return next(
        known, "an operation with a wrong derivative is the usual reason; name other blocks with stream_from_blocks"
    )


def relative_error(value: Tensor, reference: Tensor) -> float:
    """||value - reference|| / ||reference||, 0 when both vanish."""
    gap, size = norm(value.detach().reshape(-1) - reference.detach().reshape(-1)), norm(reference.detach())
    return gap / size if size else gap


def _require(condition: object, block: ResidualBlock, what: str, advice: str) -> None:
    if not condition:
        raise ComputationError(f"block {block.index} ({block.path}) could not be verified: {what}; {advice}")
