"""Quantities over depth that several runs can share one picture of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from resdyn.metrics.collapse import neural_collapse
from resdyn.metrics.rank import converged_singular_values
from resdyn.metrics.residual_alignment import alignment
from resdyn.metrics.stiffness_index import determined, stiffness
from resdyn.report.figures.cushion import block_profile
from resdyn.report.figures.profile import Profile
from resdyn.report.figures.steps import collinearity_profile, step_length_profile
from resdyn.report.view import Array, has

Values = tuple[Array, Array]  # depth or block (n,), values (samples, n)


@dataclass(frozen=True)
class Overlay:
    """One picture: what it shows, and how its values are read from a run; None where the run lacks them."""

    name: str
    title: str
    how: str
    x_title: str
    y_title: str
    probe: str
    values: Callable[[xr.Dataset], Values | None]
    log: bool = False


def _profile(make: Callable[[xr.Dataset], Profile | None]) -> Callable[[xr.Dataset], Values | None]:
    def values(ds: xr.Dataset) -> Values | None:
        profile = make(ds)
        return None if profile is None else (profile.depth, profile.values)

    return values


def _of_blocks(variable: str, read: Callable[[xr.Dataset], xr.DataArray]) -> Callable[[xr.Dataset], Values | None]:
    """(sample, block) values where the run holds `variable` and any of them is finite."""

    def values(ds: xr.Dataset) -> Values | None:
        if not has(ds, variable):
            return None
        table = read(ds).transpose("sample", "block").values.astype(np.float64)
        return (ds["block"].values, table) if np.isfinite(table).any() else None

    return values


def _top(ds: xr.Dataset) -> xr.DataArray:
    return converged_singular_values(ds).isel(rank=0)


def _inverse(ds: xr.Dataset) -> xr.DataArray:
    top = _top(ds)
    return 1 / top.where(top > 0)


def _with_others(name: str) -> Callable[[xr.Dataset], xr.DataArray]:
    """Mean over the blocks j != i that block i is coupled with."""

    def read(ds: xr.Dataset) -> xr.DataArray:
        pairs = alignment(ds)[name]
        return pairs.where(pairs["block"] != pairs["block_j"]).mean("block_j", skipna=True)

    return read


def _collapse(name: str) -> Callable[[xr.Dataset], Values | None]:
    def values(ds: xr.Dataset) -> Values | None:
        if "class_count" not in ds:
            return None
        line = neural_collapse(ds)[name].values[None]
        return (ds["depth"].values, line) if np.isfinite(line).any() else None

    return values


OVERLAYS = (
    Overlay(
        "collinearity",
        "Cosine of successive steps",
        "1 on a straight line, 0 at right angles (RA1).",
        "depth",
        "cosine",
        "trajectory",
        _profile(collinearity_profile),
    ),
    Overlay(
        "step_lengths",
        "Length of the steps",
        "Relative to the mean step of the sample and stage: 1 when equispaced.",
        "depth",
        "relative length",
        "trajectory",
        _profile(step_length_profile),
    ),
    Overlay(
        "diagonal_energy",
        "Energy on the diagonal",
        "Of the coupling of a block with all other blocks of its shape: 1 when they diagonalise it (RA2).",
        "block",
        "diagonal energy",
        "coupling",
        _of_blocks("coupling_uv", _with_others("diagonal_energy_uv")),
    ),
    Overlay(
        "right_alignment",
        "Cosine of right singular vectors",
        "Rank by rank, with all other blocks of the same shape.",
        "block",
        "cosine",
        "coupling",
        _of_blocks("overlap_vv", _with_others("right_alignment")),
    ),
    Overlay(
        "top_singular_value",
        "Largest singular value",
        "How strongly a block moves what it moves most.",
        "block",
        "s<sub>1</sub>",
        "singular",
        _of_blocks("singular_values", _top),
    ),
    Overlay(
        "inverse_scaling",
        "One over the largest singular value",
        "A line of slope 1 where s<sub>1</sub> falls as one over the block number (RA4).",
        "block",
        "1 / s<sub>1</sub>",
        "singular",
        _of_blocks("singular_values", _inverse),
    ),
    Overlay(
        "negative_share",
        "Negative real parts",
        "Share of the Jacobian's eigenvalues, per cent.",
        "block",
        "%",
        "spectrum",
        _of_blocks("largest_real", lambda ds: stiffness(ds)["percent_negative_flattened"]),
    ),
    Overlay(
        "spectral_radius",
        "Spectral radius",
        "Largest modulus of an eigenvalue.",
        "block",
        "radius",
        "spectrum",
        _of_blocks("spectral_radius", lambda ds: determined(ds, "spectral_radius")),
    ),
    Overlay(
        "block_cushion",
        "Interlayer cushion of the block",
        "The larger, the less noise in its input moves its output.",
        "block",
        "cushion",
        "cushion",
        _profile(lambda ds: block_profile(ds, "block_cushion")),
    ),
    Overlay(
        "output_cushion",
        "Interlayer cushion to the output",
        "The larger, the less noise in the state moves the answer.",
        "block",
        "cushion",
        "cushion",
        _profile(lambda ds: block_profile(ds, "output_cushion")),
    ),
    Overlay(
        "collapse_variability",
        "Variability within classes",
        "NC1: 0 when all samples of a class are one point.",
        "depth",
        "NC1",
        "features",
        _collapse("within_class_variability"),
        log=True,
    ),
    Overlay(
        "collapse_decision",
        "Off the nearest class mean",
        "NC4: share of answers that are not the nearest mean's.",
        "depth",
        "NC4",
        "features",
        _collapse("nearest_mean_disagreement"),
    ),
)
