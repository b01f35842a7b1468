"""The verdicts on every property that a dataset allows, and one paragraph of them."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from resdyn.errors import InputError
from resdyn.metrics.properties.judged import Property, PropertyVerdict, find_verdict
from resdyn.metrics.summary import Metric, summarize
from resdyn.phenomena import Phenomenon, phenomena_in

ORDER = ("holds", "does not hold", "undecided")
OF_CAPTURES = ("data", "split", "kind", "position", "granularity", "probes")
OF_TRANSPORTS = ("to", "reduction", "average_targets", "channels", "positions")
FAMILIES = {"RA": "RA: Residual Alignment", "NC": "NC: Neural Collapse"}


def verdicts(ds: xr.Dataset, null: xr.Dataset | None = None) -> list[PropertyVerdict]:
    """Whether each property holds, by a stated rule, against chance and the same network untrained.

    "holds" needs the number to satisfy the rule by two standard errors, and to be beyond the untrained network and
    chance by as much as the rule asks; without an untrained network measured it is never said. "does not hold" needs
    no null. Where the errors, the null or the places (stages, parts) leave it open, the verdict is "undecided".

    Args:
        ds: A captured dataset.
        null: The same measurement of the same network untrained (see `resdyn.untrained_twin`).

    Returns:
        One verdict per property whose metrics are in the dataset, in the order of the phenomena, numbered ones first.

    Raises:
        InputError: `null` was measured otherwise: other data, probes' settings, kind or token.
    """
    if null is not None:
        check_null(ds, null)
    return judged(ds, summarize(ds), None if null is None else summarize(null))


def judged(ds: xr.Dataset, metrics: Sequence[Metric], nulls: Sequence[Metric] | None) -> list[PropertyVerdict]:
    """`verdicts` of metrics tables that are at hand."""
    found = [find_verdict(p, metrics, nulls) for q in phenomena_in(ds) for p in properties_of(q)]
    known = [verdict for verdict in found if verdict is not None]
    return sorted(known, key=lambda verdict: not verdict.of.name[-1].isdigit())  # RA1, RA2, ... stay together


def properties_of(phenomenon: Phenomenon) -> tuple[Property, ...]:
    """The properties of a phenomenon.

    Raises:
        InputError: It is registered with something else.
    """
    return phenomenon.load_each("properties", Property, "resdyn.metrics.Property")


def check_null(ds: xr.Dataset, null: xr.Dataset) -> None:
    """Refuse a null of another measurement.

    Raises:
        InputError: What differs, with both values.
    """
    for name in (*OF_CAPTURES, *OF_TRANSPORTS):
        own, other = ds.attrs.get(name), null.attrs.get(name)
        if own != other:
            raise InputError(
                f"got a null with {name} = {other}, expected {own} as of the network: capture both by the same command"
            )
    if ds.attrs.get("weights_hash") is not None and ds.attrs.get("weights_hash") == null.attrs.get("weights_hash"):
        raise InputError("got a null of the same weights; capture the untrained network (--null)")
    if not null.attrs.get("complete", True):
        raise InputError("got a null whose capture is not finished; the same command resumes it")


def conclusion(found: Sequence[PropertyVerdict], null: bool) -> str:
    """One paragraph to quote: what holds, what does not, and what is undecided.

    Args:
        found: What `verdicts` returned.
        null: Whether an untrained network was measured.

    Returns:
        Two to four sentences; empty without any verdict.
    """
    if not found:
        return ""
    shown, absent, open_ = ([v.of for v in found if v.verdict == verdict] for verdict in ORDER)
    said = [f"This network shows {_listed(shown)}."] if shown else []
    said += [f"{'It does' if shown else 'This network does'} not show {_listed(absent, 'or')}."] if absent else []
    said += [f"Undecided: {_listed(open_)}."] if open_ else []
    alone = "chance alone, since no untrained network was measured"
    beside = "the same network untrained and with chance" if null else alone
    said.append(f"Each verdict follows a stated rule with a margin of two standard errors and compares with {beside}.")
    families = [words for start, words in FAMILIES.items() if any(v.of.name.startswith(start) for v in found)]
    return " ".join([*said, *([f"{'; '.join(families)}."] if families else [])])


def _listed(properties: Sequence[Property], last: str = "and") -> str:
    words = [p.claim if p.name.islower() else f"{p.claim} ({p.name})" for p in properties]
    if len(words) == 1:
        return words[0]
    comma = "" if len(words) == 2 and not any("," in each for each in words) else ","
    return f"{', '.join(words[:-1])}{comma} {last} {words[-1]}"
