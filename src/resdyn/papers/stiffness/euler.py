"""Figure 3: explicit Euler on y' = -1000 y + 3000 - 2000 e^{-t}, y(0) = 0, beside solvers that are made for it.

Exact solution: with y = 3 + B e^{-t} + C e^{-1000 t} the equation asks -B = -1000 B - 2000, hence B = -2000/999, and
y(0) = 0 asks C = -(3 + B) = -997/999. Equation 9 of the paper prints both rounded to three places.

An error e of explicit Euler is multiplied by 1 - 1000 h at every step: it dies out for h < 0.002 and grows beyond.
The paper's step 0.0015 is below: the solution is inaccurate for a few steps, and stable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp

from resdyn.papers import pictures
from resdyn.papers.lab import Lab

RATE = 1000.0
STEP = 0.0015  # the paper's
STEPS = (0.0005, STEP, 0.0025)
TRANSIENT = 0.02  # twenty time constants of the fast component
SHORT, LONG = 0.1, 5.0
TOLERANCES = {"rtol": 1e-6, "atol": 1e-9}
METHODS = ("RK45", "Radau", "BDF")
OVER = "relative to the exact solution"


def exact(t: ArrayLike) -> NDArray[np.float64]:
    """y(t) = 3 - (997/999) e^{-1000 t} - (2000/999) e^{-t}."""
    t = np.asarray(t, dtype=np.float64)
    return 3 - 997 / 999 * np.exp(-RATE * t) - 2000 / 999 * np.exp(-t)


def printed(t: ArrayLike) -> NDArray[np.float64]:
    """Equation 9 as it is printed."""
    t = np.asarray(t, dtype=np.float64)
    return 3 - 0.998 * np.exp(-RATE * t) - 2.002 * np.exp(-t)


def slope(t: float, y: ArrayLike) -> NDArray[np.float64]:
    """Equation 8."""
    return -RATE * np.asarray(y) + 3000 - 2000 * np.exp(-t)


def explicit_euler(
    f: Callable[[float, ArrayLike], NDArray[np.float64]], y0: float, h: float, end: float
) -> tuple[NDArray, NDArray]:
    """Times 0, h, 2h, ... up to `end` and y_{n+1} = y_n + h f(t_n, y_n)."""
    times = h * np.arange(int(np.floor(end / h + 1e-9)) + 1)
    values = [float(y0)]
    for t in times[:-1]:
        values.append(values[-1] + h * float(f(t, values[-1])))
    return times, np.array(values)


def run(lab: Lab) -> None:
    """Errors of Euler at three steps in and after the first moments; steps, evaluations and errors of the others."""
    grid = np.linspace(0, SHORT, 2001)
    lab.record("equation9.deviation", np.abs(printed(grid) - exact(grid)).max(), note=f"largest on [0, {SHORT}]")
    for h in STEPS:
        times, values = explicit_euler(slope, 0.0, h, SHORT)
        error = np.abs(values - exact(times))[1:] / exact(times[1:])
        early = times[1:] <= 0.006 + 1e-12
        key = f"h{h:g}"
        lab.record(f"{key}.amplification", abs(1 - RATE * h), note="of an error, at each step; below 1 it dies out")
        lab.record(f"{key}.early_error", error[early].max(), note=f"largest up to t = 0.006, {OVER}")
        lab.record(
            f"{key}.late_error", error[times[1:] >= TRANSIENT].max(), note=f"largest from t = {TRANSIENT}, {OVER}"
        )
    for end in (SHORT, LONG):
        _record_solvers(lab, end)
    _draw(lab)


def _record_solvers(lab: Lab, end: float) -> None:
    found = {name: solve_ivp(slope, (0, end), [0.0], method=name, **TOLERANCES) for name in METHODS}
    note = f"on [0, {end:g}], rtol {TOLERANCES['rtol']:g}, atol {TOLERANCES['atol']:g}"
    for name, solution in found.items():
        key = f"{name}.to{end:g}"
        lab.record(f"{key}.steps", len(solution.t) - 1, note=note)
        lab.record(f"{key}.evaluations", solution.nfev, note=f"{note}; {solution.nlu} factorisations")
        lab.record(f"{key}.error", np.abs(solution.y[0] - exact(solution.t)).max(), note=f"largest, {note}")
    ratio = found["RK45"].nfev / min(found[name].nfev for name in ("Radau", "BDF"))
    lab.record(
        f"explicit_cost.to{end:g}.ratio", ratio, note=f"evaluations of RK45 over the better implicit one, {note}"
    )


def _draw(lab: Lab) -> None:
    for end, key in ((0.006, "a"), (SHORT, "b")):
        fine = np.linspace(0, end, 200)
        rows: list[dict[str, Any]] = [pictures.series("exact", fine, exact(fine), style="-")]
        rows.append(pictures.series(f"Euler, h = {STEP}", *explicit_euler(slope, 0.0, STEP, end), style="o--"))
        implicit = solve_ivp(slope, (0, end), [0.0], method="Radau", **TOLERANCES)
        rows.append(pictures.series("Radau", implicit.t, implicit.y[0], style="s"))
        lab.picture(f"figure3{key}", pictures.lines("A stiff equation", f"figure 3{key}", rows, "t", "y"))
    curves = []
    for h in STEPS:
        times, values = explicit_euler(slope, 0.0, h, SHORT)
        error = np.abs(values - exact(times))
        curves.append(pictures.series(f"h = {h:g}", times[1:], error[1:], style=".-"))
    title = "Error of explicit Euler below and above the bound h < 0.002"
    lab.picture("errors", pictures.lines(title, "beyond figure 3", curves, "t", "absolute error", log=True))
