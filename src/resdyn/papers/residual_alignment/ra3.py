"""RA3 (figure 4a, appendix C.4): is the rank of the residual Jacobians at most C, the number of classes?"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.late import late_blocks
from resdyn.papers.residual_alignment.networks import measured

SHOWN = 20


def measure(lab: Lab, label: str, case: Case) -> None:
    """In the last half: the gaps s_C / s_(C+1) and s_(C-1) / s_C, and the share of sum_k s_k^2 of the top C of K."""
    ds = measured(lab, lab.trained(case))
    classes = len(ds.attrs["class_names"])
    values = late_values(ds)
    note = f"C = {classes}, last half of the blocks"
    ranks = metrics.singular_rank(ds)["numerical_rank"].transpose("sample", "block").values[:, late_blocks(ds)]
    gap = np.median(metrics.singular_gap(values, classes), axis=1)
    before = np.median(metrics.singular_gap(values, classes - 1), axis=1)
    known = f"s_C is above rounding in {np.mean(ranks >= classes):.0%} of them"
    lab.record(f"{label}.gap_before", before, "training images", f"s_(C-1) / s_C, median over blocks, {note}, {known}")
    lab.record(f"{label}.gap", gap, "training images", f"median over blocks, {note}, {known}")
    rank_note = f"values above rounding of {values.shape[-1]}, {note}"
    lab.record(f"{label}.numerical_rank", ranks.mean(1), "training images", rank_note)
    squares = values**2
    share = squares[..., :classes].sum(-1) / squares.sum(-1)
    lab.record(f"{label}.share", share.mean(1), "training images", f"of the top {values.shape[-1]}, {note}")
    lab.picture(f"{label}.values", _picture(label, ds, classes))


def late_values(ds: xr.Dataset) -> NDArray[np.float64]:
    """Singular values (sample, block, rank) of the last half, NaN where not converged."""
    values = metrics.converged_singular_values(ds).transpose("sample", "block", "rank").values
    return values[:, late_blocks(ds)]


def _picture(label: str, ds: xr.Dataset, classes: int) -> dict:
    """Top values against depth, mean over samples: the first C - 1, the C-th, and the next."""
    values = metrics.converged_singular_values(ds).mean("sample").transpose("block", "rank").values[:, :SHOWN]
    number = np.repeat(ds["block"].values + 1, values.shape[1]).reshape(values.shape)
    rows = [
        pictures.series(name, number[:, part], values[:, part], style=".")
        for name, part in (
            (f"1 to {classes - 1}", slice(classes - 1)),
            (f"{classes}, the number of classes", slice(classes - 1, classes)),
            ("next", slice(classes, None)),
        )
    ]
    return pictures.lines(f"{label}: top singular values", "figure 4a, C.4", rows, "block", "singular value", log=True)
