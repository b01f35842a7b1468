"""Appendix E and figure 13: P[|X| > |Y|] of two normal variables, its closed form, and its logistic approximation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, optimize, stats

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Scale

DRAWS: dict[Scale, int] = {"tiny": 10_000, "small": 1_000_000, "paper": 10_000_000}
RATIOS = 10.0 ** np.linspace(-3, 3, 61)


def run(lab: Lab) -> None:
    """phi by its closed form, by the paper's integral and by simulation; how far the logistic curve is from it."""
    closed = metrics.phi(RATIOS)
    integral = np.array([phi_integral(r) for r in RATIOS])
    lab.record("integral", float(np.abs(closed - integral).max()), note="largest |(2/pi) arctan r - the integral|")
    chosen = RATIOS[::10]
    drawn, truth = _simulated(chosen, DRAWS[lab.scale]), metrics.phi(chosen)
    errors = np.sqrt(truth * (1 - truth) / DRAWS[lab.scale])
    scores = np.abs(drawn - truth) / errors
    lab.record(
        "simulation", float(scores.max()), note=f"largest |simulated - phi| in standard errors, {len(chosen)} ratios"
    )
    lab.record("half", float(metrics.phi(1.0)))
    gap = metrics.phi_logistic(RATIOS) - closed
    lab.record("logistic", float(np.abs(gap).max()), note="largest |1 / (1 + r^-1.2) - phi(r)|")
    best = optimize.minimize_scalar(_distance, bounds=(0.8, 2.0), method="bounded")
    lab.record("best_power", float(best.x), note="the c of least largest distance")
    lab.record("best_distance", float(best.fun), note="that distance")
    rows = [
        pictures.series("phi", np.log10(RATIOS), closed, style="-"),
        pictures.series("logistic, c = 1.2", np.log10(RATIOS), metrics.phi_logistic(RATIOS), style=":"),
        pictures.series("simulated", np.log10(chosen), drawn, 2 * errors, style="o"),
    ]
    lab.picture("phi", pictures.lines("P[|X| > |Y|]", "figure 13", rows, "log10 of sigma_X / sigma_Y", "phi"))
    rows = [pictures.series("logistic - phi", np.log10(RATIOS), gap, style="-")]
    lab.picture("error", pictures.lines("error of equation 15", "figure 13", rows, "log10 of the ratio", "difference"))


def phi_integral(ratio: float) -> float:
    """4 int_0^inf g_r(u) G(u) du - 1, equation 14 with the density of standard deviation r."""
    return 4 * integrate.quad(lambda x: stats.norm.pdf(x) * stats.norm.cdf(ratio * x), 0, np.inf, epsabs=1e-12)[0] - 1


def _distance(power: float) -> float:
    return float(np.abs(metrics.phi_logistic(RATIOS, power) - metrics.phi(RATIOS)).max())


def _simulated(ratios: NDArray[np.float64], draws: int) -> NDArray[np.float64]:
    """Shares of draws with |X| > |Y|."""
    rng = np.random.default_rng(0)
    counts = np.zeros(len(ratios))
    for _ in range(10):
        x, y = np.abs(rng.standard_normal((2, draws // 10)))
        counts += [(r * x > y).sum() for r in ratios]
    return np.asarray(counts / (draws // 10 * 10))
