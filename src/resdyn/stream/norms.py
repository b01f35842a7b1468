"""Group norms whose variance the memory format of their input spoils."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from resdyn.errors import ComputationError
from resdyn.linalg._norms import norm
from resdyn.stream.inputs import returned


def check_group_norms(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], same: float) -> None:
    """Refuse a model whose group norms give other numbers than in the contiguous format, by more than `same`.

    In torch 2.13 on a CPU the variance of a group is E[x^2] - E[x]^2 where images lie in `channels_last`: of float32
    with a mean of 300 standard deviations the result is off by 1 %, with one of 3,000 by a factor of 200
    (`findings/torch_group_norm_loses_its_variance_in_channels_last.sh`).

    Raises:
        ComputationError: It says by how much, and what to do.
    """
    seen = _GroupNorms()
    with seen:
        returned(model, args, kwargs)
    lossy = [error for error in seen.errors if not error <= same]
    if lossy:
        raise ComputationError(
            f"{len(lossy)} of the {len(seen.errors)} group norms of {type(model).__name__} give other numbers than in "
            f"the contiguous memory format, by up to {max(lossy):.1e}: in channels_last torch loses the variance of "
            "values with a large mean; call model.to(memory_format=torch.contiguous_format) and pass contiguous "
            "inputs, or use float64"
        )


class _GroupNorms(TorchFunctionMode):
    """Repeats every group norm of a pass in the contiguous format, where its input has another."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[float] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "group_norm" and isinstance(result, Tensor) and args:
            x, *others = args
            again = result if x.is_contiguous() else func(x.contiguous(), *others, **(kwargs or {}))
            self.errors.append(norm(result - again) / (norm(again) or 1.0))
        return result
