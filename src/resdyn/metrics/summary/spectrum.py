"""Eigenvalues in the metrics table: stiffness, reversed directions, nonnormality."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn._statistics import bootstrap_error
from resdyn.metrics.eigenvalues import count_undetermined, determined, stiffness
from resdyn.metrics.summary.metric import Chance, Metric, one_number, over_samples, row_means, row_medians
from resdyn.metrics.summary.registry import Summary

TREFETHEN = "Trefethen and Embree (2005)"
STIFF = "Block-level stiffness analysis of residual networks"
TEXTS = {
    "stiffness_index_flattened": ("Stiffness index of the Jacobian", "max Re / min Re: far below 0 when stiff", STIFF),
    "stiffness_index_slices": ("Stiffness index of the Jacobian's slices", "the paper's tables hold this", STIFF),
    "stiffness_size": ("Median size of the stiffness index", "10 and more: stiff", STIFF),
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
        note = f"kind {kind}{f'; {missing} of {table.size} without a value' if missing else ''}{_zeros(ds, name)}"
        doubt = _share_note(measured, ds) if name == "percent_negative_flattened" else ""
        chance = _by_chance(name, ds, kind)
        yield over_samples(name, row_means(table), "mean over blocks", note, unsure, doubt, chance=chance(slice(None)))
        last = f"kind {kind}"
        yield over_samples(name, table[:, -1], "last block", last, unsure, doubt, chance=chance(slice(-1, None)))
        if name == "stiffness_index_flattened":
            yield _size(ds, table, kind)


def _size(ds: xr.Dataset, table: NDArray[np.float64], kind: str) -> Metric:
    """The median over blocks and samples of |S|, which single eigenvalues near zero do not move.

    Its error holds what the values that are missing could change: an index is missing where the smallest real part is
    near 0, which is where it would be large.
    """
    sizes = np.abs(table)
    known = np.array(row_medians(sizes))
    known = known[np.isfinite(known)]
    value = float(np.median(known)) if known.size else float("nan")
    missing = int(np.isnan(sizes).sum())
    ends = [float(np.median(row_medians(np.where(np.isnan(sizes), fill, sizes)))) for fill in (0.0, np.inf)]
    reach = max(abs(end - value) for end in ends) if known.size else 0.0
    where, chance = "median over blocks and samples", _by_chance("stiffness_index_flattened", ds, kind)(slice(None))
    expected = None if chance.ends is None else abs(chance.ends[0])
    error = float(np.hypot(bootstrap_error(known), reach / 2)) if known.size > 1 and np.isfinite(reach) else None
    said = "standard error by bootstrap over samples" if error is not None else ""
    if missing and known.size:
        change = f"what the {missing} of {sizes.size} without a value could change"
        said = f"{said}, and {change}" if said else f"no standard error: {change} is not bounded"
    note = f"kind {kind}{_zeros(ds, 'stiffness_index_flattened')}"
    return one_number(
        "stiffness_size", value, error, known.size, where, note, said, chance=Chance(chance.basis, expected)
    )


def _zeros(ds: xr.Dataset, name: str) -> str:
    """In how many Jacobians 0 leaves a stiffness index without a value."""
    if not name.startswith("stiffness_index"):
        return ""
    ends = ds[f"smallest_real{'' if name.endswith('_flattened') else '_slices'}"].values
    count = int((ends == 0).sum())
    said = f"; no index in {count} of {ends.size} Jacobians, where 0 is an eigenvalue and no real part is negative"
    return said if count else ""


def _by_chance(name: str, ds: xr.Dataset, kind: str) -> Callable[[slice], Chance]:
    """Of blocks whose branch is a Gaussian matrix of the norm that was measured, behind the same skip.

    Its eigenvalues fill a disc of radius r about 0, or about 1 where the Jacobian holds an identity skip (Ginibre
    1965); its norm is 2 r beyond the skip's, its numerical abscissa sqrt(2) r (Geman 1980).
    """
    if name.endswith("_slices"):
        return lambda blocks: Chance("none: depends on the size of the maps alone")
    if name == "jacobian_norm":
        return lambda blocks: Chance("none: it sets the scale of the others")
    skips = {str(block.get("skip")) for block in ds.attrs.get("stream") or []}
    centre = 0.0 if kind != "block" or skips == {"none"} else 1.0
    if centre and skips - {"identity"}:
        return lambda blocks: Chance("none: skips differ")
    disc = f"eigenvalues in a disc about {centre:g}, branch a Gaussian matrix of the same norm"

    def chance(blocks: slice) -> Chance:
        norms = ds["jacobian_norm"].transpose("sample", "block").values[:, blocks]
        radius = np.maximum(norms - centre, 0.0) / 2
        known = radius[np.isfinite(radius)]
        return Chance(disc, float(_in_disc(name, centre, known.mean()))) if known.size else Chance(disc)

    return chance


def _in_disc(name: str, centre: float, r: float) -> float:
    """A quantity of eigenvalues spread evenly over a disc of radius r about `centre`."""
    if name == "stiffness_index_flattened":
        return (centre + r) / (centre - r) if r != centre else float("nan")
    if name == "percent_negative_flattened":
        edge = min(centre / r, 1.0) if r > 0 else 1.0
        return float(100 * (np.arccos(edge) - edge * np.sqrt(1 - edge**2)) / np.pi)
    if name == "spectral_radius":
        return centre + r
    if name == "numerical_abscissa":
        return centre + float(2**0.5 * r)
    return float(np.sqrt((r**2 / 2) / (centre + r**2))) if centre + r else float("nan")


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
