"""Figure 3: with more classes the singular vectors align in a subspace of more dimensions."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import spearmanr

from resdyn import metrics
from resdyn.metrics import standard_error
from resdyn.papers import pictures
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.late import diagonal_energy, late_blocks
from resdyn.papers.residual_alignment.networks import SEEDS, case, measured, small_data
from resdyn.papers.residual_alignment.ra3 import late_values

CLASSES = {"tiny": (2, 6, 10), "small": (2, 4, 6, 8, 10), "paper": (2, 4, 6, 8, 10, 100)}
PICTURED = 10  # singular vectors, as in the figure


def run(lab: Lab) -> None:
    """How many singular vectors of block j line up with those of block i, in the last half, by number of classes."""
    counts, matrices = CLASSES[lab.scale], {}
    profiles, dimensions = [], np.empty((len(counts), len(SEEDS[lab.scale])))
    for row, classes in enumerate(counts):
        found = [measured(lab, lab.trained(subset_case(lab, classes, seed))) for seed in SEEDS[lab.scale]]
        shares = np.array([late_shares(ds).mean("sample").values for ds in found])  # (seed, rank)
        dimensions[row] = shares.sum(-1)
        _record(lab, classes, dimensions[row], found)
        error = standard_error(shares)
        profiles.append(pictures.series(f"C = {classes}", found[0]["rank"].values + 1, shares.mean(0), error))
        matrices[f"C = {classes}"] = _matrix(found[0])
    growth = [spearmanr(counts, column).statistic for column in dimensions.T]
    lab.record("dimension.rank_correlation", growth, "seeds", "Spearman's, against C")
    title = "|U_L' J_i V_L| for more and more classes: last block L, block i in the middle, one training image"
    lab.picture("matrices", pictures.row(title, "figure 3", matrices))
    title = "Share of pairs of blocks whose k-th singular vectors line up"
    lab.picture("profile", pictures.lines(title, "figure 3", profiles, "k", "share of pairs i != j"))


def late_shares(ds: xr.Dataset) -> xr.DataArray:
    """(sample, rank): share of the pairs i != j of the last half whose k-th vectors line up."""
    kept = np.flatnonzero(late_blocks(ds))
    return metrics.between_blocks(metrics.aligned_vectors(ds).isel(block=kept, block_j=kept))


def subset_case(lab: Lab, classes: int, seed: int = 0) -> Case:
    """Type 1 as in the paper; below scale `paper` type 4a, which is the same with 8 blocks. 100: CIFAR100."""
    kind = "type1" if lab.scale == "paper" else "type4a"
    data = "cifar100" if classes == 100 else small_data(lab.scale)
    return case(lab.scale, kind, data, seed, classes=classes if classes < 10 else None)


def _record(lab: Lab, classes: int, dimensions: NDArray, found: list[xr.Dataset]) -> None:
    note = "vectors whose diagonal entry leads its row and column, mean over images and pairs i != j of the last half"
    lab.record(f"c{classes}.dimension", dimensions, "seeds", note)
    lab.record(f"c{classes}.excess", dimensions - classes, "seeds", "dimensions beyond C")
    lab.record(f"c{classes}.sharp_excess", dimensions - (classes - 1), "seeds", "dimensions beyond C - 1")
    for key, rank in (("gap_before", classes - 1), ("gap", classes)):
        gaps = [float(np.nanmedian(metrics.singular_gap(late_values(ds), rank))) for ds in found]
        lab.record(f"c{classes}.{key}", gaps, "seeds", f"s_{rank} / s_{rank + 1}, median over images and late blocks")
    energies = [float(np.nanmean(diagonal_energy(ds))) for ds in found]
    lab.record(f"c{classes}.uv", energies, "seeds", f"K = {found[0].sizes['rank']}")


def _matrix(ds: xr.Dataset) -> NDArray:
    """U_L' J_i V_L of the first sample; 9 of 16 is the paper's i."""
    last = ds.sizes["block"] - 1
    coupling = ds["coupling_uv"].isel(sample=0, block=ds.sizes["block"] // 2, block_j=last)
    return coupling.transpose("rank", "rank_j").values[:PICTURED, :PICTURED]
