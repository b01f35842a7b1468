"""A transport of a wide model as a multiple of the identity and a matrix of low rank, and what that leaves out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from scipy import optimize
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn._numerics import plain_arithmetic
from resdyn.capturing.selection import Data
from resdyn.errors import ComputationError, InputError
from resdyn.models import LoadedModel, weights_hash
from resdyn.stream import Granularity, ResidualStream, States
from resdyn.stream.exclusive import one_at_a_time
from resdyn.stream.placement import model_device
from resdyn.stream.sweep import ForwardSweep
from resdyn.stream.verify import taken_as_current
from resdyn.transporting.lens import Transport
from resdyn.transporting.plan import coords_of
from resdyn.transporting.preparing import Prepared, prepare
from resdyn.transporting.reductions import DEFINITIONS, block_size

OVERSAMPLING = 8  # random vectors beyond the rank, for the range and the trace
TRACED_ROWS = 128


@dataclass(frozen=True)
class CompressedTransport:
    """``J_l ~ alpha_l I + left_l right_l`` for every depth l, and what that leaves out of the mean over the samples.

    Attributes:
        depths: The depths l.
        alpha: (depths,) multiples of the identity: estimates of tr(J_l) / d.
        left: By depth, (d, k): orthogonal columns, their norms descending.
        right: By depth, (k, d): orthonormal rows.
        remainder: (depths,) |J_l - alpha_l I - left_l right_l|_F, estimated from random vectors that nothing else was
            made of.
        remainder_error: Its standard error over these vectors.
        remainder_bound: What it is at most, but for `failure_probability`.
        failure_probability: Of each bound, over the random vectors.
        norm: (depths,) estimates of |J_l|_F, from the same vectors.
        sampling_error: (depths,) estimates of the norm of the mean's own error over the samples; NaN for one sample.
        num_samples: Samples behind the mean.
        num_products: Products with one sample's derivatives, backward for all depths at once and forward from one.
        attrs: Definition, target and settings.
    """

    depths: tuple[int, ...]
    alpha: Tensor
    left: tuple[Tensor, ...]
    right: tuple[Tensor, ...]
    remainder: Tensor
    remainder_error: Tensor
    remainder_bound: Tensor
    failure_probability: float
    norm: Tensor
    sampling_error: Tensor
    num_samples: int
    num_products: int
    attrs: dict[str, Any]

    def __repr__(self) -> str:
        worst = float((self.remainder_bound / self.norm).max())
        rank = self.right[0].shape[0]
        return (
            f"CompressedTransport({len(self.depths)} depths, alpha I + rank {rank}, {self.num_samples} samples, at "
            f"most {worst:.2g} of |J| left out)"
        )

    def __getitem__(self, depth: int) -> Tensor:
        """The matrix alpha I + left right (d, d)."""
        if depth not in self.depths:
            raise InputError(f"got depth {depth!r}, expected one of {list(self.depths)}")
        at = self.depths.index(depth)
        low = self.left[at] @ self.right[at]
        return low + self.alpha[at].to(low) * torch.eye(len(low), dtype=low.dtype)

    def expanded(self) -> Transport:
        """The same as a `Transport` of whole matrices, to read, evaluate, check and save; without errors per entry.

        Returns:
            The lens; its `attrs` record rank and remainder.
        """
        matrices = np.stack([self[depth].numpy() for depth in self.depths])
        recorded = {
            "compressed_rank": int(self.right[0].shape[0]),
            "remainder": self.remainder.tolist(),
            "remainder_bound": self.remainder_bound.tolist(),
        }
        coords = coords_of(self.depths, [matrices.shape[2]] * len(self.depths))
        arrays = {"transport": (("depth", "row", "column"), matrices)}
        return Transport(xr.Dataset(arrays, coords, self.attrs | recorded))


@plain_arithmetic()
def compressed_transport(
    model: nn.Module | LoadedModel,
    data: Data,
    rank: int = 32,
    *,
    depths: Sequence[int] | None = None,
    to: Literal["final"] | int = "final",
    samples: int | Sequence[int] | None = None,
    skip_first: int | None = None,
    skip_last: int | None = None,
    mask: Tensor | None = None,
    checks_drawn: int = 16,
    failure_probability: float = 1e-3,
    seed: int = 0,
    granularity: Granularity | None = None,
    stream: ResidualStream | None = None,
) -> CompressedTransport:
    """The mean transport of a wide model as ``alpha I`` plus rank k, from few products and with a bound on the rest.

    Two passes over the samples. The first multiplies the mean's transpose by random vectors, one backward product each
    for all depths: k + 8 find the range of J^T - alpha I and its trace, `checks_drawn` fresh ones are kept to check the
    result. The second multiplies J by the k + 8 directions found, forward from each depth, and the best rank k of that
    is kept. A whole transport takes d backward products instead.

    The remainder R = J - alpha I - left right is measured by Hutchinson's estimate ``|R|_F^2 = E |R^T w|^2`` over the
    fresh vectors. For Gaussian w and any R, ``P(mean of |R^T w|^2 <= t |R|_F^2) <= (t e^(1-t))^(m/2)`` with m vectors
    and t < 1 (Chernoff), which gives the bound.

    Args:
        model: A module in eval mode, or what `load_model` returned.
        data: As `transport` takes it.
        rank: k, at most the width.
        depths: From which states (default: all before the target).
        to: "final" or a depth, of the same width as all states.
        samples: How many to draw with `seed`, or their indices (default: all).
        skip_first: As in `transport`.
        skip_last: As in `transport`.
        mask: As in `transport`.
        checks_drawn: m, two or more random vectors that check the result.
        failure_probability: Of each bound.
        seed: Of the draw and of the random vectors.
        granularity: As in `transport`.
        stream: The model's stream, where it is at hand.

    Returns:
        Factors, remainder and bound; in memory alone, so that a run that is stopped starts again.

    Raises:
        InputError: For states that are not all of one width, a rank beyond it, and as for `transport`.
        ComputationError: For products that are not finite; it names the sample.

    Cost:
        Per sample k + 8 + `checks_drawn` backward products from the target to the first depth, and (k + 8) forward ones
        from every depth; memory of (k + 8 + `checks_drawn`) x width numbers per depth.

    Source:
        Halko, Martinsson and Tropp (2011), algorithm 4.1, of the mean over samples; Hutchinson (1990); the bound is
        Chernoff's for a sum of weighted squares, which is widest for rank one.

    Example:
        >>> import torch, resdyn
        >>> model = resdyn.nets.ResidualMLP(in_features=3, width=8, depth=2, classes=2).double().eval()
        >>> data = torch.randn(5, 3).double()
        >>> found = resdyn.compressed_transport(model, data, rank=8)
        >>> whole = resdyn.transport(model, data, show_progress=False)
        >>> torch.allclose(found[0], whole[0]), bool(found.remainder_bound.max() < 1e-9)
        (True, True)
    """
    m = checks.whole("checks_drawn", checks_drawn, 2)
    failure = checks.number("failure_probability", failure_probability, "a number in (0, 1)", above=0, below=1)
    with one_at_a_time:
        found = prepare(
            model,
            data,
            depths=depths,
            to=to,
            reduction=None,
            samples=samples,
            skip_first=skip_first,
            skip_last=skip_last,
            mask=mask,
            seed=checks.seed(seed),
            granularity=granularity,
            stream=stream,
            traced_rows=TRACED_ROWS,
        )
        width = _width(found)
        k = checks.whole("rank", rank, 1, width)
        return _compressed(found, k, min(k + OVERSAMPLING, width), m, failure, seed)


def _width(found: Prepared) -> int:
    sizes = {found.reduction.rows, *found.reduction.columns}
    if len(sizes) > 1 or isinstance(found.target, str):
        raise InputError(
            f"got states and a target of {sorted(sizes)} columns, expected one width: a multiple of the identity needs "
            "square matrices; choose depths of one stage, and to='final'"
        )
    return sizes.pop()


def _compressed(found: Prepared, k: int, drawn: int, m: int, failure: float, seed: int) -> CompressedTransport:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(found.reduction.rows, drawn + m, generator=generator, dtype=torch.float64)
    means, squares = _transposed(found, W.T)
    fresh = W[:, drawn:]
    alphas = [float((W[:, :drawn] * Y[:, :drawn]).sum() / W[:, :drawn].square().sum()) for Y in means]
    bases = [torch.linalg.qr(Y[:, :drawn] - a * W[:, :drawn])[0] for Y, a in zip(means, alphas, strict=True)]
    factors = [_truncated(JQ - a * Q, Q, k) for JQ, Q, a in zip(_forward(found, bases), bases, alphas, strict=True)]
    rests = [
        (Y[:, drawn:] - a * fresh - right.T @ (left.T @ fresh)).square().sum(0)
        for Y, a, (left, right) in zip(means, alphas, factors, strict=True)
    ]
    n = len(found.samples)
    norms = torch.stack([Y.square().sum(0).mean() for Y in means]).sqrt()
    spread = torch.stack([(s / n - Y.square().sum(0)).mean().clamp_min(0) for s, Y in zip(squares, means, strict=True)])
    mean, error = torch.stack([r.mean() for r in rests]), torch.stack([r.std() for r in rests]) / m**0.5
    stream = found.stream
    return CompressedTransport(
        depths=found.tail.depths,
        alpha=torch.tensor(alphas, dtype=torch.float64),
        left=tuple(left for left, _ in factors),
        right=tuple(right for _, right in factors),
        remainder=mean.sqrt(),
        remainder_error=error / (2 * mean.sqrt()).clamp_min(1e-300),
        remainder_bound=(mean / smallest_share(m, failure)).sqrt(),
        failure_probability=failure,
        norm=norms,
        sampling_error=(spread / (n - 1)).sqrt() if n > 1 else torch.full_like(norms, torch.nan),
        num_samples=n,
        num_products=n * (W.shape[1] + drawn * len(found.tail.depths)),
        attrs={
            "measurement": "transport",
            "num_samples": n,
            "to": found.target,
            "reduction": found.reduction.name,
            "definition": DEFINITIONS[found.reduction.name],
            "positions": found.positions,
            "granularity": stream.granularity,
            "weights_hash": weights_hash(stream.model),
            "num_depths": len(stream) + 1,
            "seed": seed,
        },
    )


def _truncated(B: Tensor, Q: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best rank k of B Q^T: left (d, k), right (k, d)."""
    U, S, V = torch.linalg.svd(B, full_matrices=False)
    return U[:, :k] * S[:k], V[:k] @ Q.T


