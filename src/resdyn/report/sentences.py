"""The number under each picture, in words, from the rows of the metrics table."""

from __future__ import annotations

import math
from typing import Any

import xarray as xr

from resdyn._format import percent, short, with_error

Rows = list[dict[str, Any]]

LINE = (("line_shape_score", "Line-shape score (1 on a line)"), ("tortuosity", "path over chord"))
COSINES = (("collinearity", "Mean cosine of successive steps"),)
SPACING = (("equispacing", "Coefficient of variation of the step lengths (0 when equispaced)"),)
ALIGNMENT = (
    ("diagonal_energy_uv", "Mean over pairs i ≠ j"),
    ("expected_diagonal_energy", "by chance"),
    ("diagonal_energy_vu", "the same with V and U exchanged"),
    ("mismatch_uv", "mismatch with the singular values (0 when aligned)"),
    ("left_alignment", "cosine of left vectors across blocks"),
    ("right_alignment", "of right vectors"),
)
RANK = (
    ("singular_gap", "Gap s_C / s_(C+1)"),
    ("gap_rank", "singular values before the largest gap"),
)
SCALING = (
    ("inverse_scaling_slope", "Slope"),
    ("inverse_scaling_r_squared", "R²"),
    ("inverse_scaling_start", "alignment begins at block number"),
)
STIFFNESS = (
    ("stiffness_index_flattened", "Index of the Jacobian"),
    ("stiffness_index_slices", "of its slices"),
)
NEGATIVE = (
    ("percent_negative_flattened", "Negative real parts of the Jacobian in %"),
    ("percent_negative_slices", "of its slices"),
)
PLANE = (
    ("spectral_radius", "Largest modulus"),
    ("percent_negative_flattened", "negative real parts in %"),
)
NONNORMAL = (
    ("spectral_radius", "Largest modulus of an eigenvalue"),
    ("jacobian_norm", "norm"),
    ("numerical_abscissa", "numerical abscissa"),
    ("departure_from_normality", "departure from normality"),
)
LAYER_CUSHION = (("layer_cushion", "Mean over layers"), ("least_layer_cushion", "least over layers and samples"))
BLOCK_CUSHION = (("block_cushion", "Mean over blocks"),)
OUTPUT_CUSHION = (("output_cushion", "Mean over blocks"),)
NC1 = (("within_class_variability", "NC1"),)
NC2 = (
    ("equinorm", "Spread of norms"),
    ("equiangularity", "of cosines"),
    ("maximal_angle", "distance from −1/(C−1)"),
)
NC34 = (("self_duality", "NC3"), ("nearest_mean_disagreement", "NC4"))
TRAINED_ALIGNMENT = (
    ("collinearity", "cosine of steps"),
    ("diagonal_energy_uv", "energy on the diagonal"),
    ("inverse_scaling_r_squared", "R² of 1/s₁"),
)
TRAINED_COLLAPSE = (("within_class_variability", "NC1"), ("loss", "training loss"))
SHARES = {"nearest_mean_disagreement"}
EXPLAINED = {"line_shape_score"}  # whose note says what to expect by chance


def sentences(metrics: Rows, wording: tuple[tuple[str, str], ...]) -> list[str]:
    """One sentence for each place (stage, depth) that the metrics of `wording` were taken at."""
    words = dict(wording)
    places: dict[str | None, list[str]] = {}
    notes: dict[str | None, list[str]] = {}
    for name in words:
        for row in (row for row in metrics if row["name"] == name):
            places.setdefault(row["where"], []).append(f"{words[name]}: {number(row)}")
            if row["value"] is None and row["note"]:
                notes.setdefault(row["where"], []).append(row["note"].removesuffix("; not measured"))
    same: dict[tuple[str, str], list[str]] = {}
    for place, parts in _merged(places).items():
        said = "; ".join(parts), "; ".join(dict.fromkeys(notes.get(place, [])))
        same.setdefault(said, []).append(readable(place))
    return [_sentence(" and ".join(filter(None, where)), *said) for said, where in same.items()]


def first_to_last(ds: xr.Dataset, _: Rows, columns: tuple[tuple[str, str], ...]) -> list[str]:
    """What each column of the training monitor was at its first and at its last row."""
    rows, parts = ds.attrs["training"], []
    for name, words in columns:
        known = [row for row in rows if row.get(name) is not None]
        if len(known) > 1:
            first, last = known[0], known[-1]
            parts.append(f"{words} {short(first[name])} → {short(last[name])}")
    epochs = f"epochs {rows[0]['epoch']} → {rows[-1]['epoch']}"
    return [_sentence(epochs, "; ".join(parts), "")] if parts else []


def number(row: dict[str, Any]) -> str:
    """'0.953 ± 0.012 (n = 12)', or 'not measured'."""
    if row["value"] is None:
        return "not measured"
    text = f"{quantity(row)} (n = {short(row['n'])})" if row["n"] else quantity(row)
    explained = row["name"] in EXPLAINED or not math.isfinite(row["value"])
    return f"{text}, {row['note']}" if explained and row["note"] else text


def quantity(row: dict[str, Any]) -> str:
    """The value with what is known of its error; shares in per cent."""
    if row["name"] in SHARES:
        return percent(row["value"], row["standard_error"], row.get("interval"))
    return with_error(row["value"], row["standard_error"])


def readable(place: str | None) -> str:
    """A place as typeset on the page."""
    return (place or "").replace("!=", "≠")


def _merged(places: dict[str | None, list[str]]) -> dict[str | None, list[str]]:
    """Parts without a place join the only other place."""
    if None in places and len(places) == 2:
        loose = places.pop(None)
        (only,) = places
        places[only] = places[only] + loose
    return places


def _sentence(place: str, text: str, note: str) -> str:
    text = f"{text[0].upper()}{text[1:]}"
    text = f"{text} — {place}." if place else f"{text}."
    return f"{text} {note}." if note else text
