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
"""

from __future__ import annotations

import xarray as xr

from resdyn import metrics
from resdyn.metrics import determined
from resdyn.papers.lab import Lab, Trained

READINGS = ("slices", "flattened")  # the tables' first
QUANTITIES = ("stiffness_index", "percent_negative")


def stiffness(lab: Lab, network: Trained, images: int) -> xr.Dataset:
    """The dataset above at so many test images, balanced over classes."""
    test = lab.test_images(network)
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
