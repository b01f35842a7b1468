"""Which eigenvalues the Jacobians of the blocks have at a sample, by two readings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch

from resdyn import _checks as checks
from resdyn.errors import ComputationError, InputError
from resdyn.linalg import (
    DenseOperator,
    EigenResult,
    LinearOperator,
    PseudoInverse,
    count_negative,
    departure_from_normality,
    eigenvalues,
    numerical_abscissa,
    slice_eigenvalues,
    svd,
)
from resdyn.linalg._compression import explicit
from resdyn.linalg.count import FIRST_LIST, NegativeCount, count_in
from resdyn.probes.protocol import described
from resdyn.probes.sample import DENSE_PRODUCTS, Array, Layout, Sample, block_seed, float_dtype, to_numpy
from resdyn.stream import KINDS, Block, JacobianOperator, Kind, Stream

Nonsquare = Literal["undefined", "projection"]
ENDS = ("LR", "SR", "LM")
FLATTENED = {
    "largest_real": "largest real part of an eigenvalue of the flattened Jacobian",
    "smallest_real": "smallest real part",
    "spectral_radius": "largest modulus of an eigenvalue",
    "num_eigenvalues": "number of eigenvalues",
    "num_negative": "eigenvalues whose real part is negative beyond its own uncertainty",
    "num_negative_error": "standard error of num_negative, 0 where it was counted",
    "num_undecided": "eigenvalues that rounding may move over the imaginary axis",
    "num_zero": "undecided eigenvalues that are 0 to rounding, since J has a null space",
    "num_live": "eigenvalues that are not zero by a zero row or column",
    "eigen_residual": "largest backward error of an end of the spectrum, relative to jacobian_norm",
    "condition_largest": "condition number of the eigenvalue of largest real part",
    "condition_smallest": "condition number of the eigenvalue of smallest real part",
    "largest_real_error": "first-order error of largest_real",
    "smallest_real_error": "first-order error of smallest_real",
    "spectral_radius_error": "first-order error of spectral_radius",
    "numerical_abscissa": "largest eigenvalue of (J + J^T)/2",
    "numerical_minimum": "smallest eigenvalue of (J + J^T)/2",
    "departure_from_normality": "Henrici's departure from normality, relative to the Frobenius norm",
    "jacobian_norm": "largest singular value of J",
}
SLICES = {
    "largest_real_slices": "largest real part of an eigenvalue of the Jacobian's spatial slices",
    "smallest_real_slices": "smallest real part, of the slices",
    "num_eigenvalues_slices": "number of eigenvalues of the slices",
    "num_negative_slices": "eigenvalues of the slices with negative real part",
    "num_undecided_slices": "eigenvalues of the slices that rounding may move over the imaginary axis",
}
OTHERS = {
    "eigen_converged": "whether the ends of the spectrum converged, with errors below a tenth of the radius",
    "eigenvalues_real": "real parts of all eigenvalues, by descending real part, padded with NaN",
    "eigenvalues_imag": "imaginary parts of the same",
}


_ACCEPTED = 0.1  # error of an end, relative to the spectral radius, up to which it counts as found


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues of every block's Jacobian J of one kind, read as the matrix that it is.

    The arrays are (block), float64, unless stated; what is not known is NaN. Flattened, J is the matrix (n, n) that it
    is:

    - `largest_real`, `smallest_real`, `spectral_radius` max |lambda|: each with backward error at most `eigen_residual`
      relative to `jacobian_norm` ||J||_2;
    - `largest_real_error`, `smallest_real_error`, `spectral_radius_error`: first-order errors of these;
    - `condition_largest`, `condition_smallest`: first-order condition numbers (of the diagonal block, where J is block
      triangular);
    - `eigen_converged`, bool: residuals within the solver's tolerance, and none of these errors above a tenth of the
      spectral radius;
    - `num_eigenvalues`: n, of which `num_live` are not zero by a zero row or column;
    - `num_negative`: those with Re < 0 beyond their own uncertainty (one standard error `num_negative_error`, 0 where
      counted), `num_undecided` that rounding may move over the axis, of which `num_zero` are 0 to rounding since J has
      a null space;
    - `numerical_abscissa` and `numerical_minimum`: the ends of the spectrum of (J + J^T)/2;
    - `departure_from_normality`: Henrici's, relative to ||J||_F;
    - `eigenvalues_real`, `eigenvalues_imag` (block, eigenvalue), in the stream's dtype: all eigenvalues by descending
      real part, padded with NaN, of blocks of n <= `dense_limit`. Larger ones get the ends by Krylov-Schur, a count
      from the left end, no departure.

    With `slices`, of the matrices J[c', h', w', c, :, :] (see `resdyn.linalg.slices`): `largest_real_slices`,
    `smallest_real_slices`, `num_eigenvalues_slices`, `num_negative_slices`, `num_undecided_slices`; NaN for states that
    are not square feature maps.

    Attributes:
        kind: The reading of the Jacobian: "block" (default), "gated" or "branch", whatever the capture reads.
        nonsquare: For blocks whose Jacobian is not square. "undefined" (default): no flattened eigenvalues.
            "projection": those of J P^+ with P^+ the pseudo-inverse of the skip's linear part, a map of the block's
            output space.
        slices: Also read the slices, as the stiffness paper does (default False).
        dense_limit: Largest n for which all eigenvalues are computed (default 4096).

    Raises:
        InputError: A setting of another type or outside its range.

    Source:
        Anonymous, "Block-level stiffness analysis of residual networks", section 4.2, whose kind is "block" (the
        identity of the skip included).
    """

    kind: Kind = "block"
    nonsquare: Nonsquare = "undefined"
    slices: bool = False
    dense_limit: int = 4096
    name: ClassVar[str] = "spectrum"
    needs_single_precision: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.nonsquare not in get_args(Nonsquare):
            raise InputError(
                f"spectrum: got kind={self.kind!r}, nonsquare={self.nonsquare!r}, expected a kind of "
                f"{', '.join(KINDS)} and nonsquare undefined or projection"
            )
        checks.replace_checked(
            self,
            slices=checks.flag("slices", self.slices, of=self.name),
            dense_limit=checks.whole("dense_limit", self.dense_limit, of=self.name),
        )

    def layout(self, stream: Stream, num_classes: int) -> Layout:
        """As in ``Probe.layout``: (block), and (block, eigenvalue) of the blocks that get all their eigenvalues."""
        blocks = (len(stream),)
        names = FLATTENED | (SLICES if self.slices else {})
        layout: Layout = dict.fromkeys(names, (("block",), blocks, "float64"))
        layout["eigen_converged"] = (("block",), blocks, "bool")
        if longest := self._longest(stream):
            shape = (len(stream), longest)
            dtype = float_dtype(stream)
            layout["eigenvalues_real"] = layout["eigenvalues_imag"] = (("block", "eigenvalue"), shape, dtype)
        return layout

    def measure(self, sample: Sample, num_classes: int) -> dict[str, Array]:
        """As in ``Probe.measure``: both readings of every block's Jacobian of this probe's `kind`.

        Raises:
            ComputationError: A solver failed; the message names the sample and the block.
        """
        layout = self.layout(sample.stream, num_classes)
        arrays = {
            name: np.full(shape, False if dtype == "bool" else np.nan, dtype)
            for name, (_, shape, dtype) in layout.items()
        }
        for block in sample.stream.blocks:
            jacobian = sample.jacobian(block.index, self.kind)
            seed = block_seed(sample.seed, sample.index, block.index)
            try:
                found = self._slices(jacobian, block) if self.slices else {}
                if (operator := self._square(jacobian, sample, block)) is not None:
                    found |= self._flattened(operator, seed)
            except ComputationError as error:
                raise ComputationError(f"sample {sample.index}, block {block.index} ({block.path}): {error}") from error
            for name, values in found.items():
                arrays[name][block.index : block.index + 1][..., : np.size(values)] = values
        return arrays

    def attributes(self, kind: str) -> dict[str, dict[str, str]]:
        """As in ``Probe``: long names; all are of the Jacobian of this probe's own `kind`."""
        texts = FLATTENED | (SLICES if self.slices else {}) | OTHERS
        return described({name: (text, "1") for name, text in texts.items()}, kind=self.kind)

    def _longest(self, stream: Stream) -> int:
        """The dimension of the largest block that gets all its eigenvalues, 0 if none does."""
        sizes = [math.prod(block.shape_out) for block in stream.blocks if self._has_eigenvalues(block)]
        return max((size for size in sizes if size <= self.dense_limit), default=0)

    def _has_eigenvalues(self, block: Block) -> bool:
        return block.square or (self.nonsquare == "projection" and block.skip_kind != "none")

    def _square(self, jacobian: LinearOperator, sample: Sample, block: Block) -> LinearOperator | None:
        if block.square or not self._has_eigenvalues(block):
            return jacobian if block.square else None
        return jacobian @ PseudoInverse(sample.stream.skip_jacobian(block.index, sample.states))

    def _flattened(self, operator: LinearOperator, seed: int) -> dict[str, Any]:
        n = operator.shape[0]
        if n <= self.dense_limit:
            matrix = explicit(operator, torch.Generator().manual_seed(seed))
            known = operator.columns_after_waist(n) if isinstance(operator, JacobianOperator) else None
            dense = DenseOperator(matrix, known)
            result = eigenvalues(dense, ("all", *ENDS), conditions=True, seed=seed)
            found = _all(matrix, result.end("all")) | _count(count_in(result))
            if n <= DENSE_PRODUCTS or not isinstance(operator, JacobianOperator):
                operator = dense
        else:
            result = _with_list(operator, seed)
            found = _count(count_negative(operator, seed, known=result))
        ends = [_first(result.end(end)) for end in ENDS]
        found |= _ends(*ends) | {"num_eigenvalues": n, "num_live": result.num_live}
        symmetric = numerical_abscissa(operator, seed=seed)
        found["numerical_abscissa"] = float(symmetric.end("LR").values.real[0])
        found["numerical_minimum"] = float(symmetric.end("SR").values.real[0])
        found["jacobian_norm"] = float(svd(operator, 1, seed=seed).S[0])
        found["eigen_residual"] = (
            max(float(end.residuals.max()) for end in ends) * result.norm / (found["jacobian_norm"] or 1.0)
        )
        errors = [found[f"{name}_error"] for name in ("largest_real", "smallest_real", "spectral_radius")]
        accurate = max(errors) <= _ACCEPTED * found["spectral_radius"]
        found["eigen_converged"] = bool(all(part.converged.all() for part in (*ends, symmetric)) and accurate)
        return found

    def _slices(self, jacobian: LinearOperator, block: Block) -> dict[str, Any]:
        if len(block.shape_out) != 3 or len(block.shape_in) != 3 or block.shape_in[1] != block.shape_in[2]:
            return {}
        (c_out, h_out, w_out), (c_in, h_in, w_in) = block.shape_out, block.shape_in
        found = slice_eigenvalues(jacobian, (c_out, h_out, w_out), (c_in, h_in, w_in))
        real = found.values.real
        zero = 0.0 if found.num_values > len(real) else np.nan
        return {
            "largest_real_slices": float(np.nanmax(np.append(real, zero))),
            "smallest_real_slices": float(np.nanmin(np.append(real, zero))),
            "num_eigenvalues_slices": found.num_values,
            "num_negative_slices": int((real < -found.errors).sum()),
            "num_undecided_slices": int(((np.abs(real) <= found.errors) & (real != 0)).sum()),
        }


