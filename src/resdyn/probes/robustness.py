"""How little noise makes the network change its prediction at a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.linalg._norms import norm
from resdyn.probes.protocol import described
from resdyn.probes.sample import Array, Layout, Sample, block_seed, to_numpy
from resdyn.probes.trajectory import class_logits
from resdyn.stream import Stream
from resdyn.stream.readout import logits_function

Logits = Callable[[Tensor], Tensor]
SCAN = 32  # amplitudes tried before a crossing is bracketed, in geometric progression
SMALLEST = 2.0**-12  # the first of them, relative to the last
BATCH = 256
MAX_DIRECTIONS = 100_000
NAMES = ("amplitude", "bracket", "converged")
TEXTS = {
    "noise_amplitudes": ("smallest norm along each random direction that changes the prediction", "input"),
    "noise_amplitude": ("smallest norm of noise, over random directions, that changes the prediction", "input"),
    "noise_bracket": ("width of the bracket of noise_amplitude", "input"),
    "noise_converged": ("whether that bracket is narrow enough", "1"),
    "gradient_amplitude": ("smallest norm along gradients of logit differences that changes the prediction", "input"),
    "gradient_bracket": ("width of the bracket of gradient_amplitude", "input"),
    "gradient_converged": ("whether that bracket is narrow enough", "1"),
    "linear_margin": ("distance to the decision boundary if the network were linear", "input"),
    "logit_margin": ("largest logit less the second", "logit"),
}


@dataclass(frozen=True)
class Robustness:
    """The smallest L2 norm of a perturbation that changes the network's prediction argmax_c z_c(x), of two kinds.

    All norms are in units of the network's input (normalised images). The arrays, scalars in float64 unless stated:

    - `noise_amplitude`: the least over `directions` Gaussian directions, seeded by the sample alone;
    - `noise_amplitudes` (direction): that of each;
    - `gradient_amplitude`: the least over the directions -grad (z_c - z_j)(x), in which the predicted class c would
      lose to j first if the network were linear, for the `rivals` classes j for which that is nearest;
    - `linear_margin`: that nearest distance, min_j (z_c - z_j) / |grad (z_c - z_j)|;
    - `logit_margin`: the largest logit less the second;
    - `noise_bracket`, `gradient_bracket`: the width of the bracket, the error of the crossing;
    - `noise_converged`, `gradient_converged`, bool: whether it is narrow enough.

    Along each direction amplitudes up to `reach` times the norm of the input are scanned in geometric progression; the
    first that changes the prediction is bracketed and bisected until the bracket is at most `tol` times its upper end.
    The value is that upper end, an amplitude seen to change the prediction. Where no amplitude changes the prediction:
    NaN, not converged. A region of another prediction thinner than the scan's spacing (factor 1.3) may be stepped over,
    and directions are sampled: both values bound the distance to the decision boundary from above.

    The model must take one floating-point tensor and give one row of two or more logits, else the values are NaN.

    Attributes:
        directions: Number of Gaussian directions, 1 to 100,000 (default 16).
        rivals: Number of nearest classes whose gradients are followed, at least 1 (default 9).
        reach: Largest amplitude, relative to the norm of the input (default 4).
        tol: Relative width of the bracket, between 0 and 1 (default 1e-3).

    Raises:
        InputError: A setting of another type or outside its range.

    Cost:
        Per sample (directions + rivals) x (32 + log2(0.3 / tol)) forward passes and C gradients.

    Source:
        Moosavi-Dezfooli, Fawzi and Frossard (2016), "DeepFool", equations 7 and 8, for the linear step; there it is
        repeated, here it is followed to the boundary.
    """

    directions: int = 16
    rivals: int = 9
    reach: float = 4.0
    tol: float = 1e-3
    name: ClassVar[str] = "robustness"
    whole_state_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.replace_checked(
            self,
            directions=checks.whole("directions", self.directions, 1, MAX_DIRECTIONS, of=self.name),
            rivals=checks.whole("rivals", self.rivals, 1, of=self.name),
            reach=checks.number("reach", self.reach, "a positive number", 0, of=self.name),
            tol=checks.number("tol", self.tol, "a number between 0 and 1", 0, 1, of=self.name),
        )

    def layout(self, stream: Stream, num_classes: int) -> Layout:
        """As in ``Probe.layout``: scalars in float64 and bool, and `noise_amplitudes` (direction)."""
        layout: Layout = {"noise_amplitudes": (("direction",), (self.directions,), "float64")}
        for kind in ("noise", "gradient"):
            layout |= {f"{kind}_{name}": ((), (), "bool" if name == "converged" else "float64") for name in NAMES}
        return layout | {"linear_margin": ((), (), "float64"), "logit_margin": ((), (), "float64")}

    def measure(self, sample: Sample, num_classes: int) -> dict[str, Array]:
        """As in ``Probe.measure``: scan and bisect along random directions and along gradients."""
        x, model = _image(sample, num_classes), _class_logits(sample, num_classes)
        found: dict[str, Array] = dict.fromkeys(self.layout(sample.stream, num_classes), np.asarray(np.nan))
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

    def attributes(self, kind: str) -> dict[str, dict[str, str]]:
        """As in ``Probe``: long names and units; none is of a block's Jacobian."""
        return described(TEXTS)


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
    """Where the prediction at x first changes along each direction (K, d): below `high`, not before `low`, each (K,).

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

    row = torch.cat([torch.zeros(1), largest * torch.logspace(0, 1, SCAN, base=1 / SMALLEST) * SMALLEST]).double()
    hits = changed(row[1:].expand(len(units), -1)).cpu()
    first = torch.where(hits.any(1), hits.int().argmax(1), -1)
    low, high = row[first.clamp(min=0)], row[first + 1]
    low[first < 0] = high[first < 0] = torch.nan
    while bool(((high - low) > tol * high).any()):
        middle = (low + high) / 2
        if not bool(((middle > low) & (middle < high)).any()):
            break  # no number between them
        hit = changed(middle.nan_to_num()[:, None])[:, 0].cpu()
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    return low, high


def _least(low: Tensor, high: Tensor, tol: float) -> dict[str, Array]:
    """The direction that changes the prediction first."""
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


def _class_logits(sample: Sample, num_classes: int) -> Logits:
    """The model as a function to a row of logits, one per class."""
    function = logits_function(sample.stream.whole)

    def logits(x: Tensor) -> Tensor:
        output = function(x)
        found = class_logits(output if output.dim() > 1 else output.reshape(len(x), 1), num_classes)
        assert found is not None, "of a model whose output is a table (see _image)"
        return found

    return logits


def _image(sample: Sample, num_classes: int) -> Tensor | None:
    """The sample's input without the batch dimension; None where the model is not a map from one tensor to logits."""
    inputs, logits = sample.states.inputs, class_logits(sample.states.output, num_classes)
    single = len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].is_floating_point()
    return inputs[0][0] if single and logits is not None and logits.shape[1] > 1 else None
