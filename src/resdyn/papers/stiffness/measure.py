"""What the tables are made of: stiffness of every block at test images, by both readings, from one place.

`stiffness` returns a dataset with, for each (sample, block),

    stiffness_index_flattened, stiffness_index_slices     max Re lambda / min Re lambda (equation 10)
    percent_negative_flattened, percent_negative_slices   100 count(Re lambda < 0) / count(lambda) (equation 11, which
                                                          is printed with > where the text means negative)
    spectral_radius, stable_step, growing_share           of the flattened reading: max |lambda|; see `resdyn.metrics`
    spectral_norm                                         largest singular value

and for each sample `prediction`, `loss`, `label`, `noise_amplitude`, `gradient_amplitude` (see the `robustness` probe).
The Jacobian is that of the whole block, h_i -> h_{i+1}. A block that has no eigenvalues by a reading, because its
matrices are not square, and one that is too large here, is NaN there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from resdyn import metrics
from resdyn.papers.lab import Lab, Trained

READINGS = ("slices", "flattened")  # the tables' first
QUANTITIES = ("stiffness_index", "percent_negative")
OF_MAPS = {
    "spectral_radius": lambda values: np.abs(values).max(),
    "stable_step": metrics.stable_step,
    "growing_share": metrics.growing_share,
}
PROBES = "trajectory,singular(k=1),robustness"
LARGEST = 1024  # dimensions up to which all eigenvalues are computed densely


def stiffness(lab: Lab, network: Trained, images: int) -> xr.Dataset:
    """The dataset above at so many test images, balanced over classes."""
    test = lab.test_images(network)
    ds = lab.measured(network, PROBES, images, data=test, kind="block")
    rows = [_sample(network, test.inputs([int(index)])) for index in ds["sample"].values]
    found = {name: (("sample", "block"), np.stack([row[name] for row in rows])) for name in rows[0]}
    kept = ["prediction", "loss", "noise_amplitude", "gradient_amplitude"]
    return ds[kept].assign(found).assign(spectral_norm=ds["singular_values"].isel(rank=0, drop=True)).load()


def _sample(network: Trained, inputs: Tensor) -> dict[str, NDArray[np.float64]]:
    states = network.stream.states(inputs.to(next(network.model.parameters())))
    blocks = [_block(network.stream.jacobian(block.index, states, "block"), block) for block in network.stream]
    return {name: np.array([row[name] for row in blocks], dtype=np.float64) for name in blocks[0]}


def _block(jacobian: Any, block: Any) -> dict[str, float]:
    names = [f"{quantity}_{reading}" for quantity in QUANTITIES for reading in READINGS]
    found = dict.fromkeys([*names, *OF_MAPS], float("nan"))
    if max(math.prod(block.shape_in), math.prod(block.shape_out)) > LARGEST:
        return found
    matrix = jacobian.to_dense().double().cpu()
    for reading, stack in (("flattened", matrix), ("slices", matrix.reshape(*block.shape_out, *block.shape_in))):
        if stack.shape[-1] == stack.shape[-2]:
            values = torch.linalg.eigvals(stack).numpy().ravel()
            found[f"stiffness_index_{reading}"] = _index(values.real)
            found[f"percent_negative_{reading}"] = 100 * float((values.real < 0).mean())
            if reading == "flattened":
                found |= {name: float(measure(values)) for name, measure in OF_MAPS.items()}
    return found


def _index(real: NDArray[np.float64]) -> float:
    return float(real.max() / real.min()) if real.min() != 0 else float("nan")
