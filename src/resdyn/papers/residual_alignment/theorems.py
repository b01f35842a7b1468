"""Theorems 3.1 and 3.3, numerically; see `theory` and `many_classes` for what is derived."""

from __future__ import annotations

import numpy as np
import torch

from resdyn import find_stream, metrics
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.many_classes import ManyClasses, optimise_classes
from resdyn.papers.residual_alignment.theory import AlignedNet, optimise_model, reduced_optimum

WIDTH, DEPTH = 64, 32  # of theorem 3.1
FLOOR = 1e-6  # of a logarithmic picture
# (D, L, lambda, |x|) of the model of theorem 3.3
MODELS = {
    "tiny": [(4, 2, 0.1, 1.0), (6, 4, 0.01, 0.5)],
    "small": [
        (4, 2, 0.1, 1.0),
        (8, 4, 0.01, 0.1),
        (8, 4, 0.1, 3.0),
        (16, 8, 1e-3, 1.0),
        (16, 16, 0.05, 1.0),
        (6, 3, 1.0, 1.0),
        (32, 16, 0.01, 1.0),
    ],
    "paper": [(d, n, lam, 1.0) for d in (4, 16, 64) for n in (2, 8, 32) for lam in (1e-3, 1e-2, 1e-1, 1.0)],
}
# (D, L, C, lambda, inputs of each class) of the same with C classes
CLASSES = {
    "tiny": [(8, 3, 3, 1e-3, 1)],
    "small": [
        (8, 3, 3, 1e-3, 1),
        (10, 2, 2, 1e-2, 2),
        (16, 6, 4, 1e-3, 3),
        (12, 4, 5, 1e-3, 2),
        (20, 4, 10, 1e-4, 1),
        (20, 4, 10, 1e-3, 2),
    ],
    "paper": [(2 * c, n, c, lam, 2) for c in (2, 4, 10, 20) for n in (2, 8) for lam in (1e-4, 1e-3)],
}


def run(lab: Lab) -> None:
    """States of a network that satisfies RA2+3+4; optima of the model found by descent beside the scalar problem."""
    states = aligned_states(WIDTH, DEPTH)
    lab.record("theorem_3_1.line_shape_excess", metrics.line_shape_score(states) - 1)
    lab.record("theorem_3_1.equispacing", metrics.equispacing(states))
    settings = MODELS[lab.scale]
    found = [(optimise_model(d, n, lam, norm=norm), reduced_optimum(n, lam, norm)) for d, n, lam, norm in settings]
    over = "settings of D, L, lambda, |x|"
    gaps = [model.loss / best.loss - 1 for model, best in found]
    lab.record("theorem_3_3.loss_gap", np.max(np.abs(gaps)), note=f"largest of {len(found)} {over}; relative")
    lab.record("theorem_3_3.misalignment", max(1 - model.alignment for model, _ in found), note="1 - least cosine")
    lab.record("theorem_3_3.second_value", max(model.rank_one_residual for model, _ in found), note="largest s_2 / s_1")
    lab.record("theorem_3_3.inequality", max(model.inequality for model, _ in found), note="largest std/mean of s_1")
    off = max(float(np.abs(model.top_values / best.s - 1).max()) for model, best in found)
    lab.record("theorem_3_3.value_off", off, note="largest relative distance of s_1 from the scalar problem's s")
    lab.picture("theorem_3_3", _picture(found[-1], settings[-1]))
    _many_classes(lab)


def _many_classes(lab: Lab) -> None:
    settings = CLASSES[lab.scale]
    found = [optimise_classes(d, n, c, lam, per_class=per) for d, n, c, lam, per in settings]
    over = f"of {len(found)} settings of D, L, C, lambda and inputs"
    lab.record("many_classes.beyond", max(p.beyond for p in found), note=f"largest s_C / s_1 {over}")
    lab.record("many_classes.last", min(p.last for p in found), note=f"least s_(C-1) / s_1 {over}")
    lab.record("many_classes.imbalance", max(p.imbalance for p in found), note=f"largest {over}; relative")
    lab.record("many_classes.inequality", max(p.inequality for p in found), note=f"largest {over}; relative")
    lab.picture("many_classes", _spectra({len(point.classifier): point for point in found}))


def aligned_states(width: int, depth: int, seed: int = 0) -> np.ndarray:
    """h_1 .. h_{L+1} (L + 1, D) of theorem 3.1's network, found in its graph like those of any other."""
    generator = torch.Generator().manual_seed(seed)
    u, x = torch.randn(2, width, generator=generator, dtype=torch.float64)
    model = AlignedNet(u, depth).eval()
    states = find_stream(model, x[None]).states(x[None])
    return torch.cat(list(states)).numpy()


def _picture(found: tuple, setting: tuple) -> dict:
    model, best = found
    number = np.arange(1, len(model.jacobians) + 1)
    values = np.linalg.svd(model.jacobians, compute_uv=False)
    rows = [
        pictures.series("s_1, found", number, values[:, 0], style="o"),
        pictures.series("s_2, found", number, values[:, 1], style="s"),
        pictures.series("s of the scalar problem", number, np.full(len(number), best.s), style="-"),
    ]
    d, n, lam, _ = setting
    return pictures.lines(f"Optimum of the model, D={d}, L={n}, lambda={lam:g}", "theorem 3.3", rows, "block", "value")


def _spectra(points: dict[int, ManyClasses]) -> dict:
    rows = []
    for classes, point in sorted(points.items()):
        values = np.linalg.svd(point.jacobians, compute_uv=False).mean(0)[: classes + 2]
        number = np.arange(1, len(values) + 1)
        rows.append(pictures.series(f"C = {classes}", number, np.maximum(values, FLOOR)))
    title = f"Singular values of the optimal Jacobians for C classes: C - 1 are not zero (drawn: at least {FLOOR:g})"
    return pictures.lines(title, "RA3, theorem 3.3", rows, "k", "s_k", log=True)
