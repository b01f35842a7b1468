"""Which networks an experiment measures; and all of RA in those that down-sample or are of pre-activation blocks.

Type 3 halves the resolution and doubles the channels in its ninth block, through a projection (figures 14 to 16, 26 to
30, 40 to 44). Its blocks before and after have Jacobians of other shapes: pairs of unequal shape are left out, and what
is said of the last half is said of what follows the projection. Section 1.1 speaks of pre-activation networks, and
theorem 3.1 is about them; the paper shows no measurement of one.
"""

from __future__ import annotations

from collections.abc import Callable

from resdyn.papers.case import Case
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.residual_alignment import accuracy, initialisation, ra1, ra2, ra3, ra4
from resdyn.papers.residual_alignment.networks import DATASETS, labelled, main_cases

Measure = Callable[[Lab, str, Case], None]
Networks = dict[Scale, list[tuple[str, str]]]
DOWNSAMPLING: Networks = {
    "tiny": [("type3", "digits")],
    "small": [("type3", data) for data in ("cifar10", "mnist", "fashion_mnist")],
    "paper": [("type3", data) for data in DATASETS],
}
PREACTIVATION: Networks = {
    "tiny": [("type4a_pre", "digits")],
    "small": [("type4a_pre", "mnist")],
    "paper": [(kind, data) for kind in ("type1_pre", "type2_pre", "type4a_pre") for data in DATASETS],
}


def of_main_cases(measure: Measure) -> Callable[[Lab], None]:
    """The experiment that measures every one of `main_cases`."""

    def run(lab: Lab) -> None:
        for label, case in lab.selected(main_cases(lab.scale)):
            measure(lab, label, case)

    return run


def run_type3(lab: Lab) -> None:
    """Type 3."""
    _measure_all(lab, DOWNSAMPLING)


def run_preactivation(lab: Lab) -> None:
    """Types 1, 2 and 4a of pre-activation blocks."""
    _measure_all(lab, PREACTIVATION)


def _measure_all(lab: Lab, networks: Networks) -> None:
    """What `ra1` to `ra4`, `initialisation` and `accuracy` measure; `untrained` is part of the keys before training."""
    for label, case in lab.selected(labelled(lab.scale, networks[lab.scale])):
        initialisation.measure(lab, f"{label}.untrained", case)
        for part in (accuracy, ra1, ra2, ra3, ra4):
            part.measure(lab, label, case)
