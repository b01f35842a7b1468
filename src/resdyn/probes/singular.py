"""What every block's Jacobian stretches most at a sample."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from resdyn import _checks as checks
from resdyn.errors import InputError
from resdyn.linalg import LinearOperator, SVDResult, svd
from resdyn.probes.protocol import described
from resdyn.probes.sample import Array, Layout, Sample, float_dtype, padded, state_sizes, to_numpy
from resdyn.stream import Stream

DEFAULT_K = 20
Method = Literal["auto", "lanczos", "randomized", "dense"]
TEXTS = {
    "singular_values": ("leading singular values of the Jacobian, descending", "1"),
    "singular_residuals": ("max(|Jv - su|, |J^T u - sv|) / s_1", "1"),
    "singular_bounds": ("how far above s the true value in its place may be, divided by s_1", "1"),
    "singular_converged": ("whether this value and those before it are the largest, within the tolerance", "1"),
    "singular_matvecs": ("products with J and J^T", "1"),
}
VECTORS = {
    "left_vectors": ("left singular vectors u, padded with NaN", "1"),
    "right_vectors": ("right singular vectors v, padded with NaN", "1"),
}


@dataclass(frozen=True)
class Singular:
    """The k leading singular triplets (u, s, v) of every block's Jacobian, J v = s u, J^T u = s v.

    Which derivative J is, the capture's `kind` says; blocks whose Jacobian is not square are included. The arrays, in
    the stream's dtype unless one is given:

    - `singular_values` (block, rank): s, descending;
    - `singular_residuals` (block, rank): max(|Jv - su|, |J^T u - sv|) / s_1;
    - `singular_bounds` (block, rank): how far above s the true value in its place may be, divided by s_1, infinite
      where nothing is known;
    - `singular_converged` (block, rank), bool: this value and those before it are the largest, copies of repeated ones
      included, with residuals within `tol` and none missed above (1 + `delta`) s, at a failure probability of 1e-6 (see
      `resdyn.linalg.svd`);
    - `singular_matvecs` (block), int64: products with J and J^T together;
    - with `vectors`, `left_vectors` u and `right_vectors` v (block, rank, coord): padded with NaN, signed so that the
      largest entry of v is positive.

    Attributes:
        k: Number of triplets per block (default: 20, or as many as the smallest block has). Capture raises `InputError`
            that names the block if k exceeds what its Jacobian can have.
        method: "auto" (default), "lanczos", "randomized" or "dense" (see `resdyn.linalg.svd`).
        tol: Largest residual that counts as converged, relative to s_1, between 0 and 1 (default 1e-4).
        vectors: Also store the vectors (default False).
        delta: Relative resolution, positive, at which values larger than the k-th are excluded (default 0.05).

    Raises:
        InputError: A setting of another type or outside its range.
    """

    k: int | None = None
    method: Method = "auto"
    tol: float = 1e-4
    vectors: bool = False
    delta: float = 0.05
    name: ClassVar[str] = "singular"
    needs_single_precision: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.replace_checked(
            self,
            k=checks.optional_whole("k", self.k, 1, of=self.name),
            method=checks.one_of("method", self.method, get_args(Method), of=self.name),
            tol=checks.number("tol", self.tol, "a positive number below 1", 0, 1, of=self.name),
            vectors=checks.flag("vectors", self.vectors, of=self.name),
            delta=checks.number("delta", self.delta, "a positive number", 0, of=self.name),
        )

    def layout(self, stream: Stream, num_classes: int) -> Layout:
        """As in ``Probe.layout``: arrays (block, rank), `singular_matvecs` (block), vectors (block, rank, coord)."""
        assert self.k is not None, "capture fits k to the stream"
        dtype, table = float_dtype(stream), (len(stream), self.k)
        layout: Layout = {
            "singular_values": (("block", "rank"), table, dtype),
            "singular_residuals": (("block", "rank"), table, dtype),
            "singular_bounds": (("block", "rank"), table, dtype),
            "singular_converged": (("block", "rank"), table, "bool"),
            "singular_matvecs": (("block",), (len(stream),), "int64"),
        }
        if self.vectors:
            shape = (*table, max(state_sizes(stream)))
            layout["left_vectors"] = layout["right_vectors"] = (("block", "rank", "coord"), shape, dtype)
        return layout

    def measure(self, sample: Sample, num_classes: int) -> dict[str, Array]:
        """As in ``Probe.measure``: the triplets that the sample computes once for all probes."""
        triplets, dtype = sample.triplets, float_dtype(sample.stream)
        arrays = {
            "singular_values": padded([t.S for t in triplets], dtype),
            "singular_residuals": padded([t.residuals for t in triplets], dtype),
            "singular_bounds": padded([t.bounds for t in triplets], dtype),
            "singular_converged": np.stack([to_numpy(t.converged) for t in triplets]),
            "singular_matvecs": np.asarray([t.num_matvecs for t in triplets]),
        }
        if self.vectors:
            arrays["left_vectors"] = padded([t.U.T for t in triplets], dtype)
            arrays["right_vectors"] = padded([t.V.T for t in triplets], dtype)
        return arrays

    def svd(self, jacobian: LinearOperator, seed: int) -> SVDResult:
        """The triplets of one Jacobian.

        Args:
            jacobian: An operator (numel of output, numel of state).
            seed: Of the random starting vectors.

        Returns:
            The k leading triplets, with residuals, bounds and convergence.
        """
        assert self.k is not None, "capture fits k to the stream"
        return svd(jacobian, self.k, method=self.method, tol=self.tol, seed=seed, delta=self.delta)

    def attributes(self, kind: str) -> dict[str, dict[str, str]]:
        """As in ``Probe``: long names; all are of the Jacobian that the capture reads."""
        return described(TEXTS | (VECTORS if self.vectors else {}), kind=kind)

    def fitted(self, stream: Stream, required: Mapping[str, Any] | None = None) -> Singular:
        """The same probe with k decided: by default 20, or as many as the smallest block has.

        Args:
            stream: The stream to be measured.
            required: The probes that this one requires, by name: none.

        Returns:
            The probe with k a number.

        Raises:
            InputError: k exceeds what a block's Jacobian can have; the message names the block.
        """
        sizes = {block: min(math.prod(block.shape_in), math.prod(block.shape_out)) for block in stream.blocks}
        block = min(sizes, key=lambda b: sizes[b])
        if self.k is not None and self.k > sizes[block]:
            raise InputError(
                f"singular: got k={self.k}, but the Jacobian of block {block.index} ({block.path}) has "
                f"{sizes[block]} singular values; ask for k <= {sizes[block]}"
            )
        return dataclasses.replace(self, k=min(DEFAULT_K, sizes[block]) if self.k is None else self.k)
