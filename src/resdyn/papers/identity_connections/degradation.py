"""Table 1 and figures 2, 8 and 9: do plain networks train worse than residual ones, and more so as they deepen?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdyn.papers import pictures
from resdyn.papers.identity_connections.networks import DEPTHS, KINDS, WEIGHT_DECAY, seeds, simplified, watched
from resdyn.papers.identity_connections.watch import risk
from resdyn.papers.identity_connections.weights import squared_norm
from resdyn.papers.lab import Lab

FloatArray = NDArray[np.float64]
Course = dict[str, FloatArray]


def run(lab: Lab) -> None:
    """Loss, cost and test error after training of both kinds at three depths; risk and error over training."""
    courses = {(kind, n): _courses(lab, kind, n) for n in DEPTHS[lab.scale] for kind in KINDS}
    shallow = DEPTHS[lab.scale][0]
    if len(DEPTHS[lab.scale]) > 1:
        _growth(lab)
    for n in DEPTHS[lab.scale]:
        gap = courses["plain", n]["loss"] - courses["residual", n]["loss"]
        lab.record(f"gap.{n}", gap, "seeds", "training loss, plain minus residual, by seed")
    _speed(lab, courses["plain", shallow], courses["residual", shallow])
    _draw(lab, courses)


def _growth(lab: Lab) -> None:
    """How loss and error of both kinds change from the shallowest to the deepest networks."""
    numbers, growth = lab.result.numbers, {}
    shallow, *_, late, deep = (DEPTHS[lab.scale][0], *DEPTHS[lab.scale])
    for kind in KINDS:
        loss, error = (
            {n: float(numbers[f"{kind}.{n}.{what}"].value or np.nan) for n in (shallow, late, deep)}
            for what in ("loss", "error")
        )
        growth[kind] = loss[deep] / loss[shallow]
        lab.record(f"{kind}.growth", growth[kind], note=f"training loss at depth {deep} over that at depth {shallow}")
        lab.record(f"{kind}.growth_late", loss[deep] / loss[late], note=f"the same, over depth {late}")
        lab.record(
            f"{kind}.error_growth",
            error[deep] - error[shallow],
            note=f"test error at depth {deep} minus that at depth {shallow}",
        )
    lab.record("growth_ratio", growth["plain"] / growth["residual"], note="plain growth over residual growth")


def _courses(lab: Lab, kind: str, layers: int) -> Course:
    """Risk and error (seed, epoch) of a kind at a depth, and the numbers of table 1."""
    found: list[dict[str, Any]] = []
    for seed in seeds(lab.scale, layers):
        network, course = watched(lab, simplified(lab.scale, kind, layers, seed))
        decay = WEIGHT_DECAY / 2 * squared_norm(network.model.parameters())
        error = 1 - lab.result.networks[network.name]["test_accuracy"]
        found.append({**course, "loss": risk(network.model, network.data), "decay": decay, "test": error})
    rows = {
        name: np.array([row[name] for row in found]) for name in ("epoch", "risk", "error", "loss", "decay", "test")
    }
    key = f"{kind}.{layers}"
    lab.record(f"{key}.loss", rows["loss"], "seeds", "over all training images after training")
    lab.record(f"{key}.cost", rows["loss"] + rows["decay"], "seeds", "loss + (lambda / 2) |w|^2")
    lab.record(f"{key}.error", rows["test"], "seeds")
    lab.record(f"{key}.loss_over_decay", rows["loss"] / rows["decay"], "seeds", "loss over (lambda / 2) |w|^2")
    return rows


def _speed(lab: Lab, plain: Course, residual: Course) -> None:
    """Who is first at the plain network's final risk, and who errs less there."""
    epochs, errors = [], []
    for p_risk, p_error, r_risk, r_error in zip(
        plain["risk"], plain["error"], residual["risk"], residual["error"], strict=True
    ):
        level = max(p_risk.min(), r_risk.min())
        needed = reached(r_risk, level)
        epochs.append(reached(p_risk, level) / needed if needed else np.nan)  # at once: the risk has not fallen
        errors.append(error_at(p_risk, p_error, level) - error_at(r_risk, r_error, level))
    lab.record(
        "speedup",
        epochs,
        "seeds",
        "epochs that the plain network needs for the higher of both final risks, over those of the residual one",
    )
    lab.record("error_at_equal_risk", errors, "seeds", "test error there, plain minus residual")


def reached(risk: FloatArray, level: float) -> float:
    """Epochs until the risk first falls to a level, between epochs by interpolation."""
    first = int(np.argmax(risk <= level))
    if first == 0:
        return 0.0 if risk[0] <= level else float("nan")
    high, low = risk[first - 1], risk[first]
    return first - 1 + float((high - level) / (high - low))


def error_at(risk: FloatArray, error: FloatArray, level: float) -> float:
    """Test error when the risk first falls to a level."""
    return float(np.interp(reached(risk, level), np.arange(len(error)), error))


def _draw(lab: Lab, courses: dict[tuple[str, int], Course]) -> None:
    shallow = DEPTHS[lab.scale][0]
    for name, where in (("risk", "figures 2 and 8, left"), ("error", "figures 2 and 8, right")):
        rows = [_line(kind, courses[kind, shallow], name) for kind in KINDS]
        title = f"depth {shallow}: {'training risk' if name == 'risk' else 'test error'}, mean and spread over seeds"
        lab.picture(name, pictures.lines(title, where, rows, "epoch", name, log=name == "risk"))
    deeper = [_line(f"{kind}, depth {n}", courses[kind, n], "risk") for n in DEPTHS[lab.scale][1:] for kind in KINDS]
    if deeper:
        lab.picture(
            "deeper", pictures.lines("training risk as networks deepen", "figure 9 (a)", deeper, "epoch", "risk", True)
        )
    gaps = []
    for n in DEPTHS[lab.scale]:
        plain, residual = courses["plain", n]["risk"], courses["residual", n]["risk"]
        gap = (plain - residual).mean(0)
        gaps.append(pictures.series(f"depth {n}", courses["plain", n]["epoch"][0], gap, style="-"))
        lab.record(f"gap_peak.{n}", float(np.argmax(gap)), note="epoch at which the risks differ most")
    lab.picture("gap", pictures.lines("risk of plain minus residual", "figure 9 (b)", gaps, "epoch", "difference"))


def _line(name: str, course: Course, what: str) -> dict[str, Any]:
    values = course[what]
    spread = values.std(0, ddof=1) if len(values) > 1 else None
    return pictures.series(name, course["epoch"][0], values.mean(0), spread, "-")
