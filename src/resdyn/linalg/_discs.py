"""Discs within which rounding may move eigenvalues, and which of them meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float64]

ROUNDING = 2.0  # ||E|| of an operator's products, in eps ||A||_F
MEETING = 5.0  # radii within which members of a perturbed Jordan block meet: half of 2 pi, and a margin


def meeting_discs(values: NDArray[np.complexfloating], radii: Floats) -> Floats:
    """For each eigenvalue the sum of the radii in its cluster over its own: the factor that first order omits.

    A Jordan block of size m, perturbed by delta, is a ring of radius delta^(1/m), m times condition x delta.
    """
    if len(values) < 2 or not np.isfinite(radii).all():
        return np.ones(len(values))
    near = np.abs(values[:, None] - values[None]) <= MEETING * (radii[:, None] + radii[None])
    labels = connected_components(csr_array(near), directed=False)[1]
    widths = np.bincount(labels, weights=radii)[labels]
    return np.asarray(widths / np.maximum(radii, np.finfo(float).tiny))
