"""Changes of a branch for `stream.patch`, and what every block contributes to the final state and to the output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn import _checks as checks
from resdyn._display import Displayed, Table, table
from resdyn._format import with_error
from resdyn._statistics import standard_error
from resdyn.errors import InputError
from resdyn.stream import ResidualStream, States
from resdyn.stream.patching import Change, patched, run_from

FloatArray = NDArray[np.float64]


def ablate(branch: Tensor) -> Tensor:
    """No branch at all, F = 0.

    Args:
        branch: (N, *shape), what the branch adds.

    Returns:
        Zeros of the same shape.

    Example:
        >>> ablate(torch.ones(1, 2))
        tensor([[0., 0.]])
    """
    return torch.zeros_like(branch)


def scale(factor: float) -> Change:
    """The branch times a number.

    Args:
        factor: 0 ablates, 1 changes nothing.

    Returns:
        A change for `stream.patch`.

    Example:
        >>> scale(2.0)(torch.ones(1, 2))
        tensor([[2., 2.]])
    """
    factor = checks.number("factor", factor, "a finite number")
    return lambda branch: factor * branch


def replace(values: Tensor) -> Change:
    """Other values, such as the branch at another sample.

    Args:
        values: (N, *shape) or (*shape,), then the same for all samples.

    Returns:
        A change for `stream.patch`.

    Example:
        >>> replace(torch.tensor([3.0, 4.0]))(torch.ones(2, 2))
        tensor([[3., 4.],
                [3., 4.]])
    """
    checks.instance("values", values, Tensor, "a tensor")
    return lambda branch: values.to(branch).expand_as(branch).clone()


def add(direction: Tensor) -> Change:
    """The branch and a vector on top.

    Args:
        direction: (*shape,) or (N, *shape).

    Returns:
        A change for `stream.patch`.

    Example:
        >>> add(torch.tensor([0.0, 1.0]))(torch.ones(1, 2))
        tensor([[1., 2.]])
    """
    checks.instance("direction", direction, Tensor, "a tensor")
    return lambda branch: branch + direction.to(branch)


def project_out(direction: Tensor) -> Change:
    """The branch without its part along a vector, F - (v . F / |v|^2) v over all entries of a sample.

    Args:
        direction: (*shape,), not zero.

    Returns:
        A change for `stream.patch`.

    Raises:
        InputError: A direction of length zero.

    Example:
        >>> project_out(torch.tensor([0.0, 2.0]))(torch.ones(1, 2))
        tensor([[1., 0.]])
    """
    checks.instance("direction", direction, Tensor, "a tensor")
    if not float(direction.norm()) > 0:
        raise InputError("got a direction of length zero, expected one that can be projected out")

    def change(branch: Tensor) -> Tensor:
        unit = (direction / direction.norm()).to(branch).flatten()
        flat = branch.flatten(1)
        return (flat - (flat @ unit)[:, None] * unit).reshape(branch.shape)

    return change


@dataclass(frozen=True, eq=False, repr=False)
class Contributions(Displayed):
    """What every block contributes, one row per sample.

    Attributes:
        state: (N, L), (h_{i+1} - h_i) . h_L / |h_L|^2, the share of the final state; these sum to
            1 - h_0 . h_L / |h_L|^2 in a stream of one stage, and are NaN for blocks in stages before the last.
        direct: (N, L), |z - z'| / |z| with z' the output at h_L - (h_{i+1} - h_i): what the step does to the output
            past the blocks that follow; NaN likewise.
        total: (N, L), |z - z'| / |z| with z' the output of the network with F_i = 0: with all that follows.
        paths: The modules that hold the branches.
    """

    state: FloatArray
    direct: FloatArray
    total: FloatArray
    paths: tuple[str, ...]

    def _table(self) -> Table:
        columns = [self.state, self.direct, self.total]
        rows = [
            (str(i), path or "(model)", *(_mean(column[:, i]) for column in columns))
            for i, path in enumerate(self.paths)
        ]
        names = ("block", "module", "share of the final state", "direct effect", "total effect")
        return table(f"Contributions of {len(rows)} blocks, means over {len(self.total)} samples", names, rows)


def contributions(stream: ResidualStream, states: States) -> Contributions:
    """What every block contributes to the final state and to the output, directly and in all.

    Args:
        stream: Of L blocks.
        states: What `stream.states(inputs)` returned, N samples.

    Returns:
        Shares and relative changes, (N, L) each.

    Cost:
        2 L + 1 passes per sample.

    Source:
        Veit, Wilber and Belongie (2016), lesions; Elhage et al. (2021), the direct effect.

    Example:
        >>> import resdyn
        >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
        >>> stream = resdyn.find_stream(model, torch.zeros(1, 3))
        >>> contributions(stream, stream.states(torch.ones(5, 3))).total.shape
        (5, 2)
    """
    checks.instance("states", states, States, "what stream.states(inputs) returns")
    last, size = states[len(stream)], (states.num_samples, len(stream))
    found = {name: np.full(size, np.nan) for name in ("state", "direct", "total")}
    for i in range(len(stream)):
        found["total"][:, i] = patched(stream, {i: ablate}, states).change.numpy()
        if states[i].shape == states[i + 1].shape == last.shape and _one_stage(states, i):
            step = states[i + 1] - states[i]
            found["state"][:, i] = (_dot(step, last) / _dot(last, last)).numpy()
            output = run_from(stream, len(stream), last - step, states)
            found["direct"][:, i] = _relative(output, states.output)
    return Contributions(**found, paths=tuple(block.path for block in stream))


def _one_stage(states: States, i: int) -> bool:
    return all(state.shape == states[-1].shape for state in states[i:])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.flatten(1).double() * b.flatten(1).double()).sum(1).cpu()


def _relative(new: Tensor, old: Tensor) -> FloatArray:
    new, old = new.flatten(1).double(), old.flatten(1).double()
    return np.asarray(((new - old).norm(dim=1) / old.norm(dim=1)).cpu())


def _mean(values: FloatArray) -> str:
    known = values[np.isfinite(values)]
    if not known.size:
        return ""
    return with_error(float(known.mean()), float(standard_error(known)) if known.size > 1 else None)
