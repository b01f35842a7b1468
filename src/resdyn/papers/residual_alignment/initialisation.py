"""Caption of figure 2: before training there is no alignment."""

from __future__ import annotations

from resdyn import metrics
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.late import diagonal_energy, late_states
from resdyn.papers.residual_alignment.networks import measured
from resdyn.papers.residual_alignment.ra2 import draw_couplings


def measure(lab: Lab, label: str, case: Case) -> None:
    """Diagonal energy and cosine of successive steps of the untrained networks, at the same images."""
    ds = measured(lab, lab.untrained(case), state="untrained")
    note = f"K = {ds.sizes['rank']}, {metrics.expected_diagonal_energy(ds.sizes['rank']):.2g} by chance"
    lab.record(f"{label}.uv", diagonal_energy(ds), "training images", note)
    lab.record(f"{label}.vu", diagonal_energy(ds, "vu"), "training images", note)
    lab.record(f"{label}.collinearity", metrics.collinearity(late_states(ds)).mean(-1), "training images")
    draw_couplings(lab, label, ds)
