"""Figure 11: the fraction of dominant flows in the trivial case, simulated and approximated, in all six panels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.identity_connections.simulation import TrivialCase, simulate
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.results import Number

DRAWS: dict[Scale, int] = {"tiny": 300, "small": 10_000, "paper": 100_000}
PANELS: dict[str, tuple[str, str, list[Any]]] = {
    "a": ("n", "dimension n", [5, 10, 15, 20, 30, 40, 50]),
    "b": ("layer", "layer l", list(range(10))),
    "c": ("sigma_a", "standard deviation of A", [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]),
    "d": ("sigma_v", "standard deviation of V", [0.01, 0.1, 1.0]),
    "e": ("p", "probability p", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0]),
    "f": ("epsilon", "epsilon", [0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]),
}
LOGARITHMIC = "cdf"  # panels whose parameter spans powers of ten
FORMULAS = ("derived", "printed", "concluded")
STRONG = TrivialCase(epsilon=1.0, sigma_a=0.05, layer=0, p=0.95)  # noise is felt: the formulas differ
Found = dict[str, list[Number]]


def run(lab: Lab) -> None:
    """Simulated shares of both kinds of nets and their analytic approximations, one panel for each parameter."""
    draws = DRAWS[lab.scale]
    for panel, (name, label, values) in PANELS.items():
        cases = [dataclasses.replace(TrivialCase(), **{name: value}) for value in values]
        found = {kind: [simulate(case, kind == "residual", draws) for case in cases] for kind in ("residual", "plain")}
        _record(lab, panel, cases, found)
        lab.picture(f"panel_{panel}", _picture(panel, label, values, cases, found))
    trivial, plain = simulate(TrivialCase(), True, draws), simulate(TrivialCase(), False, draws)
    lab.record("default.residual", float(trivial.value or 0), note=f"{draws} draws, standard error {trivial.error:.1g}")
    lab.record("default.plain", float(plain.value or 0), note=f"{draws} draws, standard error {plain.error:.1g}")
    lab.record("margin", float(trivial.value or 0) - float(plain.value or 0), note="residual minus plain, default case")
    strong = simulate(STRONG, True, draws)
    for formula in FORMULAS:
        lab.record(
            f"strong.{formula}",
            abs(float(strong.value or 0) - expected(STRONG, formula)),
            note="|formula - simulation| at epsilon sigma_A = 0.05, l = 0, p = 0.95",
        )


def expected(case: TrivialCase, formula: Any = "derived", logistic: bool = False) -> float:
    """The analytic approximation of a case."""
    return metrics.expected_dominant_fraction(
        case.n, case.epsilon, case.steps, case.p, case.sigma_a, formula, logistic=logistic
    )


def _record(lab: Lab, panel: str, cases: list[TrivialCase], found: Found) -> None:
    simulated = {kind: np.array([number.value for number in row], dtype=float) for kind, row in found.items()}
    for formula in FORMULAS:
        gap = np.abs([expected(case, formula) for case in cases] - simulated["residual"])
        lab.record(
            f"{panel}.{formula}", float(gap.max()), note=f"largest |formula - simulation| of {len(cases)} points"
        )
    slope = np.diff(simulated["residual"])
    lab.record(f"{panel}.rise", float(slope.sum()), note="residual: last point minus first")
    lab.record(f"{panel}.falls", float(-slope.min()), note="residual: largest fall between neighbours")
    lab.record(f"{panel}.rises", float(slope.max()), note="residual: largest rise between neighbours")
    lab.record(f"{panel}.plain_range", float(np.ptp(simulated["plain"])), note="plain: largest minus smallest")
    lab.record(
        f"{panel}.margin", float((simulated["residual"] - simulated["plain"]).min()), note="least residual - plain"
    )


def _picture(panel: str, label: str, values: list[Any], cases: list[TrivialCase], found: Found) -> dict[str, Any]:
    rows = [
        pictures.series(
            kind, values, [n.value or 0.0 for n in found[kind]], [2 * (n.error or 0.0) for n in found[kind]]
        )
        for kind in ("residual", "plain")
    ]
    derived = [expected(case) for case in cases]
    rows.append(pictures.series("derived", values, derived, style="--"))
    if panel in "bcef":
        rows.append(pictures.series("concluded", values, [expected(c, "concluded") for c in cases], style=":"))
    title = f"expected sigma against {label}, error bars two standard errors"
    if panel in LOGARITHMIC:
        label = f"log10 of the {label}" if label != "epsilon" else "log10 of epsilon"
        rows = [row | {"x": np.log10(values).round(4).tolist()} for row in rows]
    return pictures.lines(title, f"figure 11 ({panel})", rows, label, "sigma")
