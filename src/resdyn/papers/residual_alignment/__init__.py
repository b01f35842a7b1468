"""Li and Papyan (2023), "Residual Alignment: Uncovering the Mechanisms of Residual Networks"."""

from pathlib import Path

from resdyn.papers.paper import Paper
from resdyn.papers.residual_alignment import (
    accuracy,
    boundary,
    classes,
    collapse,
    initialisation,
    ra1,
    ra2,
    ra3,
    ra4,
    skip,
    stochastic_depth,
    theorems,
)

SCRIPTS = {
    "ra1": ra1.run,
    "ra2": ra2.run,
    "ra3": ra3.run,
    "ra4": ra4.run,
    "initialisation": initialisation.run,
    "boundary": boundary.run,
    "classes": classes.run,
    "stochastic_depth": stochastic_depth.run,
    "skip": skip.run,
    "collapse": collapse.run,
    "theory": theorems.run,
    "accuracy": accuracy.run,
}
PAPER = Paper.of(Path(__file__).parent, SCRIPTS)
