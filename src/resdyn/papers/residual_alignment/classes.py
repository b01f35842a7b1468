"""Figure 3: with more classes the singular vectors align in a subspace of more dimensions."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.stats import spearmanr

from resdyn.papers import pictures
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.late import diagonal_energy, late_blocks
from resdyn.papers.residual_alignment.networks import case, measured, small_data

CLASSES = {"tiny": (2, 6, 10), "small": (2, 4, 6, 8, 10), "paper": (2, 4, 6, 8, 10, 100)}


def run(lab: Lab) -> None:
    """How many singular vectors of block j line up with those of block i, in the last half, by number of classes."""
    counts, found, profiles = CLASSES[lab.scale], [], []
    for classes in counts:
        ds = measured(lab, lab.trained(subset_case(lab, classes)))
        aligned = aligned_vectors(ds)
        dimension = aligned.sum("rank").values
        found.append(float(dimension.mean()))
        note = "vectors whose diagonal entry leads its row and column, mean over pairs i != j of the last half"
        lab.record(f"c{classes}.dimension", dimension, "training images", note)
        lab.record(f"c{classes}.excess", dimension - classes, "training images", "dimensions beyond C")
        lab.record(f"c{classes}.uv", diagonal_energy(ds), "training images", f"K = {ds.sizes['rank']}")
        profiles.append(pictures.series(f"C = {classes}", ds["rank"].values + 1, aligned.mean("sample").values))
    lab.record("dimension.rank_correlation", spearmanr(counts, found).statistic, note="Spearman's, against C")
    title = "Share of pairs of blocks whose k-th singular vectors line up"
    lab.picture("profile", pictures.lines(title, "figure 3", profiles, "k", "share of pairs i != j"))


def aligned_vectors(ds: xr.Dataset) -> xr.DataArray:
    """(sample, rank): share of the pairs i != j of the last half in which vector k of j lines up with vector k of i.

    It does where |M_kk| is the largest entry of its row and of its column of M = U_j' J_i V_j, which needs no
    threshold; for unrelated vectors that happens about once in 2K - 1 times.
    """
    kept = np.flatnonzero(late_blocks(ds))
    couplings = abs(ds["coupling_uv"].assign_coords(block_j=ds["block"].values).isel(block=kept, block_j=kept))
    couplings = couplings.transpose("sample", "block", "block_j", "rank", "rank_j").astype(np.float64)
    entries = couplings.values
    diagonal = np.diagonal(entries, axis1=-2, axis2=-1)
    leads = (diagonal >= entries.max(-1)) & (diagonal >= entries.max(-2))
    shares = couplings.isel(rank_j=0, drop=True).copy(data=np.where(np.isfinite(diagonal), leads, np.nan))
    other = shares["block"] != shares["block_j"]
    return shares.where(other).mean(("block", "block_j"), skipna=True)


def subset_case(lab: Lab, classes: int) -> Case:
    """Type 1 as in the paper; below scale `paper` type 4a, which is the same with 8 blocks. 100: CIFAR100."""
    kind = "type1" if lab.scale == "paper" else "type4a"
    data = "cifar100" if classes == 100 else small_data(lab.scale)
    return case(lab.scale, kind, data, classes=classes if classes < 10 else None)