def _with_list(operator: LinearOperator, seed: int) -> EigenResult:
    """The ends, and with the left one as many values as a count needs, where these seem few and converge."""
    numbers = [min(FIRST_LIST, operator.shape[0]) if end == "SR" else 1 for end in ENDS]
    result = eigenvalues(operator, ENDS, numbers, conditions=True, seed=seed, reach=0.0)
    return result if bool(result.converged.all()) else eigenvalues(operator, ENDS, conditions=True, seed=seed)


def _first(end: EigenResult) -> EigenResult:
    """The outermost value of an end alone, with its conjugate."""
    values = end.values
    rows = slice(0, 2 if len(values) > 1 and values[1] == values[0].conj() and values[0].imag != 0 else 1)
    conditions = None if end.conditions is None else end.conditions[rows]
    meeting = None if end.meeting is None else end.meeting[rows]
    return replace(
        end,
        values=values[rows],
        ends=end.ends[rows],
        residuals=end.residuals[rows],
        converged=end.converged[rows],
        conditions=conditions,
        meeting=meeting,
    )


def _all(matrix: torch.Tensor, result: EigenResult) -> dict[str, Any]:
    return {
        "departure_from_normality": departure_from_normality(matrix, result.values).value,
        "eigenvalues_real": to_numpy(result.values.real),
        "eigenvalues_imag": to_numpy(result.values.imag),
    }


def _ends(largest: EigenResult, smallest: EigenResult, magnitude: EigenResult) -> dict[str, float]:
    conditions = [torch.nan if part.conditions is None else float(part.conditions[0]) for part in (largest, smallest)]
    errors = [torch.inf if part.errors is None else float(part.errors[0]) for part in (largest, smallest, magnitude)]
    return {
        "largest_real_error": errors[0],
        "smallest_real_error": errors[1],
        "spectral_radius_error": errors[2],
        "largest_real": float(largest.values.real[0]),
        "smallest_real": float(smallest.values.real[0]),
        "spectral_radius": float(magnitude.values.abs()[0]),
        "condition_largest": conditions[0],
        "condition_smallest": conditions[1],
    }


def _count(count: NegativeCount) -> dict[str, float]:
    return {
        "num_negative": count.negative,
        "num_negative_error": count.error,
        "num_undecided": count.undecided,
        "num_zero": count.zero,
    }
