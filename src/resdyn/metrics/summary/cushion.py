"""Noise stability in the metrics table: cushions of layers and blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import xarray as xr

from resdyn.metrics.cushion import cushions
from resdyn.metrics.summary.metric import Chance, Metric, one_number, over_samples, row_means
from resdyn.metrics.summary.registry import Summary

ARORA = "Arora, Ge, Neyshabur and Zhang (2018)"
TEXTS = {
    "layer_cushion": ("layer cushion |Ax| / (|A|_F |x|)", "larger: noise in weights matters less", ARORA),
    "least_layer_cushion": ("least layer cushion", "of all layers and samples", ARORA),
    "block_cushion": ("interlayer cushion of a block", "1 when the state passes like a random direction", ARORA),
    "output_cushion": ("interlayer cushion to the output", "1 when the state passes like a random direction", ARORA),
}
LAYER = Chance("1/sqrt(n) for an input of n random entries; n differs from layer to layer")
LIKE_A_RANDOM_DIRECTION = Chance("1, a state that passes like a random direction", 1.0)


def rows(ds: xr.Dataset) -> Iterator[Metric]:
    """Layers, then blocks, then the way to the output."""
    measured = cushions(ds)
    parts = measured["layer_cushion"].transpose("sample", "block", "part").values
    layers = parts.reshape(len(parts), math.prod(parts.shape[1:]))
    yield over_samples("layer_cushion", row_means(layers), "layers in branches", chance=LAYER)
    least = float(np.nanmin(layers)) if np.isfinite(layers).any() else float("nan")
    without = "a minimum over samples has no error"
    yield one_number("least_layer_cushion", least, None, 0, "layers in branches", without, chance=LAYER)
    for name in ("block_cushion", "output_cushion"):
        values = measured[name].transpose("sample", "block").values
        estimate = measured[f"{name}_error"].values / values
        known = estimate[~np.isnan(estimate)]
        worst = float(known.max()) if known.size else 0.0
        note = f"|J|_F estimated to {100 * worst:.1g} % at worst" if worst else "|J|_F exact"
        yield over_samples(name, row_means(values), "blocks", note, chance=LIKE_A_RANDOM_DIRECTION)


SUMMARY = Summary(rows, TEXTS)
