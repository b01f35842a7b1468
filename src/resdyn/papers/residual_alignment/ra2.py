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

PICTURED = 8  # blocks that a picture shows


def measure(lab: Lab, label: str, case: Case) -> None:
    """Diagonal energy of U_j' J_i V_j and V_j' J_i U_j over pairs i != j: of all blocks, and of the last half.

    A matrix is diagonal also where J_i acts on paired vectors like a multiple of the identity, and its first entry may
    hold most of the energy; so the energy without the first pair is recorded beside it, how many vectors line up, and
    of the top C - 1 that theory leaves (see `many_classes`) the cosines of the vectors and the angles of their spans.
    """
    ds = measured(lab, lab.trained(case))
    chance = metrics.expected_diagonal_energy(ds.sizes["rank"])
    classes = len(ds.attrs["class_names"])
    for kind in ("uv", "vu"):
        note = f"K = {ds.sizes['rank']}, {chance:.2g} by chance"
        lab.record(f"{label}.{kind}", diagonal_energy(ds, kind), "training images", note)
        late = diagonal_energy(ds, kind, late=True)
        lab.record(f"{label}.{kind}_late", late, "training images", f"last half of the blocks, {note}")
        if classes < ds.sizes["rank"]:
            top = diagonal_energy(ds, kind, rank=classes)
            note = f"K = C = {classes}, {1 / classes:.2g} by chance"
            lab.record(f"{label}.{kind}_top", top, "training images", note)
        draw_couplings(lab, f"{label}.{kind}", ds, kind)
    draw_couplings(lab, f"{label}.uv_first", ds, first=True)
    lined_up = metrics.between_blocks(metrics.aligned_vectors(ds).sum("rank", skipna=False))
    lab.record(f"{label}.aligned", lined_up, "training images", "vectors that line up, mean over pairs i != j")
    record_vectors(lab, label, ds)


def record_vectors(lab: Lab, label: str, ds: xr.Dataset) -> None:
    """What the diagonal energy may hide: the energy without the first pair of vectors, and the vectors themselves.

    Of two blocks of the last half, and of u and v of one block: mean |cosine| of k-th vectors, k = 1 .. C - 1, and the
    mean squared cosine of the principal angles of their spans, which a change of basis does not lower. Where a block
    has fewer singular values above rounding, vectors beyond them are arbitrary and are left out.
    """
    ranks = vector_counts(ds)
    for kind in ("uv", "vu"):
        rest = diagonal_energy(ds.isel(rank=slice(1, None), rank_j=slice(1, None)), kind)
        lab.record(
            f"{label}.{kind}_rest", rest, "training images", "without the first pair of vectors, all pairs i != j"
        )
    parts = [metrics.alignment(ds.isel(sample=[i]), rank) for i, rank in enumerate(ranks)]
    found = xr.concat(parts, "sample").isel(block=late_blocks(ds), block_j=late_blocks(ds))
    top = str(max(ranks)) if min(ranks) == max(ranks) else f"{min(ranks)} to {max(ranks)}"
    note = f"mean |cosine| of the top {top}, last half of the blocks"
    angles = f"mean squared cosine of the principal angles of the top {top}, last half of the blocks"
    for side in ("left", "right"):
        cosines = metrics.between_blocks(found[f"{side}_alignment"])
        lab.record(f"{label}.{side}_cosine", cosines, "training images", f"of different blocks, {note}")
        spans = metrics.between_blocks(found[f"{side}_subspace_overlap"])
        lab.record(f"{label}.{side}_angles", spans, "training images", f"of different blocks, {angles}")
    own = found["left_right_alignment"].mean("block")
    lab.record(f"{label}.left_right_cosine", own, "training images", f"u_k and v_k of a block, {note}")
    own = found["left_right_subspace_overlap"].mean("block")
    lab.record(f"{label}.left_right_angles", own, "training images", f"u and v of a block, {angles}")


def vector_counts(ds: xr.Dataset) -> list[int]:
    """How many of the top C - 1 vectors every block of the last half has above rounding, at least one, per sample."""
    late = metrics.singular_rank(ds)["numerical_rank"].isel(block=late_blocks(ds)).min("block").values
    most = min(len(ds.attrs["class_names"]) - 1, ds.sizes["rank"])
    return [max(1, int(min(most, rank))) if np.isfinite(rank) else most for rank in late]


def draw_couplings(lab: Lab, key: str, ds: xr.Dataset, kind: str = "uv", first: bool = False) -> None:
    """The paper's grid of pictures with all K vectors, for the first sample: of the last blocks, or of the first ones.

    Only blocks of one shape are shown, that of the last block or of the first.
    """
    own = ds[f"coupling_{kind}"].isel(sample=0, block_j=0 if first else -1, rank=0, rank_j=0).values
    shown = np.isfinite(own) & (True if first else late_blocks(ds))
    blocks = np.flatnonzero(shown)[slice(PICTURED) if first else slice(-PICTURED, None)]
    couplings = ds[f"coupling_{kind}"].isel(sample=0, block=blocks, block_j=blocks)
    matrices = couplings.transpose("block", "block_j", "rank", "rank_j").values
    formula = {"uv": "|U_j' J_i V_j|", "vu": "|V_j' J_i U_j|"}[kind]
    title = f"{key}: {formula}, top {matrices.shape[-1]} vectors, one training image"
    where = "figure 2a" if first else "figure 2b, C.2, C.3"
    lab.picture(key, pictures.grid(title, where, matrices, ds["block"].values[blocks]))
