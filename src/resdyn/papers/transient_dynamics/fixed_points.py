"""Section 4: "the number of possible fixed points is 3^N", of which "only some are stable"; for random weights.

Every y_i of a fixed point of equation 3 is 0, 1, or such that (W y)_i = 0. All 2^N corners of the cube are fixed points
whatever W is. One with inner coordinates needs the solution of a linear system to be in the cube, and that with all
coordinates free solves W y = 0, which is the corner y = 0 for every invertible W: 3^N is never reached.
"""

from __future__ import annotations

import numpy as np
import torch

from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.transient_dynamics import theory

NEURONS: dict[Scale, tuple[int, ...]] = {"tiny": (1, 2), "small": (1, 2, 3, 4, 5, 6), "paper": (1, 2, 3, 4, 5, 6)}
DRAWS: dict[Scale, int] = {"tiny": 3, "small": 20, "paper": 20}
TIME, STEP = 400.0, 0.05  # of the flow from random starts
NEAR = 1e-2


def run(lab: Lab) -> None:
    """Fixed points found over 3^N, the share that is stable, and where the flow from inside the cube ends."""
    counts, stable = [], []
    for size in NEURONS[lab.scale]:
        rows = np.array([_of_weights(size, seed) for seed in range(DRAWS[lab.scale])])
        note = f"N = {size}, W of independent normal entries"
        share = rows[:, 0] / 3**size
        lab.record(f"n{size}.share", share, "draws of W", f"fixed points over 3^N; {note}")
        lab.record(f"n{size}.most", share.max(), note=f"the most of any draw, over 3^N; {note}")
        lab.record(f"n{size}.stable", rows[:, 1] / rows[:, 0], "draws of W", f"share that is stable; {note}")
        counts.append(pictures.series(f"N = {size}", np.arange(len(rows)), np.sort(rows[:, 0])))
        stable.append(rows)
    every = np.concatenate([rows[:, 1] / rows[:, 0] for rows in stable])
    lab.record("stable", every, "draws of W", "share of the fixed points that is stable, all N")
    lab.record("most", max(lab.result.numbers[f"n{n}.most"].value or 0.0 for n in NEURONS[lab.scale]), note="over 3^N")
    ended = np.concatenate([rows[:, 2] for rows in stable])
    note = "share of ten starts whose flow ends at a stable fixed point, of W that have one; y = 0 is not counted"
    lab.record("ends_stable", ended, "draws of W", note)
    title = "Fixed points of equation 3 for random weights, by draw"
    lab.picture("counts", pictures.lines(title, "section 4", counts, "draw, sorted", "fixed points", log=True))


def _of_weights(size: int, seed: int) -> tuple[float, float, float]:
    """How many fixed points, how many stable ones, and the share of ten starts that end at one; NaN without any."""
    generator = torch.Generator().manual_seed(1000 * size + seed)
    W = torch.randn(size, size, generator=generator, dtype=torch.float64)
    points = theory.fixed_points(W)
    attractors = torch.stack([p.y for p in points if p.stable]) if any(p.stable for p in points) else None
    y = torch.rand(10, size, generator=generator, dtype=torch.float64)
    if attractors is None:
        return len(points), 0, float("nan")
    for _ in range(int(TIME / STEP)):
        y = (y + STEP * theory.residual_flow(y, W)).clamp(0, 1)
    near = (torch.cdist(y, attractors, p=float("inf")) < NEAR).any(1)
    return len(points), len(attractors), float(near.double().mean())
