"""What a comparison draws: the overlays of the phenomena that its runs hold, under the headings of the report."""

from __future__ import annotations

from collections.abc import Sequence

from resdyn.errors import InputError
from resdyn.phenomena import Phenomenon, phenomena, phenomena_in
from resdyn.report.comparison.overlay import Overlay
from resdyn.report.comparison.runs import Run
from resdyn.report.sections.build import sections_of


def overlays_of(phenomenon: Phenomenon) -> tuple[Overlay, ...]:
    """The overlays of a phenomenon.

    Raises:
        InputError: It is registered with something else.
    """
    return phenomenon.load_each("overlays", Overlay, "resdyn.report.Overlay")


def comparison_outline(runs: Sequence[Run]) -> list[tuple[dict[str, str], tuple[Overlay, ...]]]:
    """(heading, overlays) of every phenomenon that any of the runs holds, in reading order.

    Raises:
        InputError: Two overlays of one name, or one that is not an identifier.
    """
    present = {phenomenon.name for run in runs for phenomenon in phenomena_in(run.ds)}
    rows = [(p, overlays_of(p)) for p in phenomena() if p.name in present]
    owners: dict[str, str] = {}
    for phenomenon, overlays in rows:
        for overlay in overlays:
            if not overlay.name.isidentifier() or overlay.name in owners:
                raise InputError(
                    f"{phenomenon.name}: got the overlay {overlay.name!r}, expected an identifier of its own"
                )
            owners[overlay.name] = phenomenon.name
    return [(_heading(phenomenon), overlays) for phenomenon, overlays in rows if overlays]


def _heading(phenomenon: Phenomenon) -> dict[str, str]:
    """That of the phenomenon's first section in the report, else its name."""
    sections = sections_of(phenomenon)
    if not sections:
        words = phenomenon.name.replace("_", " ").capitalize()
        return {"anchor": phenomenon.name, "short": words, "title": words}
    return {"anchor": sections[0].anchor, "short": sections[0].short, "title": sections[0].title}
