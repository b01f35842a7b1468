"""Every block is checked before anybody uses it; what fails is refused by name."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from resdyn.errors import ComputationError
from resdyn.stream.block import Kind, ResidualBlock
from resdyn.stream.jacobian import block_jacobian

VERIFIED_KINDS: tuple[Kind, ...] = ("gated", "block")


def tolerance(dtype: torch.dtype) -> float:
    """Relative deviation that rounding can explain: eps^(2/3) (2e-5 in float32, 4e-11 in float64)."""
    return math.pow(torch.finfo(dtype).eps, 2 / 3)


def verify_block(block: ResidualBlock, state: Tensor, recorded: Tensor, inputs: tuple[object, ...]) -> None:
    """Check value, repeatability and the adjoint identity of a block at one recorded state."""
    first, second = block.block(state, inputs), block.block(state, inputs)
    _require(torch.isfinite(first).all(), block, "its output holds NaN or infinity", "check the weights and the input")
    _require(
        torch.equal(first, second),
        block,
        "two evaluations at the same state differ",
        "switch off what is random in it (dropout, stochastic depth): model.eval()",
    )
    error, limit = relative_error(first, recorded), tolerance(block.precision)
    _require(
        error <= limit,
        block,
        f"its value differs from the model's own by {error:.1e} (expected at most {limit:.1e})",
        "name the blocks by hand with stream_from_blocks",
    )
    recomposed = block.gate(block.skip(state, inputs) + block.branch(state, inputs), inputs)
    error = relative_error(recomposed, recorded)
    _require(
        error <= limit,
        block,
        f"gate(skip(h) + branch(h)) differs from the model's own value by {error:.1e}",
        "name the blocks by hand with stream_from_blocks",
    )
    _verify_linear_skip(block, state, inputs)
    _verify_adjoint(block, state, inputs)


def _verify_linear_skip(block: ResidualBlock, state: Tensor, inputs: tuple[object, ...]) -> None:
    """A projection is affine: equal steps of the state are equal steps of the skip."""
    if block.skip_kind != "projection":
        return
    generator = torch.Generator().manual_seed(block.index)
    v = torch.randn(state.shape, generator=generator, dtype=state.dtype).to(state)
    v = v * (state.norm() / v.norm() if state.norm() > 0 else 1.0)
    ends, middle = block.skip(state, inputs) + block.skip(state + 2 * v, inputs), block.skip(state + v, inputs)
    error = relative_error(ends, 2 * middle)
    _require(
        error <= 10 * tolerance(block.precision),
        block,
        f"what looks like its projected skip is not linear (by {error:.1e})",
        "name the blocks by hand with stream_from_blocks",
    )


def _verify_adjoint(block: ResidualBlock, state: Tensor, inputs: tuple[object, ...]) -> None:
    shaped = state.reshape(block.graph_shape_in)
    generator = torch.Generator().manual_seed(block.index)
    for kind in VERIFIED_KINDS:
        try:
            jacobian = block_jacobian(block, kind, shaped, inputs, trace=False)
            v, u = (torch.randn(n, 1, generator=generator, dtype=state.dtype).to(state) for n in jacobian.shape[::-1])
            forward, backward = jacobian.matmat(v), jacobian.rmatmat(u)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise ComputationError(
                f"block {block.index} ({block.path}) cannot be differentiated: {reason}. It was refused; name other "
                "blocks with stream_from_blocks, or replace the operation that has no derivative"
            ) from error
        scale = float(forward.norm() * u.norm() + backward.norm() * v.norm())
        gap = abs(float((forward * u).sum() - (v * backward).sum()))
        _require(
            gap <= tolerance(block.precision) * scale + torch.finfo(state.dtype).tiny,
            block,
            f"<Jv, u> and <v, J^T u> differ by {gap:.1e} (kind {kind!r}): forward and backward derivatives disagree",
            "an operation with a wrong derivative is the usual reason; name other blocks with stream_from_blocks",
        )


def relative_error(value: Tensor, reference: Tensor) -> float:
    """||value - reference|| / ||reference||, 0 when both vanish."""
    gap = float((value.reshape(-1) - reference.reshape(-1)).norm())
    norm = float(reference.norm())
    return gap / norm if norm else gap


def _require(condition: object, block: ResidualBlock, what: str, advice: str) -> None:
    if not condition:
        raise ComputationError(f"block {block.index} ({block.path}) could not be verified: {what}; {advice}")
