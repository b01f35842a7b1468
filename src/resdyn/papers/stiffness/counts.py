"""Tables 10 and 11: how large the Jacobians are, and how many eigenvalues they have by either reading.

The printed numbers of eigenvalues are those of the H x W slices of the unflattened Jacobian, more than a thousand
times as many as the matrix has (see `resdyn.metrics.eigenvalue_count`).
"""

from __future__ import annotations

import numpy as np

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.stiffness.architecture import block_shapes

NETWORKS = ("resnet18", "resnet34", "resnet50")


def run(lab: Lab) -> None:
    """Counts of every block that discovery finds in the untrained network; no number depends on weights or scale."""
    for name in NETWORKS:
        shapes = block_shapes(name)
        rows = {
            "elements": [metrics.jacobian_elements(*shape) for shape in shapes],
            "slices": [metrics.eigenvalue_count(*shape, "slices") for shape in shapes],
            "flattened": [metrics.eigenvalue_count(*shape, "flattened") for shape in shapes],
        }
        for quantity, counts in rows.items():
            for number, count in enumerate(counts, start=1):
                lab.record(f"{name}.block{number}.{quantity}", count)
            lab.record(f"{name}.total.{quantity}", sum(counts))
        lab.picture(name, _picture(name, rows))


def _picture(name: str, rows: dict[str, list[int]]) -> dict:
    titles = {"elements": "elements", "slices": "eigenvalues of slices (as printed)", "flattened": "eigenvalues"}
    number = np.arange(1, len(rows["elements"]) + 1)
    curves = [
        pictures.series(titles[key], number, np.where(np.array(counts) > 0, counts, np.nan))
        for key, counts in rows.items()
    ]
    return pictures.lines(f"{name}: counts of each block's Jacobian", "tables 10, 11", curves, "block", "count", True)