def smallest_share(m: int, failure: float) -> float:
    """t with (t e^(1-t))^(m/2) = failure: the share of |R|_F^2 that a mean of m squares exceeds, but for `failure`."""
    return float(optimize.brentq(lambda t: math.log(t) + 1 - t - 2 * math.log(failure) / m, 1e-300, 1.0))


def _transposed(found: Prepared, vectors: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """J^T w for every depth, (d, vectors), and the sums over samples of the squared norms (vectors)."""
    depths = range(len(found.tail.depths))
    sums = [torch.zeros(found.reduction.columns[d], len(vectors), dtype=torch.float64) for d in depths]
    squares = [torch.zeros(len(vectors), dtype=torch.float64) for _ in depths]
    for index, states, valid in _samples(found):
        pullback = found.tail.at(states)
        like = torch.empty(0, dtype=pullback.dtype, device=model_device(found.stream.model))
        block = block_size(found.tail.largest, like.element_size(), like.device)
        for d, rows in enumerate(found.reduction.products(pullback, vectors.to(like), valid, block)):
            part = rows.double().cpu().T
            if not bool(part.isfinite().all()):
                raise ComputationError(
                    f"the transport from depth {found.tail.depths[d]} is not finite at sample {index}; leave it out, "
                    "or use a model in double precision"
                )
            sums[d] += part
            squares[d] += part.square().sum(0)
    return [part / len(found.samples) for part in sums], squares


def _forward(found: Prepared, bases: list[Tensor]) -> Iterator[Tensor]:
    """J Q for every depth, (d, columns of Q)."""
    sums = [torch.zeros(found.reduction.rows, Q.shape[1], dtype=torch.float64) for Q in bases]
    end = found.target
    assert isinstance(end, int)
    sweep = ForwardSweep(found.stream, found.tail.depths, end)
    for _, states, valid in _samples(found):
        changes = [found.reduction.injected(Q.T.to(states[0]), d, valid) for d, Q in enumerate(bases)]
        block = block_size(found.tail.largest, changes[0].element_size(), changes[0].device)
        for d, (depth, images) in enumerate(zip(found.tail.depths, sweep(states, changes, block), strict=True)):
            collected = found.reduction.collected(images, valid).double().cpu().T
            sums[d] += bases[d] if depth == end else collected
    return iter(part / len(found.samples) for part in sums)


def _samples(found: Prepared) -> Iterator[tuple[int, States, Tensor | None]]:
    """Index, states and valid positions, one sample at a time."""
    device = model_device(found.stream.model)
    for n, row in enumerate(found.samples):
        one = found.inputs.read(row[None]).to(device)
        with taken_as_current():
            states = found.stream.states(*one.args, **one.kwargs)
        yield int(found.inputs.index[row]), states, None if found.valid is None else found.valid[n].to(device)
