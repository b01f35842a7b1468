"""Eigenvalues in the metrics table: stiffness, reversed directions, nonnormality."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from resdyn.metrics.eigenvalues import count_undetermined, determined, stiffness
from resdyn.metrics.summary.metric import Metric, over_samples, row_means
from resdyn.metrics.summary.registry import Summary

TREFETHEN = "Trefethen and Embree (2005)"
STIFF = "Block-level stiffness analysis of residual networks"
TEXTS = {
    "stiffness_index_flattened": ("Stiffness index of the Jacobian", "max Re / min Re: far below 0 when stiff", STIFF),
    "stiffness_index_slices": ("Stiffness index of the Jacobian's slices", "the paper's tables hold this", STIFF),
    "percent_negative_flattened": ("Eigenvalues with negative real part, %", "0 when nothing is reversed", STIFF),
    "percent_negative_slices": ("The same of the Jacobian's slices, %", "the paper's tables hold this", STIFF),
    "spectral_radius": ("Largest modulus of an eigenvalue", "below 1 when the block contracts in the end", ""),
    "jacobian_norm": ("Norm of the Jacobian", "the largest stretch at once; equals the radius if normal", ""),
    "numerical_abscissa": ("Numerical abscissa", "fastest growth at once, at least the largest real part", TREFETHEN),
    "departure_from_normality": ("Departure from normality", "0 when normal, 1 when nilpotent", "Henrici (1962)"),
}


def rows(ds: xr.Dataset) -> Iterator[Metric]:
    """Every quantity of the spectrum as its mean over the blocks that have it, and of the last block alone."""
    kind = ds.attrs.get("probes", {}).get("spectrum", {}).get("kind", "block")
    failed = int((~ds["eigen_converged"].values & np.isfinite(ds["largest_real"].values)).sum())
    undetermined = count_undetermined(ds)
    doubts = (
        f"{failed} blocks with eigenvalues that did not converge are included" if failed else "",
        f"undetermined in {undetermined} blocks, where the error exceeds the value; left out" if undetermined else "",
    )
    unsure = "; ".join(doubt for doubt in doubts if doubt)
    measured = stiffness(ds)
    names = ("spectral_radius", "jacobian_norm", "numerical_abscissa", "departure_from_normality")
    columns = {str(name): values for name, values in measured.items() if not str(name).endswith("_error")}
    columns |= {name: determined(ds, name) for name in names if bool(np.isfinite(ds[name].values).any())}
    for name, values in columns.items():
        table = values.transpose("sample", "block").values
        missing = int(np.isnan(table).sum())
        note = f"kind {kind}{f'; {missing} of {table.size} without a value' if missing else ''}"
        doubt = _share_note(measured, ds) if name == "percent_negative_flattened" else ""
        yield over_samples(name, row_means(table), "mean over blocks", note, unsure, doubt)
        yield over_samples(name, table[:, -1], "last block", f"kind {kind}", unsure, doubt)


def _share_note(measured: xr.Dataset, ds: xr.Dataset) -> str:
    """How far the shares may be off, and what of them are zeros of a null space."""
    errors = measured["percent_negative_error"].values
    worst = float(np.nanmax(errors)) if np.isfinite(errors).any() else 0.0
    found = [f"undecided or estimated to {worst:.2g} % at worst" if worst else ""]
    if "num_zero" in ds:
        zeros = 100 * ds["num_zero"].values / ds["num_eigenvalues"].values
        most = float(np.nanmax(zeros)) if np.isfinite(zeros).any() else 0.0
        found.append(f"up to {most:.2g} % are zero to rounding and not counted" if most else "")
    return "; ".join(part for part in found if part)


SUMMARY = Summary(rows, TEXTS)
