"""What the share of negative real parts owes to the geometry of slices alone (tables 2, 5 and 8).

An output element (c', i, j) depends on a window of the input, a few pixels around (s i, s j) with s the stride. Of
the H x W slice of the unflattened Jacobian that belongs to it and an input channel only the window's rows and columns
are not zero, so that its eigenvalues that are not zero are those of the principal submatrix on the indices that are
in the window's rows and in its columns alike. On a map of 16 x 16 these are few, on 2 x 2 all. If weights had random
signs, half of these eigenvalues had negative real parts, and where a ReLU closes half of the outputs half of the slices
are zero: 100 x 1/4 x share of indices in both, which knows nothing of any weight.
"""

from __future__ import annotations

import numpy as np

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.stiffness.architecture import block_shapes
from resdyn.papers.stiffness.printed import printed

# 3 x 3 convolutions of a block; of ResNet-50 the last block alone is printed
NETWORKS = {"resnet18": ("table 2", 2), "resnet34": ("table 5", 2), "resnet50": ("table 8", 1)}
QUARTER = 0.25  # half of the outputs open, half of the real parts negative


def run(lab: Lab) -> None:
    """The prediction for every block, and how much of the printed column's variance over blocks it explains."""
    networks = list(NETWORKS.items())[: 1 if lab.scale == "tiny" else None]
    for name, (where, convolutions) in networks:
        shapes = block_shapes(name)
        blocks = np.arange(1, len(shapes) + 1)
        predicted = [100 * QUARTER * overlap_share(before[-1], after[-1], convolutions) for before, after in shapes]
        paper = printed([f"{name}.block{number}.slices.percent_negative" for number in blocks])
        for number, value in enumerate(predicted, start=1):
            lab.record(f"{name}.block{number}.predicted", value, note=f"paper {paper[number - 1]:g}")
        if np.isfinite(paper).all():
            found = metrics.pearson(predicted, paper)
            note = f"R^2 over {found.n} blocks of the printed percentages, p {found.p_value:.1g}"
            lab.record(f"{name}.all.explained", found.coefficient**2, note=note)
        rows = [pictures.series("paper", blocks, paper), pictures.series("geometry alone", blocks, predicted)]
        lab.picture(name, pictures.lines(f"{name}: negative real parts", where, rows, "block", "%"))


def overlap_share(size_in: int, size_out: int, convolutions: int = 2) -> float:
    """Mean share of the indices 0 .. size_in - 1 that are in the windows of both i and j, over all i, j.

    Two 3 x 3 convolutions, the first with stride s = size_in / size_out: output i sees s i - s - 1 .. s i + s + 1. One
    such convolution: s i - 1 .. s i + 1.
    """
    stride = size_in // size_out
    centres, indices = stride * np.arange(size_out), np.arange(size_in)
    seen = np.abs(indices[None] - centres[:, None]) <= (stride + 1 if convolutions == 2 else 1)
    return float((seen[:, None] & seen[None]).mean())
