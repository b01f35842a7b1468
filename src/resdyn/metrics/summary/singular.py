"""RA3 and RA4 in the metrics table: the rank of the Jacobians, and how their norms fall over depth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn._remember import remembered
from resdyn.errors import InputError
from resdyn.metrics.parts import ACROSS, BlockGroup, block_groups
from resdyn.metrics.rank import converged_singular_values, singular_rank
from resdyn.metrics.scaling import InverseScalingFit, LineFit, inverse_scaling, inverse_top_value, jackknife_errors
from resdyn.metrics.summary import by_chance
from resdyn.metrics.summary.metric import (
    Chance,
    Metric,
    convergence_note,
    mean_of,
    one_number,
    over_samples,
    row_medians,
    with_samples,
)
from resdyn.metrics.summary.registry import Summary

LI = "Li and Papyan (2023)"
TEXTS = {
    "singular_gap": ("RA3 gap s_C / s_(C+1)", "well above 1 when the rank is at most C", LI),
    "gap_rank": ("RA3 singular values before the largest gap", "at most C under RA3", LI),
    "numerical_rank": ("RA3 singular values above rounding", "at most the number of triplets stored", LI),
    "inverse_scaling_slope": ("RA4 slope of 1/s_1 against block number", "1 when s_1 = 1/i", LI),
    "inverse_scaling_intercept": ("RA4 intercept of that line", "0 when s_1 = 1/i", LI),
    "inverse_scaling_r_squared": ("RA4 R^2 of that line, adjusted", "1 when 1/s_1 grows linearly, 0 by chance", LI),
    "inverse_scaling_start": ("RA4 block where alignment begins", "1-based, chosen by BIC", LI),
}

FLAT = Chance("0, values of no order", 0.0)
Fitted = tuple[InverseScalingFit, list[LineFit], tuple[float | None, float | None, float | None]]


def _rank(ds: xr.Dataset) -> Iterator[Metric]:
    measured = singular_rank(ds)
    convergence, stored = convergence_note(ds), measured.attrs["num_values"]
    num_classes = measured.attrs["num_classes"]
    short = f": needs {num_classes + 1} triplets, {stored} are stored" if stored <= num_classes else ""
    notes = {
        "singular_gap": f"C = {num_classes}{short}",
        "gap_rank": f"of {stored} triplets",
        "numerical_rank": f"of {stored} triplets: {stored} means at least {stored}",
    }
    for name, note in notes.items():
        if name in measured:
            values = row_medians(measured[name].transpose("sample", "block").values)
            chance = _by_chance(name, num_classes, stored, ds)
            yield over_samples(name, values, "median over blocks", note, convergence, chance=chance)


def _by_chance(name: str, num_classes: int, stored: int, ds: xr.Dataset) -> Chance:
    """Of a random Jacobian."""
    if name == "singular_gap":
        basis = "quarter-circle law of a random matrix (Marchenko and Pastur 1967)"
        return by_chance.over_sizes(basis, lambda d: by_chance.singular_gap(num_classes, d), ds)
    if name == "gap_rank":
        return Chance("1, the widest gap of a random matrix is at its edge", 1.0)
    return Chance("all K, a random matrix has full rank", float(stored))


def _scaling(ds: xr.Dataset) -> Iterator[Metric]:
    """A line for each stage and part of enough blocks, whose norms alone follow one line; else one across them."""
    lines = _grouped(ds)
    for group, (fit, own_lines, errors) in lines:
        yield from _line_rows(ds, group, fit, own_lines, errors)
    if not lines:
        note = str(_fitted(ds, BlockGroup("", np.arange(ds.sizes["block"]))))
        yield one_number("inverse_scaling_slope", np.nan, None, 0, None, note, convergence_note(ds), chance=FLAT)


def scaling_lines(ds: xr.Dataset) -> list[tuple[BlockGroup, InverseScalingFit]]:
    """The lines of 1/s_1 that the metrics table holds: of every stage and part of enough blocks, else of all blocks.

    Args:
        ds: A dataset with the singular probe.

    Returns:
        Which blocks, and their line; empty where there are too few blocks.
    """
    return [(group, fitted[0]) for group, fitted in _grouped(ds)]


@remembered
def _grouped(ds: xr.Dataset) -> list[tuple[BlockGroup, Fitted]]:
    groups = block_groups(ds)
    lines = _lines(ds, groups)
    if lines or len(groups) < 2:
        return lines
    return _lines(ds, [BlockGroup(ACROSS, np.arange(ds.sizes["block"]))])


def _lines(ds: xr.Dataset, groups: list[BlockGroup]) -> list[tuple[BlockGroup, Fitted]]:
    """The groups that have a line."""
    found = [(group, _fitted(ds, group)) for group in groups]
    return [(group, line) for group, line in found if not isinstance(line, str)]


def _fitted(ds: xr.Dataset, group: BlockGroup) -> Fitted | str:
    """The line of a group with the samples' own lines and the errors over samples, or why there is none."""
    own = ds[["singular_values", "singular_converged"]].isel(block=group.positions)
    try:
        return (*inverse_scaling(own), jackknife_errors(own))
    except InputError as error:
        return str(error)


