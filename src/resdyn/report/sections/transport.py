"""A mean transport in the report: what a state becomes at the end of the network."""

from __future__ import annotations

import numpy as np
import xarray as xr

from resdyn.metrics.transport_store import transport_structures
from resdyn.report.sections.section import Section, built_in

SIZE = (
    ("transport_norm", "Root mean square stretch"),
    ("transport_growth_rate", "exponential growth per step back"),
    ("transport_growth_exponent", "exponent of a power"),
)
PARTS = (("transport_identity_share", "Identity in J"), ("transport_noise_share", "noise in the rest"))
RANKS = (
    ("transport_effective_rank", "Effective rank"),
    ("transport_stable_rank", "stable rank"),
    ("transport_resolved", "above the noise"),
)
OVERLAP = (("transport_overlap", "Mean squared cosine"),)


def _notes(ds: xr.Dataset) -> list[str]:
    """How the matrices are defined, and what to take more samples for."""
    notes = [_definition(ds)]
    noise = transport_structures(ds)["noise_share"].values
    if not np.isfinite(noise).any():
        notes.append("The errors of this transport are not known: a lens file holds none.")
    elif float(np.nanmax(noise)) > 0.5:
        depths = ds["depth"].values[noise > 0.5]
        notes.append(
            f"More than half of the squared norm of J − αI is error of the mean at depth "
            f"{', '.join(map(str, depths))}: its singular vectors there say little; fit on more samples."
        )
    return notes


def _lead(ds: xr.Dataset) -> str:
    """What this page measures, in one sentence."""
    n, data = int(ds.attrs.get("num_samples", 0)), ds.attrs.get("data")
    samples = f"{n} sample{'' if n == 1 else 's'}" + (f" of {data}" if data else "")
    where = "1 depth" if ds.sizes["depth"] == 1 else f"{ds.sizes['depth']} depths"
    return (
        f"How a change of the state at {where} of {ds.attrs.get('model', 'a model')} arrives at the end of the "
        f"network, to first order, as a mean over {samples}."
    )


def _definition(ds: xr.Dataset) -> str:
    to = ds.attrs.get("to")
    target = "the logits" if to == "logits" else "the last state" if to is None else f"the state at depth {to}"
    text = f"J_l is the {ds.attrs.get('definition') or 'mean derivative'}; the target is {target}"
    places = ds.attrs.get("positions") or {}
    if places.get("tokens"):
        text += f", samples have {places['tokens']} tokens"
        least, most = places.get("valid_least"), places.get("valid_most")
        if least is not None:
            text += f", of which {least if least == most else f'{least} to {most}'} count"
        if ds.attrs.get("reduction") == "sum" and not ds.attrs.get("average_targets"):
            text += "; effects on all of these are summed, so that norms grow with the length of samples"
    return f"{text}."


SECTIONS = (
    Section(
        "transport",
        "Transport",
        "What a state becomes at the end of the network",
        (
            built_in(
                "transport_size",
                "Stretch",
                "How far the mean transport from each depth stretches a change of the state: in its most stretched "
                "direction, on average over directions, and how much of a change arrives as itself (α = tr J / d). An "
                "identity has 1 everywhere. Bars are what the error of the mean can be at most.",
                SIZE,
            ),
            built_in(
                "transport_parts",
                "Identity, and noise in the rest",
                "Any residual stream carries the identity through, whatever it has learned: its share of |J|². Of what "
                "is left, the share that is error of the mean over samples: near 1 the rest is not known.",
                PARTS,
            ),
            built_in(
                "transport_spectrum",
                "Singular values of the rest",
                "Of J − αI. Chosen by depth, the dashed line is one draw of the error of the mean, made from the "
                "samples with random signs: what noise alone would show. Values below its first are not established.",
                (),
            ),
            built_in(
                "transport_ranks",
                "How many directions",
                "Effective rank (entropy) and stable rank of J − αI, and how many of its singular values are above the "
                "largest of the noise.",
                RANKS,
            ),
            built_in(
                "transport_overlap",
                "Do consecutive depths read the same directions?",
                "Mean squared cosine of the principal angles between the leading right singular vectors of J − αI at a "
                "depth and at the next: 1 where both read the same directions of the state, beside what as many random "
                "directions have.",
                OVERLAP,
            ),
        ),
        notes=_notes,
        lead=_lead,
    ),
)
