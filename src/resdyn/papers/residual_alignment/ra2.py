"""RA2 (figure 2, appendix C.2 and C.3): do the top singular vectors of block j diagonalise the Jacobian of block i?"""

from __future__ import annotations

import numpy as np
import xarray as xr

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.late import diagonal_energy, late_blocks
from resdyn.papers.residual_alignment.networks import measured

PICTURED = 10  # singular vectors of each block, and blocks, that a picture shows


def measure(lab: Lab, label: str, case: Case) -> None:
    """Diagonal energy of U_j' J_i V_j and V_j' J_i U_j over pairs i != j: of all blocks, and of the last half.

    A matrix is diagonal also where J_i acts on paired vectors like a multiple of the identity, and its first entry may
    hold most of the energy; so the energy without the first pair is recorded beside it, how many vectors line up, and
    the cosines of the vectors themselves, of the top C - 1 that theory leaves (see `many_classes`).
    """
    ds = measured(lab, lab.trained(case))
    chance = metrics.expected_diagonal_energy(ds.sizes["rank"])
    classes = len(ds.attrs["class_names"])
    for kind in ("uv", "vu"):
        note = f"K = {ds.sizes['rank']}, {chance:.2g} by chance"
        lab.record(f"{label}.{kind}", diagonal_energy(ds, kind), "training images", note)
        late = diagonal_energy(ds, kind, late=True)
        lab.record(f"{label}.{kind}_late", late, "training images", f"last half of the blocks, {note}")
        rest = diagonal_energy(ds.isel(rank=slice(1, None), rank_j=slice(1, None)), kind)
        lab.record(f"{label}.{kind}_rest", rest, "training images", f"without the first pair of vectors, {note}")
        if classes < ds.sizes["rank"]:
            top = diagonal_energy(ds, kind, rank=classes)
            note = f"K = C = {classes}, {1 / classes:.2g} by chance"
            lab.record(f"{label}.{kind}_top", top, "training images", note)
        draw_couplings(lab, f"{label}.{kind}", ds, kind)
    lined_up = metrics.between_blocks(metrics.aligned_vectors(ds).sum("rank", skipna=False))
    lab.record(f"{label}.aligned", lined_up, "training images", "vectors that line up, mean over pairs i != j")
    _record_cosines(lab, label, ds, min(classes - 1, ds.sizes["rank"]))


def _record_cosines(lab: Lab, label: str, ds: xr.Dataset, rank: int) -> None:
    """Mean |cosine| of k-th vectors, k = 1 .. rank: of two blocks of the last half, and of u_k and v_k of one block."""
    found = metrics.alignment(ds, rank).isel(block=late_blocks(ds), block_j=late_blocks(ds))
    note = f"mean |cosine| of the top {rank}, last half of the blocks"
    for side in ("left", "right"):
        cosines = metrics.between_blocks(found[f"{side}_alignment"])
        lab.record(f"{label}.{side}_cosine", cosines, "training images", f"of different blocks, {note}")
    own = found["left_right_alignment"].mean("block")
    lab.record(f"{label}.left_right_cosine", own, "training images", f"u_k and v_k of a block, {note}")


def draw_couplings(lab: Lab, key: str, ds: xr.Dataset, kind: str = "uv") -> None:
    """The paper's grid of pictures, for the first sample and those blocks of the last half that have one shape."""
    with_last = ds[f"coupling_{kind}"].isel(sample=0, block_j=-1, rank=0, rank_j=0).values
    blocks = np.flatnonzero(late_blocks(ds) & np.isfinite(with_last))[-PICTURED:]
    couplings = ds[f"coupling_{kind}"].isel(sample=0, block=blocks, block_j=blocks)
    matrices = couplings.transpose("block", "block_j", "rank", "rank_j").values[..., :PICTURED, :PICTURED]
    formula = {"uv": "|U_j' J_i V_j|", "vu": "|V_j' J_i U_j|"}[kind]
    title = f"{key}: {formula}, top {matrices.shape[-1]} vectors, one training image"
    lab.picture(key, pictures.grid(title, "figure 2, C.2, C.3", matrices, ds["block"].values[blocks]))