def _line_rows(
    ds: xr.Dataset,
    group: BlockGroup,
    fit: InverseScalingFit,
    lines: list[LineFit],
    errors: tuple[float | None, float | None, float | None],
) -> Iterator[Metric]:
    convergence, blocks = convergence_note(ds), ds["block"].values[group.positions]
    where = f"blocks {fit.start}-{int(blocks[-1]) + 1} (1-based){f', {group.label}' if group.label else ''}"
    trend = f"p = {fit.p_value:.2g} for no trend, the choice of the start repeated"
    level = float(np.nanmean(inverse_top_value(_top(ds, group))))
    chances = {"slope": FLAT, "intercept": Chance("the mean of 1/s_1, a flat line", level)}
    for name, spread in zip(("slope", "intercept"), errors, strict=False):
        own_lines = [getattr(line, name) for line in lines]
        n = mean_of(own_lines)[2]
        regression = f"standard error of the regression {getattr(fit, f'{name}_error'):.2g}"
        notes = regression, trend if name == "slope" else "", convergence
        value = getattr(fit, name)
        common = one_number(f"inverse_scaling_{name}", value, spread, n, where, *notes, chance=chances[name])
        yield with_samples(common, own_lines)
    own = mean_of([line.r_squared for line in lines])[0]
    own_note = f"mean R^2 of the samples' own lines {own:.3g}" if np.isfinite(own) else ""
    plain = f"R^2 of these {fit.num_points} points {fit.r_squared:.3g}, 0 is what chance gives on average"
    once = f"one in twenty rows without a trend exceeds R^2 = {fit.r_squared_by_chance:.2g}"
    notes = f"{plain}; {once}", own_note, convergence
    none = Chance("0 on average over shuffled blocks, the choice of the start repeated", 0.0)
    # 1 - R^2 and the adjusted one are proportional
    scale = (1 - fit.r_squared_adjusted) / (1 - fit.r_squared) if fit.r_squared < 1 else 1.0
    error = None if errors[2] is None else errors[2] * scale
    said = "standard error by jackknife over samples" if error is not None else ""
    yield one_number("inverse_scaling_r_squared", fit.r_squared_adjusted, error, n, where, *notes, said, chance=none)
    early, label = f"{len(fit.criterion)} starts compared", group.label or None
    nothing = Chance("none: without a line the start has no meaning")
    yield one_number("inverse_scaling_start", fit.start, None, n, label, early, convergence, chance=nothing)


def _top(ds: xr.Dataset, group: BlockGroup) -> NDArray[np.float64]:
    top = converged_singular_values(ds).isel(rank=0, block=group.positions)
    return np.asarray(top.transpose("sample", "block").values)


def rows(ds: xr.Dataset) -> Iterator[Metric]:
    """RA3, then RA4."""
    yield from _rank(ds)
    yield from _scaling(ds)


SUMMARY = Summary(rows, TEXTS)
