"""How much of the noise in weights and states a network passes on: the norms that cushions consist of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.linalg.norm import frobenius_norm, norm_of_squares, random_signs, unit_columns
from resdyn.nets.unit_skip import identity_kernel
from resdyn.probes.protocol import described
from resdyn.probes.sample import Array, Layout, Sample, block_seed, float_dtype
from resdyn.stream import ResidualBlock, Stream
from resdyn.stream.layers import BranchLayer, branch_layers, layer_values
from resdyn.stream.tail import rows_of, tail_jacobian

LAYER = {
    "layer_input_norm": ("norm |x| of the input of a layer A of the branch", "state"),
    "layer_output_norm": ("norm |A x|, without bias", "state"),
    "layer_weight_norm": ("Frobenius norm |A|_F of its weights", "1"),
}
SKIP = {
    "skip_output_norm": ("norm |skip(x) + A x|, where the layer is the whole branch", "state"),
    "skip_weight_norm": ("Frobenius norm |A + rho|_F, rho the ID entries of the skip", "1"),
}
OUTPUT = {
    "state_norm": ("norm |h_i| of the state", "state"),
    "output_product_norm": ("norm |J h_i|, J the derivative of the model's output at h_i", "logit"),
    "output_jacobian_norm": ("Frobenius norm |J|_F of the same", "1"),
    "output_jacobian_error": ("standard error of output_jacobian_norm, 0 where it is exact", "1"),
}
SPAN = {
    "span_product_norm": ("norm |J_ij h_i|, J_ij the derivative at h_i of what block j returns", "state"),
    "span_jacobian_norm": ("Frobenius norm |J_ij|_F", "1"),
    "span_jacobian_error": ("standard error of span_jacobian_norm, 0 where it is exact", "1"),
}

MAX_DRAWS = 100_000


@dataclass(frozen=True)
class Cushion:
    """Norms that the layer cushion and the interlayer cushion are made of, of every layer, block and pair of blocks.

    The arrays, in the stream's dtype. Of each convolution or linear layer A in a branch, (block, part), in order:

    - `layer_input_norm`: |x|, of its input;
    - `layer_output_norm`: |A x|, without bias;
    - `layer_weight_norm`: |A|_F, of its weights.

    Where the layer is the whole branch and the skip its unit skip, (block):

    - `skip_output_norm`: |skip(x) + A x|;
    - `skip_weight_norm`: |A + rho|_F, rho the ID entries.

    Of blocks i <= j, (block, block_j):

    - `span_product_norm`: |J_ij h_i|, J_ij the derivative at h_i of what block j returns (skips and gates included);
    - `span_jacobian_norm`: |J_ij|_F, and its standard error `span_jacobian_error`.

    Of every state h_i, i < L, (block):

    - `state_norm`: |h_i|;
    - `output_product_norm`, `output_jacobian_norm`, `output_jacobian_error`: the same three of the model's output.

    |J|_F is exact (error 0) where h_i or the output has at most `exact_limit` elements, else Hutchinson's estimate.

    Attributes:
        draws: Number of random signs of that estimate, 2 to 100,000 (default 32).
        exact_limit: Largest number of elements of h_i or of the output for which |J|_F is exact (default 512).

    Raises:
        InputError: A setting of another type or outside its range.

    Cost:
        For each block one pass of draws + 1 tangents through the rest of the network.

    Source:
        Arora et al. (2018), "Stronger generalization bounds"; Yu and Tomasi, section 5.
    """

    draws: int = 32
    exact_limit: int = 512
    name: ClassVar[str] = "cushion"
    whole_state_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.replace_checked(
            self,
            draws=checks.whole("draws", self.draws, 2, MAX_DRAWS, of=self.name),
            exact_limit=checks.whole("exact_limit", self.exact_limit, of=self.name),
        )

    def layout(self, stream: Stream, num_classes: int) -> Layout:
        """As in ``Probe.layout``: (block, part) of layers, (block) of states, (block, block_j) of pairs of blocks."""
        blocks, parts = len(stream), max(1, max(len(branch_layers(block)) for block in stream.whole))
        dtype = float_dtype(stream)
        layout: Layout = dict.fromkeys(LAYER, (("block", "part"), (blocks, parts), dtype))
        layout |= dict.fromkeys(SKIP | OUTPUT, (("block",), (blocks,), dtype))
        return layout | dict.fromkeys(SPAN, (("block", "block_j"), (blocks, blocks), dtype))

    def measure(self, sample: Sample, num_classes: int) -> dict[str, Array]:
        """As in ``Probe.measure``: norms of every layer, and of the derivatives of everything after each state."""
        layout = self.layout(sample.stream, num_classes)
        arrays = {name: np.full(shape, np.nan, dtype) for name, (_, shape, dtype) in layout.items()}
        for block in sample.stream.whole:
            self._layers(sample, block, arrays)
            self._spans(sample, block.index, arrays)
        return arrays

    def attributes(self, kind: str) -> dict[str, dict[str, str]]:
        """As in ``Probe``: long names and units; derivatives are of whole blocks, skips and gates included."""
        return described(LAYER | SKIP) | described(OUTPUT | SPAN, kind="block")

    def _layers(self, sample: Sample, block: ResidualBlock, arrays: dict[str, Array]) -> None:
        layers = branch_layers(block)
        for part, value in enumerate(layer_values(sample.stream.whole, block, layers, sample.states)):
            for name, tensor in zip(LAYER, (value.x, value.product, value.weight), strict=True):
                arrays[name][block.index, part] = _norm(tensor)
            unit = unit_kernel(layers[part], value.weight)
            if unit is None or block.skip_kind == "none":
                continue
            skipped = block.skip(sample.states[block.index], sample.states.inputs).reshape(value.product.shape)
            if torch.equal(skipped, value.applied(unit)):
                arrays["skip_output_norm"][block.index] = _norm(value.product + skipped)
                arrays["skip_weight_norm"][block.index] = _norm(value.weight + unit)

    def _spans(self, sample: Sample, i: int, arrays: dict[str, Array]) -> None:
        jacobian, sizes = tail_jacobian(sample.stream.whole, i, sample.states)
        state = sample.states[i].reshape(-1)
        exact = len(state) <= self.exact_limit
        seed = block_seed(sample.seed, sample.index, i)
        directions = (
            unit_columns(len(state), range(len(state)), jacobian) if exact else random_signs(jacobian, self.draws, seed)
        )
        products = jacobian.matmat(torch.cat([directions, state[:, None]], 1))
        arrays["state_norm"][i] = _norm(state)
        *blocks, output = rows_of(sizes)
        for j, rows in enumerate(blocks, start=i):
            found = (_norm(products[rows, -1]), *_frobenius(products[rows, :-1], exact))
            for name, value in zip(SPAN, found, strict=True):
                arrays[name][i, j] = value
        norm, error = _frobenius(products[output, :-1], exact)
        if not exact and sizes[-1] <= self.exact_limit:
            norm, error = frobenius_norm(jacobian.restricted(rows=output), exact_limit=self.exact_limit).value, 0.0
        for name, value in zip(list(OUTPUT)[1:], (_norm(products[output, -1]), norm, error), strict=True):
            arrays[name][i] = value


def unit_kernel(layer: BranchLayer, weight: Tensor) -> Tensor | None:
    """rho, if the layer is the whole branch and its kernel has a centre."""
    odd = weight.dim() >= 2 and all(size % 2 for size in weight.shape[2:])
    return identity_kernel(weight) if layer.whole and odd else None


def _norm(value: Tensor) -> float:
    return float(value.double().norm())


def _frobenius(images: Tensor, exact: bool) -> tuple[float, float]:
    """(norm, standard error) from the images of all unit vectors, or of random signs."""
    squares = images.double().square().sum(0)
    return (float(squares.sum()) ** 0.5, 0.0) if exact else norm_of_squares(squares)
