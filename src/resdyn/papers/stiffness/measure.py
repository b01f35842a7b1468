"""What the tables are made of: stiffness of every block at test images, by both readings, from one place.

`stiffness` returns a dataset with, for each (sample, block),

    stiffness_index_flattened, stiffness_index_slices     max Re lambda / min Re lambda (equation 10)
    percent_negative_flattened, percent_negative_slices   100 count(Re lambda < 0) / count(lambda) (equation 11, which
                                                          is printed with > where the text means negative)
    spectral_radius, spectral_norm                        largest |lambda|, largest singular value
    stable_step, growing_share                            where all eigenvalues are known, see `resdyn.metrics`

and for each sample `prediction`, `loss`, `label`, `noise_amplitude`, `gradient_amplitude` (see the probe `robustness`).
The Jacobian is that of the whole block, h_i -> h_{i+1}. What a block does not have by a reading is NaN there: a
Jacobian that is not square has no eigenvalues, and where no real part is negative the flattened index has no value.
Of untrained networks (the null) slices alone are measured, at 10 images: the ends of a flattened spectrum take minutes.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from resdyn import metrics
from resdyn.data import ImageData
from resdyn.linalg import slice_eigenvalues
from resdyn.metrics import determined
from resdyn.papers.lab import Lab, Trained
from resdyn.stream import ResidualStream, States

READINGS = ("slices", "flattened")  # the tables' first
QUANTITIES = ("stiffness_index", "percent_negative")
NULL_IMAGES = 10


def stiffness(lab: Lab, network: Trained, images: int) -> xr.Dataset:
    """The dataset above at so many test images, balanced over classes."""
    test = lab.test_images(network)
    if lab.null:
        return slices_alone(lab, network, test, min(images, NULL_IMAGES))
    ds = lab.measured(network, "trajectory,spectrum(slices=true)", images, data=test)
    noise = lab.measured(network, "robustness", images, data=test)
    found = metrics.stiffness(ds).assign(
        spectral_radius=determined(ds, "spectral_radius"),
        spectral_norm=ds["jacobian_norm"],
        prediction=ds["prediction"],
        loss=ds["loss"],
    )
    found = found.assign({name: noise[name] for name in ("noise_amplitude", "gradient_amplitude")})
    return found.assign(_of_all_eigenvalues(ds)).load()


def slices_alone(lab: Lab, network: Trained, test: ImageData, images: int) -> xr.Dataset:
    """The dataset above by the reading of slices, NaN for everything else."""
    ds = lab.measured(network, "trajectory", images, data=test)
    inputs = test.inputs(ds["sample"].values.tolist()).to(next(network.model.parameters()))
    stream = network.stream
    rows = np.array([[slices(stream, k, stream.states(x)) for k in range(len(stream))] for x in inputs.split(1)])
    found = {f"{name}_slices": rows[..., k] for k, name in enumerate(QUANTITIES)}
    absent = [f"{name}_flattened" for name in QUANTITIES]
    absent += ["spectral_radius", "spectral_norm", "stable_step", "growing_share"]
    found |= dict.fromkeys(absent, np.full(rows.shape[:2], np.nan))
    noise = ("sample", np.full(len(rows), np.nan))
    return (
        ds[["prediction", "loss"]]
        .assign(
            {name: (("sample", "block"), values) for name, values in found.items()}
            | dict.fromkeys(("noise_amplitude", "gradient_amplitude"), noise)
        )
        .load()
    )


def slices(stream: ResidualStream, number: int, states: States) -> tuple[float, float]:
    """Stiffness index and per cent of negative real parts of the slices of one block at one image."""
    block = stream[number]
    out, into = ((s[0], s[1], s[2]) for s in (block.shape_out, block.shape_in))  # of one image: (C, H, W)
    found = slice_eigenvalues(stream.jacobian(number, states, kind="block"), out, into)
    real, errors = np.asarray(found.values.real), np.asarray(found.errors)
    known = np.append(real, 0.0) if found.num_values > real.size else real
    index = float(metrics.stiffness_index(known.max(), known.min()))
    return index, 100 * float((real < -errors).sum()) / found.num_values


def _of_all_eigenvalues(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """`stable_step` and `growing_share` of the blocks whose eigenvalues are all stored."""
    if "eigenvalues_real" not in ds:
        return {name: ds["spectral_radius"] * float("nan") for name in ("stable_step", "growing_share")}
    real, imaginary = (
        ds[f"eigenvalues_{part}"].transpose("sample", "block", "eigenvalue") for part in ("real", "imag")
    )
    values = real.values + 1j * imaginary.values
    dims = ("sample", "block")
    return {
        "stable_step": xr.DataArray(metrics.stable_step(values), dims=dims),
        "growing_share": xr.DataArray(metrics.growing_share(values), dims=dims),
    }
