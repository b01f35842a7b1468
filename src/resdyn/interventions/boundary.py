"""Points where a classifier changes its prediction, to be measured like any other inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn.errors import InputError
from resdyn.stream.graph import main_output
from resdyn.stream.inputs import check_model
from resdyn.stream.preserve import preserved

STEPS = 60  # halvings: beyond the resolution of float32


def boundary_points(model: nn.Module, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Where each segment from ``start`` to ``end`` leaves the class predicted at its start, by bisection.

    A segment may cross more than one boundary; one crossing is found.

    Args:
        model: in eval mode; maps inputs (N, ...) to logits or probabilities (N, C), alone or beside other outputs (of
            several tensors the one named ``logits``, otherwise the first that is not a single number).
        start: (N, ...), inputs.
        end: (N, ...), inputs that the model puts into other classes.

    Returns:
        Points (N, ...) just beyond the boundary, and their margins (N,), the largest output minus the second, which
        would be 0 on the boundary.

    Raises:
        InputError: both ends of a segment in one class, tensors of different shapes or not finite, or an output that is
            not (N, C).

    Cost:
        63 forward passes of N inputs.

    Example:
        >>> line = nn.Linear(1, 2, bias=False).eval()
        >>> line.weight.data = torch.tensor([[0.0], [1.0]])
        >>> boundary_points(line, torch.tensor([[-3.0]]), torch.tensor([[1.0]]))[0].abs().item() < 1e-6
        True
    """
    model = check_model(model)
    for name, points in (("start", start), ("end", end)):
        checks.floats(name, points)
    if start.shape != end.shape or start.dim() < 2 or len(start) == 0:
        raise InputError(f"got start {tuple(start.shape)} and end {tuple(end.shape)}, expected (N, ...) for both")
    call = preserved(model)
    own = _logits(call, start).argmax(1)
    same = (own == _logits(call, end).argmax(1)).nonzero().flatten().tolist()
    if same:
        raise InputError(f"the model predicts one class at both ends of segments {same}: choose other pairs of inputs")
    low = torch.zeros(len(start), dtype=torch.float64, device=start.device)
    high = torch.ones_like(low)
    for _ in range(STEPS):
        middle = (low + high) / 2
        inside = _logits(call, _between(start, end, middle)).argmax(1) == own
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    points = _between(start, end, high)
    first, second = _logits(call, points).topk(2, dim=1).values.T
    return points, first - second


def _between(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    return torch.lerp(start, end, weight.to(start.dtype).reshape(-1, *[1] * (start.dim() - 1)))


def _logits(call: Callable[..., Any], inputs: Tensor) -> Tensor:
    with torch.no_grad():
        logits = main_output(call(inputs.clone()))
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise InputError(
            f"the model's output has shape {tuple(logits.shape)}, expected logits (N, C) of two classes or more"
        )
    return logits
