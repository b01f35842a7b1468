"""Noise stability: how much smaller than the worst case a layer makes its input, as cushions say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def layer_cushion(output_norm: ArrayLike, weight_norm: ArrayLike, input_norm: ArrayLike) -> FloatArray:
    """mu_l(x) = |A x| / (|A|_F |x|), element by element; NaN where a norm below is zero or unknown.

    At most 1 for a linear layer; a convolution reuses its kernel, whose norm |A|_F is, and may exceed 1. A large
    cushion means that noise in the weights matters little.

    Args:
        output_norm: |A x|, any shape.
        weight_norm: |A|_F, of the same shape.
        input_norm: |x|, of the same shape.

    Returns:
        The cushions, elementwise; NaN where a norm in the denominator is zero or unknown.

    Source:
        Arora et al. (2018), "Stronger generalization bounds", definition 6; Yu and Tomasi, section 5.

    Example:
        >>> float(layer_cushion(3.0, 2.0, 3.0))
        0.5
    """
    return _ratio(output_norm, np.asarray(weight_norm, dtype=np.float64) * np.asarray(input_norm, dtype=np.float64))


def interlayer_cushion(
    product_norm: ArrayLike, jacobian_norm: ArrayLike, state_norm: ArrayLike, size: ArrayLike
) -> FloatArray:
    """mu_ij(x) = sqrt(n) |J x| / (|J|_F |x|), n = `size` of the state x; 1 where J treats x as a random direction.

    Between 0 and sqrt(n), which a rank-one J attains that looks along x.

    Args:
        product_norm: |J x|, any shape.
        jacobian_norm: |J|_F, of the same shape.
        state_norm: |x|, of the same shape.
        size: n, the number of elements of x.

    Returns:
        Between 0 and sqrt(n), elementwise.

    Source:
        Arora et al. (2018), definition 7; Yu and Tomasi, section 5.

    Example:
        >>> float(interlayer_cushion(2.0, 4.0, 1.0, 4))
        1.0
    """
    lower = np.asarray(jacobian_norm, dtype=np.float64) * np.asarray(state_norm, dtype=np.float64)
    return np.sqrt(np.asarray(size, dtype=np.float64)) * _ratio(product_norm, lower)


def cushions(ds: xr.Dataset) -> xr.Dataset:
    """All cushions of a stored `cushion` probe, by sample.

    Args:
        ds: A dataset with the cushion probe.

    Returns:
        A dataset of arrays without unit, each with the dim `sample` before those given here.

        - `layer_cushion` (block, part): of every layer of a branch, see `layer_cushion`;
        - `residual_cushion` (block), for blocks of one layer with a unit skip: |x + A x| / (|A|_F |x|), ID entries
          without the skip's 1 as the paper measures them;
        - `plain_cushion` (block), for the same blocks: |x + A x| / (|A + rho|_F |x|), those of the plain twin;
        - `interlayer_cushion` (block, block_j), j >= block: see `interlayer_cushion`;
        - `block_cushion` (block): its diagonal, with `block_cushion_error` of the estimate of |J|_F;
        - `output_cushion` (block): to the model's output, with `output_cushion_error` likewise.

    Source:
        Arora et al. (2018), "Stronger generalization bounds", definitions 6 and 7; Yu and Tomasi, section 5.
    """
    x = ds["layer_input_norm"]
    size = xr.DataArray(ds["state_size"].values[:-1].astype(np.float64), dims="block")
    span = _named(interlayer_cushion, ds["span_product_norm"], ds["span_jacobian_norm"], ds["state_norm"], size)
    block = span.isel(block=_pointwise(span, "block"), block_j=_pointwise(span, "block_j"))
    output = _named(interlayer_cushion, ds["output_product_norm"], ds["output_jacobian_norm"], ds["state_norm"], size)
    relative = (ds["span_jacobian_error"] / ds["span_jacobian_norm"]).isel(
        block=_pointwise(span, "block"), block_j=_pointwise(span, "block_j")
    )
    found = {
        "layer_cushion": _named(layer_cushion, ds["layer_output_norm"], ds["layer_weight_norm"], x),
        "residual_cushion": _named(
            layer_cushion, ds["skip_output_norm"], ds["layer_weight_norm"].isel(part=0), x.isel(part=0)
        ),
        "plain_cushion": _named(layer_cushion, ds["skip_output_norm"], ds["skip_weight_norm"], x.isel(part=0)),
        "interlayer_cushion": span,
        "block_cushion": block,
        "block_cushion_error": block * relative,
        "output_cushion": output,
        "output_cushion_error": output * ds["output_jacobian_error"] / ds["output_jacobian_norm"],
    }
    return xr.Dataset({name: values.drop_vars("block_j", errors="ignore") for name, values in found.items()})


def _pointwise(span: xr.DataArray, dim: str) -> xr.DataArray:
    """Positions of the diagonal, one for each block."""
    return xr.DataArray(np.arange(span.sizes[dim]), dims="block")


def _named(function: Callable[..., FloatArray], *arrays: xr.DataArray) -> xr.DataArray:
    aligned = [array.drop_vars(list(array.coords)) for array in arrays]
    found: xr.DataArray = xr.apply_ufunc(function, *aligned)
    return found


def _ratio(above: ArrayLike, below: FloatArray) -> FloatArray:
    positive = np.isfinite(below) & (below > 0)
    return np.where(positive, np.asarray(above, dtype=np.float64) / np.where(positive, below, 1.0), np.nan)
