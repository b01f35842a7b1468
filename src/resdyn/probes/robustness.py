"""How little noise makes the network change its answer at a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.linalg._norms import norm
from resdyn.probes.sample import Layout, Sample, block_seed, to_numpy
from resdyn.probes.trajectory import class_logits
from resdyn.stream.readout import logits_function

Logits = Callable[[Tensor], Tensor]
SCAN = 32  # amplitudes looked at before a crossing is bracketed, in a geometric row
DEPTH = 2.0**-12  # the least of them, of the largest
BATCH = 256
MOST_DIRECTIONS = 100_000
NAMES = ("amplitude", "bracket", "converged")


@dataclass(frozen=True)
class Robustness:
    """The smallest L2 norm of a disturbance that changes the network's answer argmax_c z_c(x), of two kinds.

    `noise_amplitude`: the least over `directions` Gaussian directions, seeded by the sample alone; `noise_amplitudes`
    (direction): each one's own. `gradient_amplitude`: the least over the directions -grad (z_c - z_j)(x), in which the
    answer c would lose against j first if the network were linear, for the `rivals` classes j for which that is
    nearest; `linear_margin`: that nearest distance, min_j (z_c - z_j) / |grad (z_c - z_j)|. `logit_margin`: the largest
    logit less the second. All norms are in units of the network's input (normalised images).

    Along each direction amplitudes up to `reach` times the norm of the input are scanned in a geometric row; the first
    that changes the answer is bracketed and bisected until the bracket is at most `tol` times its upper end. The value
    is that upper end, an amplitude seen to change the answer; `*_bracket` is the width of the bracket, the error of the
    crossing, and `*_converged` whether it is narrow enough. Where no amplitude changes the answer: NaN, not converged.
    A region of another answer thinner than the scan's spacing (factor 1.3) may be stepped over, and directions are
    sampled: both values bound the distance to the decision boundary from above.

    Cost per sample: (directions + rivals) x (32 + log2(0.3 / tol)) forward passes and C gradients. The model must take
    one floating-point tensor and give one row of two or more logits, else the values are NaN.
    Source: Moosavi-Dezfooli, Fawzi and Frossard (2016), "DeepFool", equations 7 and 8, for the linear step; there it is
    repeated, here it is followed to the boundary.
    """

    directions: int = 16
    rivals: int = 9
    reach: float = 4.0
    tol: float = 1e-3
    name: ClassVar[str] = "robustness"
    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.replace_checked(
            self,
            directions=checks.whole("directions", self.directions, 1, MOST_DIRECTIONS, of=self.name),
            rivals=checks.whole("rivals", self.rivals, 1, of=self.name),
            reach=checks.number("reach", self.reach, "a positive number", 0, of=self.name),
            tol=checks.number("tol", self.tol, "a number between 0 and 1", 0, 1, of=self.name),
        )

    def layout(self, stream: Any, n_classes: int) -> Layout:
        layout: Layout = {"noise_amplitudes": (("direction",), (self.directions,), "float64")}
        for kind in ("noise", "gradient"):
            layout |= {f"{kind}_{name}": ((), (), "bool" if name == "converged" else "float64") for name in NAMES}
        return layout | {"linear_margin": ((), (), "float64"), "logit_margin": ((), (), "float64")}

    def measure(self, sample: Sample, n_classes: int) -> dict[str, np.ndarray]:
        x, model = _image(sample, n_classes), _class_logits(sample, n_classes)
        found = dict.fromkeys(self.layout(sample.stream, n_classes), np.asarray(np.nan))
        found["noise_amplitudes"] = np.full(self.directions, np.nan)
        found["noise_converged"] = found["gradient_converged"] = np.asarray(False)
        if x is None:
            return found
        generator = np.random.default_rng(block_seed(sample.seed, sample.index, len(sample.stream)))
        noise = torch.from_numpy(generator.standard_normal((self.directions, x.numel()))).to(x)
        gradient, margins, logit_margin = nearest_rivals(model, x, self.rivals)
        largest = self.reach * norm(x)
        for kind, directions in (("noise", noise), ("gradient", gradient)):
            low, high = crossings(model, x, directions, largest, self.tol)
            found |= {f"{kind}_{name}": value for name, value in _least(low, high, self.tol).items()}
            if kind == "noise":
                found["noise_amplitudes"] = to_numpy(high)
        return found | {"linear_margin": to_numpy(margins.min()), "logit_margin": to_numpy(logit_margin)}


def nearest_rivals(logits: Logits, x: Tensor, rivals: int) -> tuple[Tensor, Tensor, Tensor]:
    """Directions (R, d) of fastest loss against the nearest rivals, linear distances to them (R,), margin of logits."""
    leaf = x.detach()[None].clone().requires_grad_()
    with torch.enable_grad():
        values = logits(leaf)[0]
        answer = int(values.argmax())
        others = [j for j in range(len(values)) if j != answer]
        rows = [torch.autograd.grad(values[answer] - values[j], leaf, retain_graph=True)[0].flatten() for j in others]
    gaps = (values[answer] - values[others]).detach().cpu().double()
    slopes = torch.stack(rows).cpu().double()
    distances = gaps / slopes.norm(dim=1)
    nearest = distances.argsort()[:rivals]
    return -slopes[nearest].to(x), distances[nearest], gaps.min()


@torch.no_grad()
def crossings(logits: Logits, x: Tensor, directions: Tensor, largest: float, tol: float) -> tuple[Tensor, Tensor]:
    """Where the answer at x first changes along each direction (K, d): below `high`, not before `low`, each (K,).

    Amplitudes up to `largest` are scanned, then bisected all at once; NaN for directions without a change.
    """
    answer = logits(x[None])[0].argmax()
    units = torch.nn.functional.normalize(directions, dim=1).reshape(-1, *x.shape)

    def changed(amplitudes: Tensor) -> Tensor:
        """For amplitudes (K, ...) along each direction."""
        shape = (len(units), -1, *[1] * x.dim())
        points = (x + amplitudes.to(x).reshape(shape) * units[:, None]).flatten(0, 1)
        answers = torch.cat([logits(chunk).argmax(1) for chunk in points.split(BATCH)])
        return (answers != answer).reshape(amplitudes.shape)

    row = torch.cat([torch.zeros(1), largest * torch.logspace(0, 1, SCAN, base=1 / DEPTH) * DEPTH]).double()
    hits = changed(row[1:].expand(len(units), -1)).cpu()
    first = torch.where(hits.any(1), hits.int().argmax(1), -1)
    low, high = row[first.clamp(min=0)], row[first + 1]
    low[first < 0] = high[first < 0] = torch.nan
    while bool(((high - low) > tol * high).any()):
        middle = (low + high) / 2
        if not bool(((middle > low) & (middle < high)).any()):
            break  # nothing lies between
        hit = changed(middle.nan_to_num()[:, None])[:, 0].cpu()
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    return low, high


def _least(low: Tensor, high: Tensor, tol: float) -> dict[str, np.ndarray]:
    """The direction that changes the answer first."""
    known = high[~high.isnan()]
    if not len(known):
        return {"amplitude": np.asarray(np.nan), "bracket": np.asarray(np.nan), "converged": np.asarray(False)}
    best = int(high.nan_to_num(nan=torch.inf).argmin())
    width = float(high[best] - low[best])
    return {
        "amplitude": np.asarray(float(high[best])),
        "bracket": np.asarray(width),
        "converged": np.asarray(width <= tol * float(high[best])),
    }


def _class_logits(sample: Sample, n_classes: int) -> Logits:
    """The model as a function to a row of logits, one per class."""
    function = logits_function(sample.stream)

    def logits(x: Tensor) -> Tensor:
        output = function(x)
        found = class_logits(output if output.dim() > 1 else output.reshape(len(x), 1), n_classes)
        assert found is not None, "of a model whose output is a table (see _image)"
        return found

    return logits


def _image(sample: Sample, n_classes: int) -> Tensor | None:
    """The sample's input without the batch dimension; None where the model is not a map from one tensor to logits."""
    inputs, logits = sample.states.inputs, class_logits(sample.states.output, n_classes)
    single = len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].is_floating_point()
    return inputs[0][0] if single and logits is not None and logits.shape[1] > 1 else None
