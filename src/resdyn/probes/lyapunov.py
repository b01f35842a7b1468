"""How fast small changes of the first state grow or shrink on their way through the whole stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from resdyn import _checks as checks
from resdyn.errors import ComputationError, InputError
from resdyn.linalg.chain import DENSE_LIMIT, chain_singular_values
from resdyn.probes.protocol import described
from resdyn.probes.sample import Array, Layout, Sample, block_seed, state_sizes
from resdyn.stream import Stream
from resdyn.stream.sensitivities import has_bypass, step_jacobian

TEXTS = {
    "lyapunov_exponent": ("log of a singular value of d h_L / d h_0 over the number of blocks", "1/block"),
    "lyapunov_lower": ("lower end of the interval of the exponent", "1/block"),
    "lyapunov_upper": ("upper end of the interval of the exponent", "1/block"),
}
FEW = 8  # exponents of a state too large for all


@dataclass(frozen=True)
class Lyapunov:
    """Finite-time Lyapunov exponents ``log s_k(d h_L / d h_0) / L`` of the whole stream, at every sample.

    Products with the blocks' Jacobians alone, carried along depth as orthonormal frames (QR), so that small values do
    not drown in large ones. The arrays, (exponent), in double precision and descending:

    - `lyapunov_exponent`: natural logarithm per block; NaN where rounding hides the value;
    - `lyapunov_lower`, `lyapunov_upper`: the interval that it lies in; -inf where it has no lower end.

    The same of a mean transport is `exponent` of `resdyn.metrics.transport_structures`: where signs of samples' own
    derivatives differ, the mean has smaller ones.

    Attributes:
        k: How many, the largest first (default: all of states of one size of at most 512 elements, else 8).

    Raises:
        InputError: k that is not a whole number of at least 1.

    Cost:
        2 d products per block and eleven QR decompositions of d columns, d the size of the state; for k of a larger
        state as many products per block as its k largest singular triplets take.

    Source:
        Benettin, Galgani, Giorgilli and Strelcyn (1980); Lagzi (2021), appendix A, for residual networks.
    """

    k: int | None = None
    name: ClassVar[str] = "lyapunov"
    whole_state_only: ClassVar[bool] = True
    needs_single_precision: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.replace_checked(self, k=checks.optional_whole("k", self.k, 1, of=self.name))

    def layout(self, stream: Stream, num_classes: int) -> Layout:
        """As in ``Probe.layout``: arrays (exponent)."""
        assert self.k is not None, "capture decides k"
        return dict.fromkeys(TEXTS, (("exponent",), (self.k,), "float64"))

    def measure(self, sample: Sample, num_classes: int) -> dict[str, Array]:
        """As in ``Probe.measure``: the exponents with their intervals."""
        stream, steps = sample.stream.whole, len(sample.stream)
        factors = [step_jacobian(stream, i, sample.states) for i in range(steps)]
        try:
            found = chain_singular_values(factors, self.k, seed=block_seed(sample.seed, sample.index, steps))
        except ComputationError as error:
            raise ComputationError(f"sample {sample.index}: {error}") from error
        columns = (found.logs, found.lower, found.upper)
        return {name: (column / steps).numpy() for name, column in zip(TEXTS, columns, strict=True)}

    def fitted(self, stream: Stream, required: Mapping[str, Any]) -> Lyapunov:
        """The same probe with k decided.

        Args:
            stream: The stream to be measured.
            required: Nothing.

        Returns:
            The probe with k a number.

        Raises:
            InputError: k beyond the smallest state, or a network in which values computed from a state are read after
                a later one, where no product of blocks is the derivative.
        """
        if has_bypass(stream.whole):
            raise InputError(
                "lyapunov: values computed from one state are read after a later one, so the blocks' Jacobians do not "
                "multiply to the derivative; leave the probe out"
            )
        sizes = state_sizes(stream)
        least, whole = min(sizes), len(set(sizes)) == 1 and sizes[0] <= DENSE_LIMIT
        k = (least if whole else min(FEW, least)) if self.k is None else self.k
        if k > least:
            raise InputError(f"lyapunov: got k={k}, expected at most {least}, the size of the smallest state")
        return dataclasses.replace(self, k=k)

    def attributes(self, kind: str) -> dict[str, dict[str, str]]:
        """As in ``Probe``: long names and units; the Jacobians are of whole blocks, skips and gates included."""
        return described(TEXTS, kind="block")
